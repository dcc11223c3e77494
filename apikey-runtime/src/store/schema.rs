//! Versions of the layout in which a store keeps its records.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{FoundSchema, StoreError};

/// The first version that is supported. Migrations are appended to it and never changed.
pub(super) const FIRST: i64 = 100;

/// What a start may do about what it finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Opening {
    /// Whether a store that does not exist is an error. Otherwise it is created.
    pub(super) must_exist: bool,
    /// Whether a store of an older release is brought up to date. Otherwise it is an error.
    pub(super) migrate: bool,
    /// Whether a store of an older release is read as it is.
    pub(super) reads_older: bool,
}

impl Default for Opening {
    fn default() -> Self {
        Self {
            must_exist: false,
            migrate: true,
            reads_older: false,
        }
    }
}

impl Opening {
    /// Reads what this or an older release made, and changes nothing.
    pub(super) const LOOK: Self = Self {
        must_exist: true,
        migrate: false,
        reads_older: true,
    };

    /// Returns whether nothing is created or changed.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(super) fn is_as_it_is(self) -> bool {
        self.must_exist && !self.migrate
    }

    /// Rejects a store that this release may not use: its version is not one of [`FIRST`] to `latest`, or it would have to
    /// be created or brought up to date. `found` is `None` if `place` does not have a store.
    pub(super) fn check(
        self,
        found: Option<i64>,
        latest: i64,
        place: impl FnOnce() -> String,
    ) -> Result<(), StoreError> {
        let (found, reason) = match found {
            None if self.must_exist => (FoundSchema::Missing, missing(&place())),
            None => return Ok(()),
            Some(found) if found < FIRST => return Err(unreleased()),
            Some(found) if found > latest => (
                FoundSchema::Newer(found),
                format!(
                    "the store has version {found}, and this release knows versions up to {latest}; take a newer release"
                ),
            ),
            Some(found) if found < latest && !self.migrate && !self.reads_older => (
                FoundSchema::Older(found),
                format!(
                    "the store has version {found}, and this release needs {latest}; start a server of this release, or leave \
                     `migrate(false)` out, which brings it up to date"
                ),
            ),
            Some(_) => return Ok(()),
        };
        Err(StoreError::Schema { found, reason })
    }
}

/// The message for a place without a store, if `must_exist` is set.
pub(super) fn missing(place: &str) -> String {
    format!(
        "{place} does not have a store; correct the address, or leave `must_exist` out to create the store there"
    )
}

/// The error for something else than a store.
pub(super) fn foreign(reason: impl Into<String>) -> StoreError {
    StoreError::Schema {
        found: FoundSchema::Foreign,
        reason: reason.into(),
    }
}

/// Tells whether what an older release wrote is being brought up to date, which takes longer the more keys there are.
#[derive(Debug, Default)]
pub(super) struct UpgradeFlag(AtomicBool);

impl UpgradeFlag {
    /// Returns whether it is raised.
    pub(super) fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Raises it until the guard is dropped.
    pub(super) fn raise(&self) -> UpgradeGuard<'_> {
        self.0.store(true, Ordering::Relaxed);
        UpgradeGuard(self)
    }

    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    /// As [`raise`](Self::raise), and logs between which versions, if anything is there to be brought up to date.
    pub(super) fn raise_for(&self, found: Option<i64>, latest: i64) -> Option<UpgradeGuard<'_>> {
        let found = found.filter(|found| *found < latest)?;
        tracing::warn!(
            found,
            latest,
            "the key store is brought up to date, which can take half a minute for each million keys; keys cannot be \
             changed meanwhile, and if this process ends before it is done, nothing has been changed"
        );
        Some(self.raise())
    }
}

/// Lowers an [`UpgradeFlag`] when it is dropped.
pub(super) struct UpgradeGuard<'f>(&'f UpgradeFlag);

impl Drop for UpgradeGuard<'_> {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::Relaxed);
    }
}

/// The error for a store that is older than [`FIRST`].
pub(super) fn unreleased() -> StoreError {
    foreign("the store was made by an unreleased build; create a new store")
}
