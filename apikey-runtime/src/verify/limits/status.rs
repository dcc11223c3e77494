//! Telling how limits stand.

use std::time::Duration;

use super::super::{Admitted, Verifier};
use crate::denied::LimitStatus;
use crate::events::{Event, EventKind};
use crate::limit::{LimitDecision, LimitRule};
use crate::limiter::{Line, Plan};

/// At which parts of a quota it is told that they are used up, in percent.
const SHARES: [u8; 2] = [80, 100];

impl Verifier {
    /// Tells of the quotas that a charge of so many units brought to one of [`SHARES`]: those at
    /// `places` in the bill, which then said `decisions`.
    pub(super) fn tell_of_shares(
        &self,
        admitted: &Admitted,
        places: &[usize],
        decisions: &[LimitDecision],
        units: u64,
    ) {
        for (at, decision) in places.iter().zip(decisions) {
            let line = &admitted.bill[*at];
            if let LimitRule::Quota(quota) = line.rule {
                let used = quota.amount().saturating_sub(decision.remaining);
                for share in crossed(quota.amount(), used.saturating_sub(units), used) {
                    self.tell_of_share(admitted, line, share);
                }
            }
        }
    }

    fn tell_of_share(&self, admitted: &Admitted, line: &Line, share: u8) {
        let limit = line.shown(admitted.key.facts().plan.as_deref());
        let id = admitted.key.id();
        tracing::info!(key_id = %id, limit, percent = share, "a quota is used up so far");
        self.teller.tell(|| Event {
            at: self.reader.clock.read().now,
            kind: EventKind::LimitReached {
                limit: limit.to_owned(),
                percent: share,
            },
            key_id: Some(id),
            actor: None,
        });
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
pub(crate) fn standings(admitted: &Admitted) -> Vec<LimitStatus> {
    standings_of(&admitted.bill, admitted.key.facts().plan.as_deref())
}

pub(super) fn standings_of(bill: &[Line], own: Option<&Plan>) -> Vec<LimitStatus> {
    let asked = bill
        .iter()
        .enumerate()
        .filter_map(|(at, line)| Some((at, line, line.decision?)));
    asked
        // Where several gates charged one limit, the last word on it comes first.
        .filter(|(at, line, _)| bill[..*at].iter().all(|earlier| earlier.name != line.name))
        .map(|(_, line, decision)| LimitStatus {
            name: line.shown(own).to_owned(),
            rule: line.rule,
            remaining: decision.remaining,
            reset: decision.reset.map(Duration::from_micros),
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
