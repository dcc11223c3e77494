//! What a store keeps of a key.

use std::fmt;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::clock::{ClockReading, Timestamp};
use crate::key::KeyId;
use crate::limit::Limit;
use crate::scope::Scopes;

/// Free data about a key, of the application's own.
pub type Metadata = serde_json::Map<String, serde_json::Value>;

/// A key as its store keeps it: everything but the secret.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct KeyRecord {
    /// Names the key; public.
    pub id: KeyId,
    /// The prefix that the key's text starts with.
    pub prefix: String,
    /// A name for people, such as `MY_FIRST_KEY`; need not be unique.
    pub label: String,
    /// Whom the key belongs to, in the application's own terms.
    pub owner: Option<String>,
    /// The digest of the whole key, as its [`KeyHasher`](crate::KeyHasher) made it.
    pub digest: String,
    /// The digest before the last rotation, and until when it is good too.
    pub previous: Option<PreviousDigest>,
    /// What the key may do.
    pub scopes: Scopes,
    /// Free data of the application's own.
    pub metadata: Metadata,
    /// A family of keys, such as `live` or `test`.
    pub environment: Option<String>,
    /// The networks from which the key may be used; none is all.
    #[serde(default)]
    pub networks: Vec<IpNet>,
    /// The methods that the key is good for, in capital letters; none is all. `GET` includes
    /// `HEAD`.
    #[serde(default)]
    pub methods: Vec<String>,
    /// What the key is limited to; none is nothing of its own. No two have one name.
    #[serde(default)]
    pub limits: Vec<Limit>,
    /// When the key was made.
    pub created: Timestamp,
    /// From when on the key is refused; at this very moment it is.
    pub expires: Option<Timestamp>,
    /// Before when the key is refused.
    pub not_before: Option<Timestamp>,
    /// When and why the key was revoked. Never goes back to `None`.
    pub revoked: Option<Revocation>,
    /// Whether the key is switched on.
    pub enabled: bool,
    /// Counts the changes of this record; a new one has 1.
    pub version: u64,
}

/// The digest that a rotation left behind.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviousDigest {
    /// The digest of the whole old key.
    pub digest: String,
    /// From when on the old key is refused; at this very moment it is.
    pub until: Timestamp,
}

/// When and why a key was revoked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// When.
    pub at: Timestamp,
    /// Why, where that was said.
    pub reason: Option<String>,
}

/// In what state a key is. Where several apply, the first of this order is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum KeyState {
    /// Revoked, for good.
    Revoked,
    /// Switched off.
    Disabled,
    /// Its time is over.
    Expired,
    /// Its time has not come.
    NotYetValid,
    /// Good for use.
    Active,
}

impl KeyRecord {
    /// A new record: no scope, no owner, no end, switched on, version 1.
    #[must_use]
    pub fn new(
        id: KeyId,
        prefix: impl Into<String>,
        label: impl Into<String>,
        digest: impl Into<String>,
        created: Timestamp,
    ) -> Self {
        Self {
            id,
            prefix: prefix.into(),
            label: label.into(),
            owner: None,
            digest: digest.into(),
            previous: None,
            scopes: Scopes::none(),
            metadata: Metadata::new(),
            environment: None,
            networks: Vec::new(),
            methods: Vec::new(),
            limits: Vec::new(),
            created,
            expires: None,
            not_before: None,
            revoked: None,
            enabled: true,
            version: 1,
        }
    }

    /// The key's state at the time of `reading`.
    #[must_use]
    pub fn state(&self, reading: ClockReading) -> KeyState {
        Validity::of(self).state(reading.now)
    }
}

impl fmt::Debug for KeyRecord {
    /// Without the digests, which are of no use to a reader of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRecord")
            .field("id", &self.id)
            .field("prefix", &self.prefix)
            .field("label", &self.label)
            .field("owner", &self.owner)
            .field("scopes", &self.scopes)
            .field("environment", &self.environment)
            .field("networks", &self.networks)
            .field("methods", &self.methods)
            .field("limits", &self.limits)
            .field("created", &self.created)
            .field("expires", &self.expires)
            .field("not_before", &self.not_before)
            .field("revoked", &self.revoked)
            .field("enabled", &self.enabled)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for PreviousDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PreviousDigest")
            .field("until", &self.until)
            .finish_non_exhaustive()
    }
}

/// Whether a network is one of IPv4 in IPv6's clothes. Addresses of requests are taken out of them,
/// so it would never match.
pub(crate) fn is_mapped(network: &IpNet) -> bool {
    match network {
        IpNet::V4(_) => false,
        IpNet::V6(network) => {
            network.prefix_len() >= 96 && network.addr().to_ipv4_mapped().is_some()
        }
    }
}

