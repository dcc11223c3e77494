//! What was done.

use std::fmt;

use serde::Serialize;

/// What a change did to a key or an owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AuditAction {
    /// A key was created.
    Created,
    /// Fields of a key were changed.
    Updated,
    /// A key got a new secret.
    Rotated,
    /// A key was enabled, and nothing else of it was changed. A key that was enabled already is enabled again by a change of
    /// [`enabled_at`](crate::KeyRecord::enabled_at) alone.
    Enabled,
    /// A key was disabled, and nothing else of it was changed.
    Disabled,
    /// A key was revoked.
    Revoked,
    /// The record of a key was removed.
    Purged,
    /// All keys of an owner were revoked.
    OwnerRevoked,
    /// All keys of an owner were suspended.
    OwnerSuspended,
    /// An owner's keys were resumed.
    OwnerResumed,
    /// An action of a later release.
    Unknown,
}

impl AuditAction {
    /// All actions that have a code.
    const ALL: [Self; 10] = [
        Self::Created,
        Self::Updated,
        Self::Rotated,
        Self::Enabled,
        Self::Disabled,
        Self::Revoked,
        Self::Purged,
        Self::OwnerRevoked,
        Self::OwnerSuspended,
        Self::OwnerResumed,
    ];

    /// Returns the stored form, such as `owner_revoked`.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Rotated => "rotated",
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
            Self::Revoked => "revoked",
            Self::Purged => "purged",
            Self::OwnerRevoked => "owner_revoked",
            Self::OwnerSuspended => "owner_suspended",
            Self::OwnerResumed => "owner_resumed",
            Self::Unknown => "unknown",
        }
    }

    /// Returns the action with this code. A code that is not known may be one of a later release.
    #[must_use]
    pub fn from_code(code: &str) -> Self {
        let found = Self::ALL.into_iter().find(|action| action.code() == code);
        found.unwrap_or(Self::Unknown)
    }
}

impl fmt::Display for AuditAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}
