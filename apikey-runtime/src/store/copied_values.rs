//! Values of a copy that grow while servers use a store: the later or larger of two stays.

#[cfg(any(feature = "sqlite", feature = "postgres"))]
use std::collections::HashMap;

use super::copy_rules::CopyAction;
use super::{CopiedCounter, CopyOutcome, MAX_NETWORKS, NetworkUse, SecretUse, UsageRow};
use crate::clock::Timestamp;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
use crate::key::KeyId;
use crate::limit::CounterState;

/// How many secrets of a key have a last use.
const MAX_SECRETS: usize = 2;

/// A value of a key that grows while servers use a store.
pub(super) trait GrowingValue: PartialEq {
    /// What grows.
    type Size: Ord;

    /// Returns what is greater for the later or larger one of two values of an item.
    fn size(&self) -> Self::Size;

    /// Returns the key.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    fn key(&self) -> KeyId;

    /// Returns the name of the item in a report.
    fn name(&self) -> String;

    /// Returns whether a store that has the values `of_key` does not keep this one beside them. Of some values, it keeps the latest of
    /// a key.
    fn is_former(&self, of_key: &[&Self]) -> bool {
        let _ = of_key;
        false
    }
}

/// The `tat` of a rate, the period of a quota or the latest part of its window, and the units that are used in all.
type CounterSize = (i64, i64, Option<i64>, u128);

impl GrowingValue for CopiedCounter {
    type Size = CounterSize;

    fn size(&self) -> CounterSize {
        let CounterState {
            tat,
            period,
            used,
            parts,
        } = &self.state;
        let latest = parts.last_key_value().map(|(number, _)| *number);
        let parts = parts.values().copied().map(u128::from);
        let used = u128::from(*used) + parts.sum::<u128>();
        (*tat, *period, latest, used)
    }

    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    fn key(&self) -> KeyId {
        self.key
    }

    fn name(&self) -> String {
        format!("the limit counter {} of {}", self.name, self.key)
    }
}

impl GrowingValue for UsageRow {
    /// The requests, and the cost.
    type Size = (u64, u64);

    fn size(&self) -> (u64, u64) {
        (self.requests, self.cost)
    }

    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    fn key(&self) -> KeyId {
        self.key
    }

    fn name(&self) -> String {
        let hour = Timestamp::from_millis(self.hour.saturating_mul(3_600_000));
        let (route, outcome) = (&self.route, self.outcome.code());
        format!("the usage of {} at {hour} {route} {outcome}", self.key)
    }
}

impl GrowingValue for SecretUse {
    type Size = Timestamp;

    fn size(&self) -> Timestamp {
        self.at
    }

    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    fn key(&self) -> KeyId {
        self.key
    }

    fn name(&self) -> String {
        format!("the last use of secret {} of {}", self.rotations, self.key)
    }

    fn is_former(&self, of_key: &[&Self]) -> bool {
        let later = of_key.iter().filter(|one| one.rotations > self.rotations);
        later.count() >= MAX_SECRETS
    }
}

impl GrowingValue for NetworkUse {
    type Size = Timestamp;

    fn size(&self) -> Timestamp {
        self.at
    }

    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    fn key(&self) -> KeyId {
        self.key
    }

    fn name(&self) -> String {
        format!("the last use of {} from {}", self.key, self.network)
    }

    fn is_former(&self, of_key: &[&Self]) -> bool {
        let later = of_key.iter().filter(|one| one.at >= self.at);
        later.count() >= MAX_NETWORKS
    }
}

impl CopyOutcome {
    /// Counts a value, and returns whether it is written: if `present` is missing, or is earlier or smaller. `of_key` are the
    /// values of its key that are there, if [only the latest](GrowingValue::is_former) are kept.
    pub(super) fn count_value<T: GrowingValue>(
        &mut self,
        present: Option<&T>,
        of_key: &[&T],
        copied: &T,
    ) -> bool {
        let action = match present {
            None if copied.is_former(of_key) => CopyAction::Keep,
            None => CopyAction::Write,
            Some(present) if present == copied => CopyAction::Skip,
            Some(present) if present.size() < copied.size() => CopyAction::Write,
            Some(_) => CopyAction::Keep,
        };
        self.count(action, || copied.name())
    }
}

/// Counts `items`, and returns those that are written. `present` are the items that are there, with the others of their keys if only
/// the latest are kept.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(super) fn grown_values<'i, T: GrowingValue>(
    items: &'i [T],
    present: &[T],
    identity: impl Fn(&T) -> String,
    outcome: &mut CopyOutcome,
) -> Vec<&'i T> {
    let (mut held, mut of_keys) = (HashMap::new(), HashMap::<KeyId, Vec<&T>>::new());
    for one in present {
        held.insert(identity(one), one);
        of_keys.entry(one.key()).or_default().push(one);
    }
    let is_written = |item: &&T| {
        let of_key = of_keys.get(&item.key());
        let present = held.get(&identity(item)).copied();
        outcome.count_value(present, of_key.map_or(&[], Vec::as_slice), *item)
    };
    items.iter().filter(is_written).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(not(any(feature = "sqlite", feature = "postgres")))]
    use crate::key::KeyId;
    use crate::store::Outcome;

    fn is_written<T: GrowingValue>(present: &T, copied: &T) -> bool {
        CopyOutcome::default().count_value(Some(present), &[], copied)
    }

    #[test]
    fn the_later_window_of_a_counter_stays_and_then_the_larger_count() {
        let counter = |period, used, parts: &[(i64, u64)]| {
            let mut state = CounterState::default();
            (state.period, state.used) = (period, used);
            state.parts = parts.iter().copied().collect();
            CopiedCounter::new(KeyId::from_u128(1), "a", state)
        };
        for (smaller, larger) in [
            (counter(0, 4, &[]), counter(0, 5, &[])),
            (counter(6, 9, &[]), counter(7, 1, &[])),
            (counter(0, 0, &[(5, 2)]), counter(0, 0, &[(5, 3)])),
            (counter(0, 0, &[(4, 9), (5, 2)]), counter(0, 0, &[(6, 1)])),
        ] {
            assert!(is_written(&smaller, &larger), "{larger:?}");
            assert!(!is_written(&larger, &smaller), "{smaller:?}");
        }
        let mut rate = counter(0, 0, &[]);
        rate.state.tat = 5;
        assert!(is_written(&counter(0, 0, &[]), &rate));
    }

    #[test]
    fn more_requests_and_later_uses_are_written() {
        let key = KeyId::from_u128(1);
        let row = |requests, cost| {
            let mut row = UsageRow::new(key, "/", 3, Outcome::Allowed);
            (row.requests, row.cost) = (requests, cost);
            row
        };
        assert!(is_written(&row(2, 9), &row(3, 1)));
        assert!(is_written(&row(2, 1), &row(2, 2)));
        assert!(!is_written(&row(3, 1), &row(2, 9)));
        let used = |rotations, at| SecretUse::new(key, rotations, Timestamp::from_millis(at), None);
        assert!(is_written(&used(0, 1), &used(0, 2)));
        assert!(!is_written(&used(0, 2), &used(0, 1)));
        let mut outcome = CopyOutcome::default();
        let (first, second) = (used(1, 5), used(2, 6));
        assert!(!outcome.count_value(None, &[&first, &second], &used(0, 9)));
        assert!(outcome.count_value(None, &[&first], &used(0, 9)));
        assert_eq!(outcome.kept.len(), 1);
    }
}