/// The facts that a key's state hangs on, in the form in which a request judges them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) revoked: bool,
    pub(crate) enabled: bool,
    /// [`Timestamp::MAX`] is never reached.
    pub(crate) expires: Timestamp,
    /// [`Timestamp::MIN`] is long past.
    pub(crate) not_before: Timestamp,
}

impl Validity {
    pub(crate) fn of(record: &KeyRecord) -> Self {
        Self {
            revoked: record.revoked.is_some(),
            enabled: record.enabled,
            expires: record.expires.unwrap_or(Timestamp::MAX),
            not_before: record.not_before.unwrap_or(Timestamp::MIN),
        }
    }

    pub(crate) fn state(&self, now: Timestamp) -> KeyState {
        if self.revoked {
            KeyState::Revoked
        } else if !self.enabled {
            KeyState::Disabled
        } else if now >= self.expires {
            KeyState::Expired
        } else if now < self.not_before {
            KeyState::NotYetValid
        } else {
            KeyState::Active
        }
    }
}

/// A change of some columns of a record; `None` leaves a column as it is.
///
/// There is no way to clear `revoked`: a late writer cannot bring a revoked key back.
#[derive(Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct KeyPatch {
    /// The version that the record must still have; `None` takes any.
    pub expected_version: Option<u64>,
    /// See [`KeyRecord::label`].
    pub label: Option<String>,
    /// See [`KeyRecord::owner`].
    pub owner: Option<Option<String>>,
    /// See [`KeyRecord::scopes`].
    pub scopes: Option<Scopes>,
    /// See [`KeyRecord::metadata`].
    pub metadata: Option<Metadata>,
    /// See [`KeyRecord::environment`].
    pub environment: Option<Option<String>>,
    /// See [`KeyRecord::networks`].
    pub networks: Option<Vec<IpNet>>,
    /// See [`KeyRecord::methods`].
    pub methods: Option<Vec<String>>,
    /// See [`KeyRecord::limits`].
    pub limits: Option<Vec<Limit>>,
    /// See [`KeyRecord::expires`].
    pub expires: Option<Option<Timestamp>>,
    /// See [`KeyRecord::not_before`].
    pub not_before: Option<Option<Timestamp>>,
    /// See [`KeyRecord::enabled`].
    pub enabled: Option<bool>,
    /// See [`KeyRecord::digest`]; set by a rotation.
    pub digest: Option<String>,
    /// See [`KeyRecord::previous`]; set by a rotation.
    pub previous: Option<Option<PreviousDigest>>,
}

impl KeyPatch {
    /// A patch that changes nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes the patch into `record` and counts its version up: what a store does that keeps whole
    /// records.
    pub fn apply(&self, record: &mut KeyRecord) {
        fn put<T: Clone>(from: &Option<T>, into: &mut T) {
            if let Some(value) = from {
                into.clone_from(value);
            }
        }
        put(&self.label, &mut record.label);
        put(&self.owner, &mut record.owner);
        put(&self.scopes, &mut record.scopes);
        put(&self.metadata, &mut record.metadata);
        put(&self.environment, &mut record.environment);
        put(&self.networks, &mut record.networks);
        put(&self.methods, &mut record.methods);
        put(&self.limits, &mut record.limits);
        put(&self.expires, &mut record.expires);
        put(&self.not_before, &mut record.not_before);
        put(&self.enabled, &mut record.enabled);
        put(&self.digest, &mut record.digest);
        put(&self.previous, &mut record.previous);
        record.version = record.version.saturating_add(1);
    }
}

impl fmt::Debug for KeyPatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyPatch")
            .field("expected_version", &self.expected_version)
            .field("label", &self.label)
            .field("owner", &self.owner)
            .field("scopes", &self.scopes)
            .field("environment", &self.environment)
            .field("networks", &self.networks)
            .field("methods", &self.methods)
            .field("limits", &self.limits)
            .field("expires", &self.expires)
            .field("not_before", &self.not_before)
            .field("enabled", &self.enabled)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    /// A time of revocation in the future, as SQL by hand could write it, revokes now.
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

    /// O-01.
    #[test]
    fn o01_debug_shows_no_digest() {
        let mut record = record();
        record.previous = Some(PreviousDigest {
            digest: "secret-digest".into(),
            until: Timestamp::MAX,
        });
        let patch = KeyPatch {
            digest: Some("secret-digest".into()),
            previous: Some(record.previous.clone()),
            ..KeyPatch::new()
        };
        let shown = format!("{record:?} {:?} {patch:?}", record.previous);
        assert!(!shown.contains("secret-digest"), "{shown}");
    }
}
