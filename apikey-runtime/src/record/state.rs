//! The state of a key at a time.

use serde::{Deserialize, Serialize};

use super::KeyRecord;
use crate::clock::Timestamp;

/// The state of a key. If several apply, the first in this order counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum KeyState {
    /// Revoked permanently.
    Revoked,
    /// All keys of its owner are suspended.
    Suspended,
    /// Disabled.
    Disabled,
    /// Expired.
    Expired,
    /// Not valid yet.
    NotYetValid,
    /// Not used for the configured [time](crate::ConfigBuilder::idle_expiry). The state is computed from the
    /// last use, and not stored: see [`ApiKeyManager::state_of`](crate::ApiKeyManager::state_of).
    Idle,
    /// Usable.
    Active,
}

impl KeyRecord {
    /// Returns the key's state at a time: a [`Timestamp`] or a `SystemTime`.
    ///
    /// A record does not have the key's last use, so the state is never [`Idle`](KeyState::Idle): see
    /// [`ApiKeyManager::state_of`](crate::ApiKeyManager::state_of).
    ///
    /// ```
    /// # use apikey_runtime::{ApiKeyManager, KeyState, MemoryStore};
    /// # use std::time::{Duration, SystemTime};
    /// # actix_web::rt::System::new().block_on(async {
    /// # let manager = ApiKeyManager::builder().store(MemoryStore::new()).start().await?;
    /// let hour = Duration::from_secs(3600);
    /// let key = manager.create("ci").expires_in(hour).await?;
    /// let record = manager.get(key.id()).await?;
    /// assert_eq!(record.state_at(SystemTime::now()), KeyState::Active);
    /// assert_eq!(record.state_at(SystemTime::now() + 2 * hour), KeyState::Expired);
    /// # Ok::<(), apikey_runtime::Error>(())
    /// # }).unwrap();
    /// ```
    #[must_use]
    pub fn state_at(&self, at: impl Into<Timestamp>) -> KeyState {
        Validity::of(self).state(at.into())
    }

    /// Returns whether the key is live: neither revoked nor expired. Disabled, suspended and idle keys
    /// are live, and so are those that are not valid yet.
    #[must_use]
    pub fn is_live(&self, at: impl Into<Timestamp>) -> bool {
        let validity = Validity::of(self);
        !validity.revoked && at.into() < validity.expires
    }
}

/// The facts that a key's state depends on, in the form that a check evaluates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) revoked: bool,
    pub(crate) suspended: bool,
    pub(crate) enabled: bool,
    /// Whether the key is idle at the time in `expires`, and not expired.
    pub(crate) ends_idle: bool,
    /// [`Timestamp::MAX`] if the key does not expire.
    pub(crate) expires: Timestamp,
    /// [`Timestamp::MIN`] if the key was valid from the beginning.
    pub(crate) not_before: Timestamp,
}

impl Validity {
    pub(crate) fn of(record: &KeyRecord) -> Self {
        let owner = record.owner_state.unwrap_or_default();
        Self {
            // A store fills `revoked` too. If it does not, the key is revoked all the same.
            revoked: record.revoked.is_some() || owner.revokes(record.owner_revocations),
            suspended: owner.suspended,
            enabled: record.enabled,
            ends_idle: false,
            expires: record.expires.unwrap_or(Timestamp::MAX),
            not_before: record.not_before.unwrap_or(Timestamp::MIN),
        }
    }

    pub(crate) fn state(&self, now: Timestamp) -> KeyState {
        if self.revoked {
            KeyState::Revoked
        } else if self.suspended {
            KeyState::Suspended
        } else if !self.enabled {
            KeyState::Disabled
        } else if now >= self.expires {
            match self.ends_idle {
                true => KeyState::Idle,
                false => KeyState::Expired,
            }
        } else if now < self.not_before {
            KeyState::NotYetValid
        } else {
            KeyState::Active
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::KeyId;
    use crate::record::Revocation;

    fn record() -> KeyRecord {
        KeyRecord::new(
            KeyId::from_u128(1),
            "my_api",
            "label",
            "sha256$secret-digest",
            Timestamp::from_millis(0),
        )
    }

    /// E-02.
    #[test]
    fn e02_at_the_very_moment_of_its_end_a_key_is_expired() {
        let mut record = record();
        record.expires = Some(Timestamp::from_millis(10));
        record.not_before = Some(Timestamp::from_millis(5));
        let state = |at| Validity::of(&record).state(Timestamp::from_millis(at));
        assert_eq!(state(4), KeyState::NotYetValid);
        assert_eq!(state(5), KeyState::Active);
        assert_eq!(state(9), KeyState::Active);
        assert_eq!(state(10), KeyState::Expired);
    }

    /// A revocation time in the future, which SQL by hand could write, revokes now.
    #[test]
    fn revoked_outranks_every_other_state() {
        let mut record = record();
        record.revoked = Some(Revocation {
            at: Timestamp::MAX,
            reason: None,
        });
        record.enabled = false;
        record.expires = Some(Timestamp::from_millis(0));
        assert_eq!(
            Validity::of(&record).state(Timestamp::from_millis(1)),
            KeyState::Revoked
        );
    }
}
