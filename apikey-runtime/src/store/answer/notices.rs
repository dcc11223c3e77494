//! Checks of claimed notices.

use std::collections::HashSet;

use super::corrupt;
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::store::ExpiryNotice;

/// Returns the notices that a store claimed.
///
/// # Errors
///
/// Returns [`StoreError::Corrupt`] if there are more than `limit`, or if one is planned for later than `now`, is
/// of a key that another one is of, or is not in order.
pub(crate) fn notices_of(
    now: Timestamp,
    limit: u32,
    claimed: Vec<ExpiryNotice>,
) -> Result<Vec<ExpiryNotice>, StoreError> {
    let mut seen = HashSet::with_capacity(claimed.len());
    let mut last = None;
    for notice in &claimed {
        let reason = if seen.len() >= limit as usize {
            "the store claimed more notices than it was asked to"
        } else if !seen.insert(notice.key) {
            "the store claimed two notices of it"
        } else if notice.planned.is_some_and(|planned| planned > now) {
            "the store claimed its notice before the time that it is planned for"
        } else if notice.planned < last {
            "the store did not claim its notice in order"
        } else {
            last = notice.planned;
            continue;
        };
        return Err(corrupt(&notice.key, reason));
    }
    Ok(claimed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::KeyId;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn notice(number: u128, planned: Option<i64>) -> ExpiryNotice {
        ExpiryNotice::new(KeyId::from_u128(number), at(100), at(0)).with_planned(planned.map(at))
    }

    fn reason(limit: u32, claimed: &[ExpiryNotice]) -> Option<String> {
        match notices_of(at(50), limit, claimed.to_vec()) {
            Ok(answer) => {
                assert_eq!(answer, claimed);
                None
            }
            Err(StoreError::Corrupt { reason, .. }) => Some(reason),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn only_notices_that_were_asked_for_are_an_answer() {
        let claimed = [
            notice(3, None),
            notice(1, None),
            notice(4, Some(7)),
            notice(2, Some(7)),
            notice(5, Some(50)),
        ];
        assert_eq!(reason(5, &claimed), None);
        assert_eq!(reason(1, &[]), None);
        let cases = [
            (4, claimed.to_vec(), "more notices"),
            (5, vec![notice(1, None), notice(1, Some(7))], "two notices"),
            (5, vec![notice(1, Some(51))], "before the time"),
            (5, vec![notice(1, Some(7)), notice(2, Some(6))], "in order"),
            (5, vec![notice(1, Some(7)), notice(2, None)], "in order"),
        ];
        for (limit, claimed, expected) in cases {
            let reason = reason(limit, &claimed);
            assert!(
                reason.is_some_and(|reason| reason.contains(expected)),
                "{expected}"
            );
        }
    }
}
