//! Telling how limits stand.

use std::time::Duration;

use super::super::{Admitted, Verifier};
use crate::denied::LimitStanding;
use crate::events::{Event, EventKind};
use crate::limit::Rule;
use crate::limiter::{Line, Plan};

/// At which parts of a quota it is told that they are used up, in percent.
const SHARES: [u8; 2] = [80, 100];

impl Verifier {
    /// Tells of a quota that a charge of so many units brought to one of [`SHARES`].
    pub(super) fn tell_of_shares(&self, admitted: &Admitted, line: &Line, units: u64) {
        let (Rule::Quota(quota), Some(verdict)) = (line.rule, line.verdict) else {
            return;
        };
        let used = quota.amount().saturating_sub(verdict.remaining);
        for share in crossed(quota.amount(), used.saturating_sub(units), used) {
            let limit = line.shown(admitted.key.facts().plan.as_deref());
            tracing::info!(key_id = %admitted.key.id(), limit, percent = share, "a quota is used up so far");
            self.teller.tell(|| Event {
                at: self.reader.clock.read().now,
                kind: EventKind::LimitReached {
                    limit: limit.to_owned(),
                    percent: share,
                },
                key_id: Some(admitted.key.id()),
                actor: None,
            });
        }
    }
}

/// Which of [`SHARES`] lie in what was used last.
fn crossed(amount: u64, before: u64, used: u64) -> impl Iterator<Item = u8> {
    SHARES.into_iter().filter(move |share| {
        let threshold = (u128::from(amount) * u128::from(*share)).div_ceil(100);
        u128::from(before) < threshold && threshold <= u128::from(used)
    })
}

/// How the limits stand that a request was counted against.
pub(crate) fn standings(admitted: &Admitted) -> Vec<LimitStanding> {
    standings_of(&admitted.bill, admitted.key.facts().plan.as_deref())
}

pub(super) fn standings_of(bill: &[Line], own: Option<&Plan>) -> Vec<LimitStanding> {
    bill.iter()
        .filter_map(|line| Some((line, line.verdict?)))
        .map(|(line, verdict)| LimitStanding {
            name: line.shown(own).to_owned(),
            rule: line.rule,
            remaining: verdict.remaining,
            reset: verdict.reset.map(Duration::from_micros),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_share_is_crossed_once() {
        for amount in [1, 2, 3, 5, 10, 99, 100, 1_000] {
            let all: Vec<_> = (1..=amount)
                .flat_map(|used| crossed(amount, used - 1, used))
                .collect();
            assert_eq!(all, [80, 100], "{amount}");
            assert_eq!(crossed(amount, 0, amount).count(), 2);
        }
        assert_eq!(crossed(10, 7, 8).collect::<Vec<_>>(), [80]);
        assert_eq!(crossed(10, 8, 9).count(), 0);
    }
}
