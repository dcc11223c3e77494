//! What a store keeps of a key.

mod patch;
mod state;

use std::fmt;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::key::KeyId;
use crate::limit::Limit;
use crate::scope::Scopes;

pub use patch::KeyPatch;
pub use state::KeyState;
pub(crate) use state::Validity;

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
