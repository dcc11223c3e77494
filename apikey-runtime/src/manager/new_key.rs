//! New keys, with their secret.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

use crate::key::KeyId;
use crate::record::KeyRecord;

/// A key that was just created or rotated, with its secret, which cannot be read again later.
///
/// The secret is zeroized when this is dropped.
pub struct NewKey {
    record: KeyRecord,
    secret: SecretString,
}

/// The fields of a new key for the application's own database: flask-api-key's `export()`, without
/// the secret. It holds the digest, so it does not implement `Serialize`; to send a key, use
/// [`KeyRecord::view`].
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyExport {
    /// The label.
    pub label: String,
    /// The id, 22 characters long.
    pub id: KeyId,
    /// The id as a UUID.
    pub uuid: String,
    /// The digest of the whole key.
    pub digest: String,
}

impl NewKey {
    pub(super) fn new(record: KeyRecord, secret: SecretString) -> Self {
        Self { record, secret }
    }

    /// Returns the key's id.
    #[must_use]
    pub fn id(&self) -> KeyId {
        self.record.id
    }

    /// Returns the key's label.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.record.label
    }

    /// Returns the whole key. Show it to its owner once: it is not stored.
    #[must_use]
    pub fn expose_secret(&self) -> &str {
        self.secret.expose_secret()
    }

    /// Returns the key's record, as the store keeps it.
    #[must_use]
    pub fn record(&self) -> &KeyRecord {
        &self.record
    }

    /// Returns the label, id and digest, for the application's own database.
    #[must_use]
    pub fn export(&self) -> KeyExport {
        KeyExport {
            label: self.record.label.clone(),
            id: self.record.id,
            uuid: self.record.id.to_uuid(),
            digest: self.record.digest.clone(),
        }
    }
}

impl fmt::Debug for NewKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewKey")
            .field("record", &self.record)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for KeyExport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyExport")
            .field("label", &self.label)
            .field("id", &self.id)
            .field("uuid", &self.uuid)
            .finish_non_exhaustive()
    }
}
