//! Revokes keys.

use crate::error::Error;
use crate::events::EventKind;
use crate::key::KeyId;
use crate::manager::ApiKeyManager;
use crate::manager::call::{StartedCall, condition_setters, impl_call, origin_setters};
use crate::manager::confirm::ConfirmedCall;
use crate::manager::core::{ManagerCore, missing};
use crate::manager::validate::{check_origin, check_text};
use crate::metrics::StoreCall;
use crate::record::Revocation;
use crate::store::WriteOptions;

/// A call that revokes a key; see [`ApiKeyManager::revoke`]. Resolves to whether this call revoked
/// it (`false`: it was revoked before).
#[derive(Debug)]
#[must_use = "a key is revoked only when this is awaited"]
pub struct RevokeKey {
    manager: ApiKeyManager,
    id: KeyId,
    reason: Option<String>,
    options: WriteOptions,
    started: StartedCall<bool>,
}

impl RevokeKey {
    pub(in crate::manager) fn new(manager: ApiKeyManager, id: KeyId) -> Self {
        Self {
            manager,
            id,
            reason: None,
            options: WriteOptions::new(),
            started: StartedCall::none(),
        }
    }

    /// Sets the reason, which the record keeps: 1 to 256 bytes. By default, no reason is kept.
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    origin_setters!();
    condition_setters!();

    /// Waits until the revocation has reached all nodes that use the store: no check that *starts*
    /// later, on any node, accepts the key. This holds even if the store's push is broken, or if
    /// nodes are paused or disconnected.
    ///
    /// The call waits until each node in the store's member list has confirmed that it evicted the
    /// changed keys, which takes milliseconds, or until the longest lease that a node may hold has
    /// ended (plus a thousandth and 5 ms, since clocks diverge). If the store does not answer after
    /// the change was made, it waits for up to 60 seconds, the longest possible lease.
    ///
    /// If the call is dropped while it waits, the key is revoked nevertheless.
    pub fn confirmed(self) -> ConfirmedCall<Self> {
        ConfirmedCall::new(self.manager.clone(), self)
    }

    async fn carry_out(self) -> Result<bool, Error> {
        let revocation = revocation(&self.manager, self.reason)?;
        let Self {
            id, mut options, ..
        } = self;
        if options.origin.reason.is_none() {
            options.origin.reason.clone_from(&revocation.reason);
        }
        check_origin(&options.origin)?;
        self.manager
            .on_thread(move |core| async move { core.revoke(id, revocation, &options).await })
            .await
    }
}

impl_call!(
    RevokeKey => bool,
    |call| Self::new(call.manager.clone(), call.id),
    Self::carry_out
);

impl ManagerCore {
    pub(super) async fn revoke(
        &self,
        id: KeyId,
        revocation: Revocation,
        options: &WriteOptions,
    ) -> Result<bool, Error> {
        let revoke = self.shared.store.revoke(&id, &revocation, options);
        let outcome = self.shared.call(StoreCall::Revoke, revoke).await;
        self.evict_unless_foreign(id, options, &outcome);
        let revoked = outcome.map_err(|error| missing(error, id))?;
        tracing::info!(key_id = %id, newly = revoked, "revoked");
        if revoked {
            let reason = revocation.reason;
            self.emit(EventKind::Revoked { reason }, id, &options.origin);
        }
        Ok(revoked)
    }
}

/// Returns the revocation that a call makes now.
pub(in crate::manager) fn revocation(
    manager: &ApiKeyManager,
    reason: Option<String>,
) -> Result<Revocation, Error> {
    reason.as_deref().map_or(Ok(()), |reason| {
        check_text("reason for the revocation", reason)
    })?;
    Ok(Revocation {
        at: manager.now(),
        reason,
    })
}
