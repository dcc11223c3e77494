//! What a failure of Redis means to a caller.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::error::{BoxError, StoreError};

/// Codes of failures that may be over at a later attempt.
const TRANSIENT: [&str; 16] = [
    "LOADING",     // The server has just started and reads its data.
    "BUSY",        // A script runs for long.
    "CLUSTERDOWN", // Slots are not served.
    "TRYAGAIN",    // Slots are on their way to another node.
    "MOVED",
    "ASK",
    "READONLY",   // A replica.
    "MASTERDOWN", // A replica that has lost its primary.
    "OOM",        // `maxmemory` is reached.
    "MISCONF",    // The disk takes no more.
    "NOREPLICAS", // Fewer than `min-replicas-to-write` would have it.
    "NOSCRIPT",   // Forgotten between two calls, twice.
    "UNBLOCKED",
    "NOTREADY",
    "WRONGPASS", // The password was changed on one side.
    "NOAUTH",
];

/// Why a record is corrupt whose key has a value of another type.
pub(super) const NOT_A_HASH: &str = "the value of its key is not a hash";

/// A failure that can be reported to several callers.
#[derive(Debug, Clone)]
pub(super) struct RedisFailure {
    kind: FailureKind,
    reason: String,
    source: Option<RedisError>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FailureKind {
    Unavailable,
    /// As before, because of an answer that did not come in time.
    TimedOut,
    /// The value of a key is not a record of ours.
    WrongType,
    Invalid,
    Backend,
}

impl RedisFailure {
    pub(super) fn unavailable(reason: impl Into<String>) -> Self {
        Self {
            kind: FailureKind::Unavailable,
            reason: reason.into(),
            source: None,
        }
    }

    pub(super) fn timed_out(reason: impl Into<String>) -> Self {
        Self {
            kind: FailureKind::TimedOut,
            reason: reason.into(),
            source: None,
        }
    }

    pub(super) fn invalid(reason: impl Into<String>) -> Self {
        Self {
            kind: FailureKind::Invalid,
            reason: reason.into(),
            source: None,
        }
    }

    /// Returns the failure to report if `doing` failed. The reason quotes nothing of the server's
    /// message, which can hold arguments of a command.
    pub(super) fn of(doing: &str, error: RedisError) -> Self {
        let kind = kind(&error);
        let reason = match error.code() {
            Some(code) => format!("{doing} failed ({code}{})", remedy(code)),
            None if error.kind() == ErrorKind::AuthenticationFailed => {
                format!("{doing} failed{}", remedy("WRONGPASS"))
            }
            None => format!("{doing} failed"),
        };
        Self {
            kind,
            reason,
            source: Some(error),
        }
    }

    /// Removes the message if it quotes `secret`: a server that does not know a command repeats its
    /// arguments.
    pub(super) fn without(mut self, secret: Option<&str>) -> Self {
        let quotes = |error: &RedisError| {
            secret.is_some_and(|secret| !secret.is_empty() && error.to_string().contains(secret))
        };
        if self.source.as_ref().is_some_and(quotes) {
            self.source = None;
        }
        self
    }

    /// Converts it to an error about the record `id`, if it concerns only that record.
    pub(super) fn of_record(self, id: &str) -> StoreError {
        if self.kind == FailureKind::WrongType {
            return StoreError::Corrupt {
                id: id.to_owned(),
                reason: NOT_A_HASH.to_owned(),
            };
        }
        self.into()
    }
}

impl From<RedisFailure> for StoreError {
    fn from(failure: RedisFailure) -> Self {
        let RedisFailure {
            kind,
            reason,
            source,
        } = failure;
        match kind {
            FailureKind::Unavailable => Self::Unavailable {
                reason,
                source: source.map(without_values),
            },
            FailureKind::TimedOut => Self::timed_out(reason),
            FailureKind::Invalid => Self::InvalidArgument(reason),
            FailureKind::WrongType | FailureKind::Backend => Self::Backend {
                source: match source {
                    Some(error) => without_values(error),
                    None => reason.clone().into(),
                },
                reason,
            },
        }
    }
}

/// Returns the error, without what it may quote: the arguments of a command, or an answer.
fn without_values(error: RedisError) -> BoxError {
    const QUOTES: [&str; 2] = ["with args beginning with", "(response was"];
    let text = error.to_string();
    let quotes = QUOTES.iter().filter_map(|quote| text.find(quote)).min();
    match quotes {
        Some(start) => text[..start].trim_end_matches([' ', ',']).into(),
        None => Box::new(error),
    }
}

fn kind(error: &RedisError) -> FailureKind {
    let is_full = |error: &RedisError| {
        error
            .detail()
            .is_some_and(|detail| detail.contains("max number of clients"))
    };
    match error.code() {
        Some("WRONGTYPE") => FailureKind::WrongType,
        _ if error.is_timeout() => FailureKind::TimedOut,
        Some(code) if TRANSIENT.contains(&code) => FailureKind::Unavailable,
        _ if error.is_io_error() || is_full(error) => FailureKind::Unavailable,
        _ if matches!(
            error.kind(),
            ErrorKind::Parse | ErrorKind::AuthenticationFailed
        ) =>
        {
            FailureKind::Unavailable
        }
        _ => FailureKind::Backend,
    }
}

fn remedy(code: &str) -> &'static str {
    match code {
        "NOPERM" => "; the user lacks a right, see the docs of `RedisStore`",
        "NOAUTH" | "WRONGPASS" => "; see the user and the password in the URL",
        "OOM" => "; the server has no memory left for a write",
        "MISCONF" => "; the server cannot write to its disk",
        _ => "",
    }
}

/// Whether a script is not known by its name, and so has not run.
pub(super) fn is_forgotten(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}
