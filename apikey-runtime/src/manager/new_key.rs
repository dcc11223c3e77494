//! What is handed out of a key that was made just now.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use crate::key::KeyId;
use crate::record::KeyRecord;

/// A key that was made, or given a new secret, just now: the only place where its secret is ever
/// shown.
///
/// The secret is wiped from memory when this is dropped.
pub struct NewKey {
    record: KeyRecord,
    secret: SecretString,
}

/// The fields of a new key, for a store of the application's own: flask-api-key's `export()`,
/// without the secret.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct KeyExport {
    /// The label.
    pub label: String,
    /// The id, 22 characters.
    pub id: KeyId,
    /// The id in the form of a UUID.
    pub uuid: String,
    /// The digest of the whole key.
    pub digest: String,
}

impl NewKey {
    pub(super) fn new(record: KeyRecord, secret: SecretString) -> Self {
        Self { record, secret }
    }

    /// The key's id.
    #[must_use]
    pub fn id(&self) -> KeyId {
        self.record.id
    }

    /// The key's label.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.record.label
    }

    /// The whole key, to be shown to its owner once. It is stored nowhere.
    #[must_use]
    pub fn expose_secret(&self) -> &str {
        self.secret.expose_secret()
    }

    /// What the store keeps.
    #[must_use]
    pub fn record(&self) -> &KeyRecord {
        &self.record
    }

    /// Label, id and digest, for a store of the application's own.
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
