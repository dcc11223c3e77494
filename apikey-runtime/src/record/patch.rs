//! Patches of records.

use std::fmt;

use ipnet::IpNet;

use super::{KeyRecord, Metadata, PreviousDigest};
use crate::clock::Timestamp;
use crate::limit::Limit;
use crate::scope::Scopes;

/// A change of some columns of a record; `None` leaves a column unchanged.
///
/// It cannot clear `revoked`, so a late writer cannot undo a revocation.
#[derive(Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct KeyPatch {
    /// See [`KeyRecord::label`].
    pub label: Option<String>,
    /// See [`KeyRecord::description`].
    pub description: Option<Option<String>>,
    /// See [`KeyRecord::owner`].
    pub owner: Option<Option<String>>,
    /// See [`KeyRecord::scopes`].
    pub scopes: Option<Scopes>,
    /// See [`KeyRecord::metadata`].
    pub metadata: Option<Metadata>,
    /// See [`KeyRecord::environment`].
    pub environment: Option<Option<String>>,
    /// See [`KeyRecord::networks`].
    pub networks: Option<Vec<IpNet>>,
    /// See [`KeyRecord::methods`].
    pub methods: Option<Vec<String>>,
    /// See [`KeyRecord::limits`].
    pub limits: Option<Vec<Limit>>,
    /// See [`KeyRecord::expires`].
    pub expires: Option<Option<Timestamp>>,
    /// See [`KeyRecord::not_before`].
    pub not_before: Option<Option<Timestamp>>,
    /// See [`KeyRecord::enabled`].
    pub enabled: Option<bool>,
    /// See [`KeyRecord::enabled_at`]. A manager sets it with `enabled`, also if the key is enabled already.
    pub enabled_at: Option<Timestamp>,
    /// See [`KeyRecord::digest`]; set by a rotation.
    pub digest: Option<String>,
    /// See [`KeyRecord::previous`]; set by a rotation.
    pub previous: Option<Option<PreviousDigest>>,
}

impl KeyPatch {
    /// Creates a patch that changes nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies the patch to `record`, increments its version, and sets who changed it, for stores that
    /// keep whole records.
    pub fn apply(&self, record: &mut KeyRecord, actor: Option<&str>) {
        fn put<T: Clone>(from: &Option<T>, into: &mut T) {
            if let Some(value) = from {
                into.clone_from(value);
            }
        }
        put(&self.label, &mut record.label);
        put(&self.description, &mut record.description);
        put(&self.owner, &mut record.owner);
        put(&self.scopes, &mut record.scopes);
        put(&self.metadata, &mut record.metadata);
        put(&self.environment, &mut record.environment);
        put(&self.networks, &mut record.networks);
        put(&self.methods, &mut record.methods);
        put(&self.limits, &mut record.limits);
        put(&self.expires, &mut record.expires);
        put(&self.not_before, &mut record.not_before);
        put(&self.enabled, &mut record.enabled);
        if self.enabled_at.is_some() {
            record.enabled_at = self.enabled_at;
        }
        if self
            .digest
            .as_ref()
            .is_some_and(|new| *new != record.digest)
        {
            record.rotations = record.rotations.saturating_add(1);
        }
        put(&self.digest, &mut record.digest);
        put(&self.previous, &mut record.previous);
        record.version = record.version.saturating_add(1);
        record.updated_by = actor.map(str::to_owned);
    }
}

impl fmt::Debug for KeyPatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyPatch")
            .field("label", &self.label)
            .field("description", &self.description)
            .field("owner", &self.owner)
            .field("scopes", &self.scopes)
            .field("environment", &self.environment)
            .field("networks", &self.networks)
            .field("methods", &self.methods)
            .field("limits", &self.limits)
            .field("expires", &self.expires)
            .field("not_before", &self.not_before)
            .field("enabled", &self.enabled)
            .field("enabled_at", &self.enabled_at)
            .finish_non_exhaustive()
    }
}
