//! When a key becomes idle.

use std::time::Duration;

use super::{KeyRecord, KeyState};
use crate::clock::Timestamp;

impl KeyRecord {
    /// Returns when the key becomes idle that was last allowed at `last_used`; `None` if it never was.
    ///
    /// The time counts from the last use, or from the creation, the beginning of the validity or the time
    /// at which the key was enabled, if that is later.
    pub(crate) fn idle_at(&self, last_used: Option<Timestamp>, after: Duration) -> Timestamp {
        let times = [self.not_before, self.enabled_at, last_used];
        let base = times
            .into_iter()
            .flatten()
            .fold(self.created, Timestamp::max);
        base.checked_add(after).unwrap_or(Timestamp::MAX)
    }

    /// Returns the key's state at `now`, and its last use with that.
    pub(crate) fn state_with_use(
        &self,
        now: Timestamp,
        last_used: Option<Timestamp>,
        after: Duration,
    ) -> KeyState {
        match self.state_at(now) {
            KeyState::Active if now >= self.idle_at(last_used, after) => KeyState::Idle,
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::KeyId;

    const HOUR: Duration = Duration::from_hours(1);

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_millis(hours * 3_600_000)
    }

    fn record() -> KeyRecord {
        KeyRecord::new(KeyId::from_u128(1), "my_api", "label", "sha256$", at(0))
    }

    #[test]
    fn idleness_counts_from_the_latest_time() {
        let mut record = record();
        let after = 10 * HOUR;
        assert_eq!(record.idle_at(None, after), at(10));
        assert_eq!(record.idle_at(Some(at(3)), after), at(13));
        // Used before it was created, by a clock that was behind.
        assert_eq!(record.idle_at(Some(at(-3)), after), at(10));
        record.enabled_at = Some(at(5));
        assert_eq!(record.idle_at(Some(at(3)), after), at(15));
        record.not_before = Some(at(7));
        assert_eq!(record.idle_at(Some(at(3)), after), at(17));
        assert_eq!(record.idle_at(Some(at(8)), after), at(18));
        assert_eq!(record.idle_at(Some(Timestamp::MAX), after), Timestamp::MAX);
    }

    #[test]
    fn at_the_very_moment_a_key_is_idle_unless_another_state_comes_first() {
        let mut record = record();
        let state = |record: &KeyRecord, hour| record.state_with_use(at(hour), None, 10 * HOUR);
        assert_eq!(state(&record, 9), KeyState::Active);
        assert_eq!(state(&record, 10), KeyState::Idle);
        record.expires = Some(at(20));
        assert_eq!(state(&record, 19), KeyState::Idle);
        assert_eq!(state(&record, 20), KeyState::Expired);
        record.enabled = false;
        assert_eq!(state(&record, 20), KeyState::Disabled);
    }
}
