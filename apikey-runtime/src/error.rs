//! Errors, in words for the person who has to fix them.

mod violation;

use std::error::Error as StdError;
use std::fmt;
use std::io;

use crate::clock::ParseTimestampError;
use crate::key_id::KeyId;
use crate::util::text::quote;

pub use violation::PolicyViolation;
use violation::counted;

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
    /// The key was changed since it was read, or the id that a new key was to get is taken.
    #[error(
        "the key `{0}` was changed since it was read, or exists already; read it again, and decide again"
    )]
    Conflict(KeyId),
    /// The key would break a rule for issuing. The text says which, and a page can show it.
    #[error("{0}")]
    Policy(PolicyViolation),
    /// An owner with this name has never had a key.
    #[error("the owner {} has never had a key; `list().owner(..)` finds keys of owners", quote(.0))]
    OwnerNotFound(String),
    /// The store, or a node of it, cannot do this. The message says which, and what to do.
    #[error("{0}")]
    Unsupported(String),
    /// The key is permanently revoked; create a new one.
    #[error("the key `{0}` is permanently revoked; create a new one")]
    Revoked(KeyId),
    /// The system's random generator failed; nothing was stored.
    #[error("the system's random generator failed; nothing was stored")]
    Random(#[source] BoxError),
    /// The hasher failed; nothing was stored.
    #[error("the hasher failed; a key was not created")]
    Hasher(#[source] BoxError),
    /// The store failed.
    #[error("the key store failed: {0}")]
    Store(#[source] StoreError),
    /// A change of any number of keys stopped before its end. The keys that were counted are changed;
    /// others may be too. The same call continues where this one stopped.
    #[error(
        "{} changed, then the call failed: {source}; make the same call again, it continues there", counted(*done, "key")
    )]
    Incomplete {
        /// The number of keys that were certainly changed.
        done: u64,
        /// Why the call stopped: [`Error::Store`], or [`Error::ShutDown`].
        source: Box<Error>,
    },
    /// A manager is already installed for the whole process.
    #[error(
        "a manager is installed already; `install` once, or use `init_app` for one manager per app"
    )]
    AlreadyInstalled,
    /// The manager was shut down.
    #[error("the manager was shut down; start a new one")]
    ShutDown,
}

/// That an owner has too many keys, or that a store cannot keep or compare a value, is not a failure of the store.
impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::InvalidArgument(why) => Self::InvalidArgument(why),
            StoreError::TooManyKeys { max } => Self::Policy(PolicyViolation::TooManyKeys { max }),
            other => Self::Store(other),
        }
    }
}

impl From<PolicyViolation> for Error {
    fn from(violation: PolicyViolation) -> Self {
        Self::Policy(violation)
    }
}

/// The text of a time is an argument too.
impl From<ParseTimestampError> for Error {
    fn from(error: ParseTimestampError) -> Self {
        Self::InvalidArgument(ErrorChain(&error).to_string())
    }
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
    /// The owner has as many live keys as it may have.
    #[error("the owner has {}, and may not have more", counted(u64::from(*max), "live key"))]
    TooManyKeys {
        /// The maximum number of live keys.
        max: u32,
    },
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
    /// What [`start`](crate::KeyStore::start) found is not a store that this release may use as it is. The message says
    /// what to do.
    #[error("{reason}")]
    Schema {
        /// What is there.
        found: FoundSchema,
        /// The place, and what to do.
        reason: String,
    },
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

/// What a store's `start` found in place of a store that this release may use as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FoundSchema {
    /// Nothing: a file, a database or a namespace without a store.
    Missing,
    /// Something else: the file or the tables of another application, or of an unreleased build.
    Foreign,
    /// A store that an older release made, with the version of its schema.
    Older(i64),
    /// A store that a newer release has changed, with the version of its schema.
    Newer(i64),
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

    /// Creates a [`StoreError::Unavailable`] of a call that took too long.
    pub(crate) fn timed_out(reason: impl Into<String>) -> Self {
        Self::Unavailable {
            reason: reason.into(),
            source: Some(Box::new(io::Error::from(io::ErrorKind::TimedOut))),
        }
    }

    /// Creates a [`StoreError::Unavailable`] of a call that the store or its server ended, since it had waited for
    /// another for too long. The cause is kept.
    #[cfg(any(test, feature = "sqlite", feature = "postgres"))]
    pub(crate) fn waited_too_long(reason: impl Into<String>, cause: impl Into<BoxError>) -> Self {
        Self::Unavailable {
            reason: reason.into(),
            source: Some(Box::new(io::Error::new(io::ErrorKind::TimedOut, cause))),
        }
    }

    /// Returns whether the store, its server or its network only took too long.
    pub(crate) fn is_timeout(&self) -> bool {
        let is_late = |error: &(dyn StdError + 'static)| {
            let error = error.downcast_ref::<io::Error>();
            error.is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
        };
        causes(self).any(is_late)
    }
}

/// Displays an error and its sources, joined by `: `, so that a line of text ends in the cause. A
/// source whose text stands in the one before already is left out.
pub(crate) struct ErrorChain<'e>(pub(crate) &'e (dyn StdError + 'static));

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = String::new();
        for error in causes(self.0) {
            let text = error.to_string();
            if shown.is_empty() {
                f.write_str(&text)?;
            } else if !shown.contains(&text) {
                write!(f, ": {text}")?;
            }
            shown.push_str(&text);
        }
        Ok(())
    }
}

/// Returns the error and its sources.
fn causes<'e>(
    error: &'e (dyn StdError + 'static),
) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_ends_in_the_cause_and_says_nothing_twice() {
        let refused = io::Error::from_raw_os_error(111);
        let inner = StoreError::Backend {
            reason: refused.to_string(),
            source: Box::new(refused),
        };
        let error = Error::Store(StoreError::Unavailable {
            reason: "reading failed".to_owned(),
            source: Some(Box::new(inner)),
        });
        let text = ErrorChain(&error).to_string();
        assert!(text.ends_with("(os error 111)"), "{text}");
        for part in ["the store is unavailable", "os error 111", "reading failed"] {
            assert_eq!(text.matches(part).count(), 1, "{text}");
        }
        // Negative control: the error alone does not name its cause.
        assert!(!error.to_string().contains("111"));
    }

    #[test]
    fn a_call_that_took_too_long_is_told_from_one_that_failed() {
        assert!(StoreError::timed_out("no answer within 2s").is_timeout());
        assert!(!StoreError::unavailable("no answer within 2s").is_timeout());
        let busy = StoreError::waited_too_long("reading failed", "database is locked");
        assert!(busy.is_timeout());
        let text = ErrorChain(&busy).to_string();
        assert!(
            text.ends_with("reading failed: database is locked"),
            "{text}"
        );
    }
}
