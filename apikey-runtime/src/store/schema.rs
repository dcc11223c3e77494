//! Versions of the layout in which a store keeps its records.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::StoreError;

/// The first version that is supported. Migrations are appended to it and never changed.
pub(super) const FIRST: i64 = 100;

/// Rejects a store whose version is not one of [`FIRST`] to `latest`.
pub(super) fn check(found: i64, latest: i64) -> Result<(), StoreError> {
    if found < FIRST {
        return Err(unreleased());
    }
    if found > latest {
        return Err(StoreError::InvalidArgument(format!(
            "the store has version {found}, and this release knows versions up to {latest}; take a newer release"
        )));
    }
    Ok(())
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
    StoreError::InvalidArgument(
        "the store was made by an unreleased build; create a new store".to_owned(),
    )
}
