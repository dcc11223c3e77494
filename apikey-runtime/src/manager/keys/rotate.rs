//! Rotates keys.

use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;

use super::TRIES;
use crate::clock::Timestamp;
use crate::error::Error;
use crate::events::EventKind;
use crate::key::KeyId;
use crate::manager::ApiKeyManager;
use crate::manager::call::{
    StartedCall, condition_setters, holder_setter, impl_call, origin_setters,
};
use crate::manager::confirm::ConfirmedCall;
use crate::manager::core::ManagerCore;
use crate::manager::keys::rules::judge_holder;
use crate::manager::new_key::NewKey;
use crate::manager::validate::check_origin;
use crate::record::{KeyPatch, KeyRecord, PreviousDigest};
use crate::scope::Scopes;
use crate::store::WriteOptions;
use crate::util::text::quote;

/// A call that rotates a key; see [`ApiKeyManager::rotate`]. Resolves to the key with its new
/// secret.
#[derive(Debug)]
#[must_use = "the key is rotated only when this is awaited"]
pub struct RotateKey {
    manager: ApiKeyManager,
    id: KeyId,
    grace: Duration,
    options: WriteOptions,
    granted_by: Option<Scopes>,
    started: StartedCall<NewKey>,
}

impl RotateKey {
    pub(in crate::manager) fn new(manager: ApiKeyManager, id: KeyId) -> Self {
        Self {
            manager,
            id,
            grace: Duration::ZERO,
            options: WriteOptions::new(),
            granted_by: None,
            started: StartedCall::none(),
        }
    }

    /// Sets the grace time, during which the old secret is accepted too; it ends at the latest when
    /// the key expires. By default, zero.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    origin_setters!();
    condition_setters!();
    holder_setter!();

    /// Waits until the rotation has reached all nodes: checks that start later, on any node, do not
    /// accept the old secret after its grace time. See
    /// [`RevokeKey::confirmed`](super::RevokeKey::confirmed).
    pub fn confirmed(self) -> ConfirmedCall<Self> {
        ConfirmedCall::new(self.manager.clone(), self)
    }

    /// Returns the record as the call would change it, by the same checks and rules, and changes nothing.
    ///
    /// # Errors
    ///
    /// Returns each error of the call.
    pub async fn preview(self) -> Result<KeyRecord, Error> {
        check_origin(&self.options.origin)?;
        let manager = self.manager.clone();
        manager
            .on_thread(move |core| async move {
                let mut record = core.find_unrevoked(self.id, &self.options).await?;
                let (_secret, patch) = self.new_secret(&record)?;
                patch.apply(&mut record, self.options.origin.actor.as_deref());
                Ok(record)
            })
            .await
    }

    async fn carry_out(self) -> Result<NewKey, Error> {
        check_origin(&self.options.origin)?;
        let manager = self.manager.clone();
        manager.on_thread(move |core| self.rotate(core)).await
    }

    /// Makes a secret for the record as it was read, and stores it only if the record did not
    /// change. The grace is for the secret that was read first, and not for that of a rotation which
    /// comes between.
    async fn rotate(self, core: Arc<ManagerCore>) -> Result<NewKey, Error> {
        let mut rotations = None;
        for _ in 0..TRIES {
            let mut record = core.find_unrevoked(self.id, &self.options).await?;
            let is_same = *rotations.get_or_insert(record.rotations) == record.rotations;
            if !is_same && !self.grace.is_zero() {
                break;
            }
            let (secret, patch) = self.new_secret(&record)?;
            let version = self.options.expected_version.unwrap_or(record.version);
            let options = self.options.clone().with_expected_version(Some(version));
            let outcome = match core.patch(self.id, &patch, &options).await {
                // The answer may be lost of a change that was made.
                Err(Error::Store(_)) if has_made(&core, self.id, &patch).await => {
                    // It may have come after the eviction.
                    core.cache.evict(&self.id);
                    Ok(())
                }
                outcome => outcome,
            };
            match outcome {
                Ok(()) => {
                    tracing::info!(key_id = %self.id, grace = ?self.grace, "rotated");
                    core.emit(EventKind::Rotated, self.id, &options.origin);
                    patch.apply(&mut record, options.origin.actor.as_deref());
                    return Ok(NewKey::new(record, secret));
                }
                Err(Error::Conflict(_)) if self.options.expected_version.is_none() => {}
                Err(other) => return Err(other),
            }
        }
        Err(Error::Conflict(self.id))
    }

    /// Judges the rotation of this record, and makes a secret for it.
    fn new_secret(&self, record: &KeyRecord) -> Result<(SecretString, KeyPatch), Error> {
        judge_holder(self.granted_by.as_ref(), &record.scopes)?;
        if !self.manager.config().accepts_prefix(&record.prefix) {
            return Err(Error::InvalidArgument(format!(
                "the key's prefix {} is not one of the configured `prefixes`; add it there, or create a new key",
                quote(&record.prefix)
            )));
        }
        let (secret, digest) = self.manager.new_secret(&record.prefix, self.id)?;
        let mut patch = KeyPatch::new();
        patch.previous = Some(previous_digest(record, self.grace, self.manager.now())?);
        patch.digest = Some(digest);
        Ok((secret, patch))
    }
}

/// Returns whether the store answers that the key has the secret of this patch.
async fn has_made(core: &ManagerCore, id: KeyId, patch: &KeyPatch) -> bool {
    let found = core.find(id).await;
    found.is_ok_and(|record| patch.digest.as_ref() == Some(&record.digest))
}

/// Returns the old digest with its expiry: after the grace time, and at the latest when the key
/// expires.
fn previous_digest(
    record: &KeyRecord,
    grace: Duration,
    now: Timestamp,
) -> Result<Option<PreviousDigest>, Error> {
    if grace.is_zero() {
        return Ok(None);
    }
    let until = now.checked_add(grace).ok_or_else(|| {
        Error::InvalidArgument("the grace time is too long; write a shorter one".to_owned())
    })?;
    let until = record.expires.map_or(until, |end| until.min(end));
    Ok(Some(PreviousDigest {
        digest: record.digest.clone(),
        until,
    }))
}

impl_call!(
    RotateKey => NewKey,
    |call| Self::new(call.manager.clone(), call.id),
    Self::carry_out
);
