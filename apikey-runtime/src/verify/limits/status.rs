//! The status of limits, and events of used-up quotas.

use super::super::{Allowed, Verifier};
use crate::events::{Event, EventKind};
use crate::limit::{LimitDecision, LimitRule, LimitStatus};
use crate::limiter::{AppliedLimit, Plan};

/// The shares of a quota whose use emits an event, in percent.
const THRESHOLDS: [u8; 2] = [80, 100];

impl Verifier {
    /// Emits an event for each quota that a charge of `units` brought to one of [`THRESHOLDS`].
    /// `decisions` belong to the applied limits at `positions`.
    pub(super) fn emit_thresholds(
        &self,
        allowed: &Allowed,
        positions: &[usize],
        decisions: &[LimitDecision],
        units: u64,
    ) {
        for (at, decision) in positions.iter().zip(decisions) {
            let limit = &allowed.applied[*at];
            if let LimitRule::Quota(quota) = limit.rule {
                let used = quota.amount().saturating_sub(decision.remaining);
                for share in crossed_thresholds(quota.amount(), used.saturating_sub(units), used) {
                    self.emit_threshold(allowed, limit, share);
                }
            }
        }
    }

    fn emit_threshold(&self, allowed: &Allowed, limit: &AppliedLimit, share: u8) {
        let limit = limit.display_name(allowed.key.record().plan.as_deref());
        let id = allowed.key.id();
        tracing::info!(key_id = %id, limit = &*limit, percent = share, "a share of a quota is used up");
        self.events.emit(|| Event {
            at: self.shared.now().now,
            kind: EventKind::LimitReached {
                limit: limit.clone().into_owned(),
                percent: share,
            },
            key_id: Some(id),
            owner: None,
            actor: None,
        });
    }
}

/// Returns the [`THRESHOLDS`] that the last charge crossed.
fn crossed_thresholds(amount: u64, before: u64, used: u64) -> impl Iterator<Item = u8> {
    THRESHOLDS.into_iter().filter(move |share| {
        let threshold = (u128::from(amount) * u128::from(*share)).div_ceil(100);
        u128::from(before) < threshold && threshold <= u128::from(used)
    })
}

/// Returns the status of the limits that a request was charged against.
pub(crate) fn limit_statuses(allowed: &Allowed) -> Vec<LimitStatus> {
    statuses_of(&allowed.applied, allowed.key.record().plan.as_deref())
}

pub(super) fn statuses_of(applied: &[AppliedLimit], own: Option<&Plan>) -> Vec<LimitStatus> {
    let decided = applied
        .iter()
        .enumerate()
        .filter_map(|(at, limit)| Some((at, limit, limit.decision?)));
    decided
        // If several guards charged a limit, its latest state comes first.
        .filter(|(at, limit, _)| !applied[..*at].iter().any(|earlier| earlier.is_same(limit)))
        .map(|(_, limit, decision)| LimitStatus {
            name: limit.display_name(own).into_owned(),
            rule: limit.rule,
            remaining: decision.remaining,
            reset_after: decision.reset_after,
            allowed: decision.allowed,
            retry_after: decision.retry_after,
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
                .flat_map(|used| crossed_thresholds(amount, used - 1, used))
                .collect();
            assert_eq!(all, [80, 100], "{amount}");
            assert_eq!(crossed_thresholds(amount, 0, amount).count(), 2);
        }
        assert_eq!(crossed_thresholds(10, 7, 8).collect::<Vec<_>>(), [80]);
        assert_eq!(crossed_thresholds(10, 8, 9).count(), 0);
    }
}
