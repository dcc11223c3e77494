//! Errors, in words for the person who has to fix them.

use std::error::Error as StdError;

use crate::key_id::KeyId;

/// The source of an error, kept whole.
pub type BoxError = Box<dyn StdError + Send + Sync + 'static>;

/// An error of the manager or of the configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting cannot work. The message names it and says what to write.
    #[error("configuration: {0}")]
    Config(String),
    /// An argument cannot work. The message names it and says what to write.
    #[error("{0}")]
    InvalidArgument(String),
    /// A key with this id does not exist.
    #[error("a key with the id `{0}` does not exist; `list` names those that do")]
    NotFound(KeyId),
    /// The key is permanently revoked; create a new one.
    #[error("the key `{0}` is permanently revoked; create a new one")]
    Revoked(KeyId),
    /// The system's random generator failed; nothing was stored.
    #[error("the system's random generator failed; a key was not created")]
    Random(#[source] BoxError),
    /// The hasher failed; nothing was stored.
    #[error("the hasher failed; a key was not created")]
    Hasher(#[source] BoxError),
    /// The store failed.
    #[error("the key store failed: {0}")]
    Store(#[from] StoreError),
    /// A manager is already installed for the whole process.
    #[error(
        "a manager is installed already; `install` once, or use `init_app` for one manager per app"
    )]
    AlreadyInstalled,
    /// The manager was shut down.
    #[error("the manager was shut down; start a new one")]
    ShutDown,
}

/// An error of a store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The record's id is taken, or the record changed since it was read.
    #[error("the record already exists, or was changed since it was read; read it again")]
    Conflict,
    /// A record with this id does not exist.
    #[error("the record does not exist")]
    NotFound,
    /// The store cannot be reached, or did not answer in time. It is unknown whether a write took
    /// effect.
    #[error("the store is unavailable: {reason}")]
    Unavailable {
        /// The operation that failed.
        reason: String,
        /// The client library's error, if it returned one.
        #[source]
        source: Option<BoxError>,
    },
    /// A stored record cannot be parsed; others can.
    #[error("the stored record `{id}` cannot be read: {reason}")]
    Corrupt {
        /// The record's id, as far as it is known.
        id: String,
        /// What is wrong with the record.
        reason: String,
    },
    /// A setting of the store, or a value to store, cannot work. The message says what to write.
    #[error("{0}")]
    InvalidArgument(String),
    /// Any other error of the store's client library.
    #[error("the store returned an error: {reason}")]
    Backend {
        /// The operation that failed.
        reason: String,
        /// The client library's error.
        #[source]
        source: BoxError,
    },
}

impl StoreError {
    /// Creates a [`StoreError::Unavailable`] without a source.
    #[must_use]
    pub fn unavailable(reason: impl Into<String>) -> Self {
        Self::Unavailable {
            reason: reason.into(),
            source: None,
        }
    }
}
