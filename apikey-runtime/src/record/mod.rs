//! Records: what a store keeps of a key.

mod idle;
mod metadata;
mod owner;
mod patch;
mod state;
mod view;

use std::fmt;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::key::KeyId;
use crate::limit::Limit;
use crate::scope::Scopes;

pub(crate) use metadata::{MAX_READABLE_DEPTH, check_readable, depth, dismantle};
pub use owner::{OwnerRevocation, OwnerState};
pub use patch::KeyPatch;
pub use state::KeyState;
pub(crate) use state::Validity;
pub use view::KeyView;

/// Data about a key that the application defines.
pub type Metadata = serde_json::Map<String, serde_json::Value>;

/// A key as its store keeps it: everything but the secret.
///
/// It holds the digest, so it does not implement `Serialize`: [`view`](Self::view) returns what may be
/// sent, and a store writes the fields in its own format.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct KeyRecord {
    /// The key's public id.
    pub id: KeyId,
    /// The prefix of the key's text.
    pub prefix: String,
    /// A name for people, such as `MY_FIRST_KEY`. It need not be unique.
    pub label: String,
    /// What the key is for, in words for people.
    pub description: Option<String>,
    /// The owner of the key, in the application's own terms.
    pub owner: Option<String>,
    /// The digest of the whole key, as its [`KeyHasher`](crate::key::KeyHasher) created it.
    pub digest: String,
    /// The digest before the last rotation, and how long it stays valid.
    pub previous: Option<PreviousDigest>,
    /// What the key may do.
    pub scopes: Scopes,
    /// Data that the application defines.
    pub metadata: Metadata,
    /// The environment of the key, such as `live` or `test`.
    pub environment: Option<String>,
    /// The networks from which the key may be used; empty allows all.
    pub networks: Vec<IpNet>,
    /// The methods that the key may be used for, in capital letters; empty allows all. `GET`
    /// includes `HEAD`.
    pub methods: Vec<String>,
    /// The key's own limits, with unique names; may be empty.
    pub limits: Vec<Limit>,
    /// When the key was created.
    pub created: Timestamp,
    /// The actor that created the key, if one was named.
    pub created_by: Option<String>,
    /// The actor that made the last change of this record, if one was named. The store sets it with
    /// each change.
    pub updated_by: Option<String>,
    /// Expiry (exclusive): the key is denied at and after this time.
    pub expires: Option<Timestamp>,
    /// The key is denied before this time.
    pub not_before: Option<Timestamp>,
    /// When and why the key was revoked. Never returns to `None`.
    pub revoked: Option<Revocation>,
    /// Whether the key is enabled.
    pub enabled: bool,
    /// When the key was last [enabled](crate::ApiKeyManager::enable), by the clock of the node that did it, or of the
    /// store if a statement by hand did it; `None` if it never was. Idleness counts from then at the earliest.
    pub enabled_at: Option<Timestamp>,
    /// The number of changes of this record, plus 1; a new record has 1.
    pub version: u64,
    /// How many times the secret was replaced. The store increments it whenever the digest changes.
    pub rotations: u64,
    /// How many times all keys of the owner had been revoked when this key was created, or came to
    /// this owner. The store sets it: `insert` ignores this value. 0 if the key does not have an
    /// owner.
    pub owner_revocations: u64,
    /// The owner's state when the record was read. `None` if the key does not have an owner, or the
    /// store does not keep [owners](crate::store::OwnerStore). `insert` ignores it.
    pub owner_state: Option<OwnerState>,
}

/// The digest that a rotation replaced.
#[derive(Clone, PartialEq, Eq)]
pub struct PreviousDigest {
    /// The digest of the whole old key.
    pub digest: String,
    /// Expiry (exclusive): the old key is denied at and after this time.
    pub until: Timestamp,
}

/// When and why a key was revoked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// The time of the revocation.
    pub at: Timestamp,
    /// The reason, if given.
    pub reason: Option<String>,
}

impl KeyRecord {
    /// Creates an enabled record of version 1 without scopes, owner or expiry.
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
            description: None,
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
            created_by: None,
            updated_by: None,
            expires: None,
            not_before: None,
            revoked: None,
            enabled: true,
            enabled_at: None,
            version: 1,
            rotations: 0,
            owner_revocations: 0,
            owner_state: None,
        }
    }
}

impl fmt::Debug for KeyRecord {
    /// Omits the digests, which are of no use in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRecord")
            .field("id", &self.id)
            .field("prefix", &self.prefix)
            .field("label", &self.label)
            .field("description", &self.description)
            .field("owner", &self.owner)
            .field("scopes", &self.scopes)
            .field("environment", &self.environment)
            .field("networks", &self.networks)
            .field("methods", &self.methods)
            .field("limits", &self.limits)
            .field("created", &self.created)
            .field("created_by", &self.created_by)
            .field("updated_by", &self.updated_by)
            .field("expires", &self.expires)
            .field("not_before", &self.not_before)
            .field("revoked", &self.revoked)
            .field("enabled", &self.enabled)
            .field("enabled_at", &self.enabled_at)
            .field("version", &self.version)
            .field("rotations", &self.rotations)
            .field("owner_revocations", &self.owner_revocations)
            .field("owner_state", &self.owner_state)
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
