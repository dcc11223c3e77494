//! Columns that are written in another form than the record's.

use ipnet::IpNet;

use crate::error::StoreError;
use crate::limit::Limit;
use crate::record::{KeyPatch, KeyRecord, Metadata};
use crate::scope::Scopes;
use crate::store::columns::{limits_text, metadata_text, refused, words};

/// Lists and metadata as texts; `None` leaves the column as it is.
pub(in crate::store) struct EncodedColumns {
    pub(in crate::store) scopes: Option<String>,
    pub(in crate::store) metadata: Option<String>,
    pub(in crate::store) networks: Option<String>,
    pub(in crate::store) methods: Option<String>,
    pub(in crate::store) limits: Option<String>,
}

impl EncodedColumns {
    /// Encodes the columns of `record`.
    pub(in crate::store) fn of_record(record: &KeyRecord) -> Result<Self, StoreError> {
        Self::of(
            Some(&record.scopes),
            Some(&record.metadata),
            Some(&record.networks),
            Some(&record.methods),
            Some(&record.limits),
        )
    }

    /// Encodes the columns that `patch` changes.
    pub(in crate::store) fn of_patch(patch: &KeyPatch) -> Result<Self, StoreError> {
        Self::of(
            patch.scopes.as_ref(),
            patch.metadata.as_ref(),
            patch.networks.as_deref(),
            patch.methods.as_deref(),
            patch.limits.as_deref(),
        )
    }

    fn of(
        scopes: Option<&Scopes>,
        metadata: Option<&Metadata>,
        networks: Option<&[IpNet]>,
        methods: Option<&[String]>,
        limits: Option<&[Limit]>,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            scopes: scopes.map(ToString::to_string),
            metadata: metadata.map(metadata_text).transpose()?,
            networks: networks.map(words),
            methods: methods.map(words),
            limits: limits.map(limits_text).transpose()?,
        })
    }
}

/// Returns the version of `record` as the column has it.
pub(in crate::store) fn stored_version(record: &KeyRecord) -> Result<i64, StoreError> {
    i64::try_from(record.version)
        .map_err(|error| refused("a version above 2^63 - 1 cannot be kept", error))
}

/// Returns an expected version as the column has it. A version that cannot be stored is not that of
/// any record, and neither is a negative one.
pub(in crate::store) fn expected_version(patch: &KeyPatch) -> Option<i64> {
    let version = patch.expected_version?;
    Some(i64::try_from(version).unwrap_or(-1))
}
