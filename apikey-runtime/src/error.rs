//! What can go wrong, in words for the person who has to mend it.

use std::error::Error as StdError;

use crate::key_id::KeyId;

/// A source of an error, kept whole.
pub type BoxError = Box<dyn StdError + Send + Sync + 'static>;

/// What a call of the manager, or of the configuration, can answer instead of a value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting that cannot work. The message names it and says what to write.
    #[error("configuration: {0}")]
    Config(String),
    /// An argument of a call that cannot work. The message names it and says what to write.
    #[error("{0}")]
    InvalidArgument(String),
    /// No key has this id.
    #[error("no key has the id `{0}`; `list` names those that exist")]
    NotFound(KeyId),
    /// The key is revoked, and that is for good; create a new one.
    #[error("the key `{0}` is revoked, which is for good; create a new one")]
    Revoked(KeyId),
    /// The system's random generator failed; nothing was stored.
    #[error("the system's random generator failed; no key was made")]
    Random(#[source] BoxError),
    /// The hasher failed; nothing was stored.
    #[error("the hasher failed; no key was made")]
    Hasher(#[source] BoxError),
    /// The store failed.
    #[error("the key store failed: {0}")]
    Store(#[from] StoreError),
    /// A manager was installed for the whole process before.
    #[error(
        "a manager is installed already; `install` once, or use `init_app` for one manager per app"
    )]
    AlreadyInstalled,
    /// The manager was shut down.
    #[error("the manager was shut down; start a new one")]
    ShutDown,
}

/// What a store can answer instead of a value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The id is taken, or the record changed since it was read.
    #[error("the record exists already, or was changed by someone else; read it again")]
    Conflict,
    /// No record has this id.
    #[error("no such record")]
    NotFound,
    /// The store cannot be reached, or gave no answer in time. Whether a write took effect is not
    /// known.
    #[error("the store is unavailable: {reason}")]
    Unavailable {
        /// What was tried and failed.
        reason: String,
        /// The client library's own error, where it gave one.
        #[source]
        source: Option<BoxError>,
    },
    /// One stored record cannot be read; others can.
    #[error("the stored record `{id}` cannot be read: {reason}")]
    Corrupt {
        /// The record's id, as far as it can be told.
        id: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A setting of the store, or what it was asked to keep, cannot work. The message says what to
    /// write.
    #[error("{0}")]
    InvalidArgument(String),
    /// Anything else that the store's client library reports.
    #[error("the store refused: {reason}")]
    Backend {
        /// What was tried and failed.
        reason: String,
        /// The client library's own error.
        #[source]
        source: BoxError,
    },
}

impl StoreError {
    /// An [`StoreError::Unavailable`] with no source.
    #[must_use]
    pub fn unavailable(reason: impl Into<String>) -> Self {
        Self::Unavailable {
            reason: reason.into(),
            source: None,
        }
    }
}
