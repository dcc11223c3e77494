//! Owners: what is true of all keys of an owner.

use crate::clock::Timestamp;

/// The state of an owner: what is true of all its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct OwnerState {
    /// The number of changes of this state, plus 1; a new owner has 1.
    pub version: u64,
    /// How many times all keys of the owner were revoked. A key is revoked if its own
    /// [`owner_revocations`](super::KeyRecord::owner_revocations) is lower.
    pub revocations: u64,
    /// Whether all keys of the owner are suspended.
    pub suspended: bool,
}

impl OwnerState {
    /// Creates the state of an owner that has got its first key.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            version: 1,
            revocations: 0,
            suspended: false,
        }
    }

    /// Sets the [version](Self::version). By default, 1.
    #[must_use]
    pub const fn with_version(mut self, version: u64) -> Self {
        self.version = version;
        self
    }

    /// Sets how many times all keys were [revoked](Self::revocations). By default, 0.
    #[must_use]
    pub const fn with_revocations(mut self, revocations: u64) -> Self {
        self.revocations = revocations;
        self
    }

    /// Sets whether all keys are [suspended](Self::suspended). By default, `false`.
    #[must_use]
    pub const fn with_suspended(mut self, suspended: bool) -> Self {
        self.suspended = suspended;
        self
    }

    /// Returns whether a key is revoked that has this
    /// [`owner_revocations`](super::KeyRecord::owner_revocations).
    #[must_use]
    pub const fn revokes(&self, owner_revocations: u64) -> bool {
        owner_revocations < self.revocations
    }
}

impl Default for OwnerState {
    fn default() -> Self {
        Self::new()
    }
}

/// When, why and by whom all keys of an owner were revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OwnerRevocation {
    /// The time of the revocation.
    pub at: Timestamp,
    /// The reason, if given.
    pub reason: Option<String>,
    /// The actor, if the caller named one.
    pub actor: Option<String>,
}

impl OwnerRevocation {
    /// Creates a revocation without a reason and an actor.
    #[must_use]
    pub const fn new(at: Timestamp) -> Self {
        Self {
            at,
            reason: None,
            actor: None,
        }
    }

    /// Sets the reason. By default, `None`.
    #[must_use]
    pub fn with_reason(mut self, reason: Option<String>) -> Self {
        self.reason = reason;
        self
    }

    /// Sets the actor. By default, `None`.
    #[must_use]
    pub fn with_actor(mut self, actor: Option<String>) -> Self {
        self.actor = actor;
        self
    }

    /// Returns what the record of a key keeps of it.
    #[must_use]
    pub fn of_key(&self) -> super::Revocation {
        super::Revocation {
            at: self.at,
            reason: self.reason.clone(),
        }
    }
}
