//! Columns that are written in another form than the record's.

use ipnet::IpNet;

use crate::error::StoreError;
use crate::limit::Limit;
use crate::record::{KeyPatch, KeyRecord, Metadata};
use crate::scope::Scopes;
use crate::store::columns::{limits_text, metadata_text, refused, words};
use crate::store::{WriteOptions, fold_label};

/// Lists and metadata as texts, and the label as it is sorted; `None` leaves the column as it is.
pub(in crate::store) struct EncodedColumns {
    pub(in crate::store) label_key: Option<String>,
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
            Some(&record.label),
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
            patch.label.as_deref(),
            patch.scopes.as_ref(),
            patch.metadata.as_ref(),
            patch.networks.as_deref(),
            patch.methods.as_deref(),
            patch.limits.as_deref(),
        )
    }

    fn of(
        label: Option<&str>,
        scopes: Option<&Scopes>,
        metadata: Option<&Metadata>,
        networks: Option<&[IpNet]>,
        methods: Option<&[String]>,
        limits: Option<&[Limit]>,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            label_key: label.map(fold_label),
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
    stored_count("a version", record.version)
}

/// Returns the number of rotations of `record` as the column has it.
pub(in crate::store) fn stored_rotations(record: &KeyRecord) -> Result<i64, StoreError> {
    stored_count("a number of rotations", record.rotations)
}

fn stored_count(what: &str, count: u64) -> Result<i64, StoreError> {
    i64::try_from(count)
        .map_err(|error| refused(&format!("{what} above 2^63 - 1 cannot be kept"), error))
}

/// Returns an expected version as the column has it. A version that cannot be stored is not that of
/// any record, and neither is a negative one.
pub(in crate::store) fn expected_version(options: &WriteOptions) -> Option<i64> {
    let version = options.expected_version?;
    Some(i64::try_from(version).unwrap_or(-1))
}
