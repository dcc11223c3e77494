//! Versions of the layout in which a store keeps its records.

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

/// The error for a store that is older than [`FIRST`].
pub(super) fn unreleased() -> StoreError {
    StoreError::InvalidArgument(
        "the store was made by an unreleased build; create a new store".to_owned(),
    )
}
