//! Why a watched key may not go on.

/// Why a watched key may not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WatchEnd {
    /// The key was revoked, or all keys of its owner were.
    Revoked,
    /// The key was disabled, its owner was suspended, or the beginning of the key's validity was moved
    /// to a later time.
    Disabled,
    /// The key has expired.
    Expired,
    /// The key was not used for the configured [time](crate::ConfigBuilder::idle_expiry). An open stream
    /// is not a use.
    Idle,
    /// The request's secret was rotated, and its grace is over.
    GraceOver,
    /// The key does not have the scopes any more that the guards of the request required.
    ScopeLost,
    /// Whether the key may go on is not known: the store did not answer for the configured
    /// [patience](crate::ConfigBuilder::watch_patience), does not have a readable record of the key (a
    /// [purged](crate::ApiKeyManager::purge) key, for example), or the manager was shut down.
    Unknown,
}

impl WatchEnd {
    /// Returns the end's name in lower case, such as `scope-lost`, for a log, a close reason or the data
    /// of an event.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::Disabled => "disabled",
            Self::Expired => "expired",
            Self::Idle => "idle",
            Self::GraceOver => "grace-over",
            Self::ScopeLost => "scope-lost",
            Self::Unknown => "unknown",
        }
    }
}
