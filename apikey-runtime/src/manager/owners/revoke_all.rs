//! Revokes all keys of an owner.

use crate::audit::ChangeOrigin;
use crate::error::{Error, StoreError};
use crate::events::EventKind;
use crate::manager::ApiKeyManager;
use crate::manager::call::{StartedCall, impl_call, origin_setters};
use crate::manager::confirm::ConfirmedCall;
use crate::manager::core::ManagerCore;
use crate::manager::keys::{BulkChange, revocation};
use crate::manager::validate::check_origin;
use crate::metrics::StoreCall;
use crate::record::{OwnerRevocation, Revocation};
use crate::store::{OwnerStore, WriteOptions, answer};

/// A call that revokes all keys of an owner; see [`ApiKeyManager::revoke_all`]. Resolves to whether
/// the store knows the owner.
///
/// If the store does not keep [owners](crate::KeyStore::owners), it works in bounded steps,
/// each of which commits by itself and has an event for each key, and resolves to whether it
/// revoked a key. If a step fails, the error is [`Error::Incomplete`] with the number of keys that are
/// done, and the same call continues there. If the store loses the answer of a step that it committed,
/// those keys are revoked, but they are not counted and have no event. If the manager shuts down, the
/// steps end; if the call is dropped, they continue.
#[derive(Debug)]
#[must_use = "a key is revoked only when this is awaited"]
pub struct RevokeAll {
    manager: ApiKeyManager,
    owner: String,
    reason: Option<String>,
    options: WriteOptions,
    started: StartedCall<bool>,
}

impl RevokeAll {
    pub(in crate::manager) fn new(manager: ApiKeyManager, owner: String) -> Self {
        Self {
            manager,
            owner,
            reason: None,
            options: WriteOptions::new(),
            started: StartedCall::none(),
        }
    }

    /// Sets the reason, which the records keep: 1 to 256 bytes. By default, no reason is kept.
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    origin_setters!();

    /// Waits until the revocation of all keys has reached all nodes. See
    /// [`RevokeKey::confirmed`](crate::manager::RevokeKey::confirmed).
    pub fn confirmed(self) -> ConfirmedCall<Self> {
        ConfirmedCall::new(self.manager.clone(), self)
    }

    async fn carry_out(self) -> Result<bool, Error> {
        let revocation = revocation(&self.manager, self.reason)?;
        let Self {
            owner, mut options, ..
        } = self;
        if options.origin.reason.is_none() {
            options.origin.reason.clone_from(&revocation.reason);
        }
        check_origin(&options.origin)?;
        let origin = options.origin;
        self.manager
            .on_thread(move |core| async move {
                match core.shared.store.owners() {
                    Some(owners) => {
                        let revocation = OwnerRevocation::new(revocation.at)
                            .with_reason(revocation.reason)
                            .with_actor(origin.actor.clone());
                        core.revoke_owner(owners, &owner, revocation, &origin).await
                    }
                    None => core.revoke_in_steps(owner, revocation, &origin).await,
                }
            })
            .await
    }
}

impl_call!(
    RevokeAll => bool,
    |call| Self::new(call.manager.clone(), String::new()),
    Self::carry_out
);

impl ManagerCore {
    async fn revoke_owner(
        &self,
        owners: &dyn OwnerStore,
        owner: &str,
        revocation: OwnerRevocation,
        origin: &ChangeOrigin,
    ) -> Result<bool, Error> {
        let revoke = async {
            let state = owners.revoke_owner_keys(owner, &revocation, origin).await?;
            answer::revoked_owner_of(owner, state)
        };
        let outcome = self.shared.call(StoreCall::RevokeOwnerKeys, revoke).await;
        match self.follow_owner_change(outcome).await {
            Ok(_) => {}
            Err(StoreError::NotFound) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        tracing::info!("revoked all keys of an owner");
        let reason = revocation.reason;
        self.emit_of_owner(EventKind::OwnerRevoked { reason }, owner, origin);
        self.poller.note_owner_change();
        // An older build reads the keys' records alone.
        if self.may_have_older_nodes().await {
            self.mark_now(owners).await?;
        }
        Ok(true)
    }

    async fn revoke_in_steps(
        &self,
        owner: String,
        revocation: Revocation,
        origin: &ChangeOrigin,
    ) -> Result<bool, Error> {
        let change = BulkChange::Revoke { owner, revocation };
        let done = self.change_in_steps(&change, origin).await?;
        tracing::info!(keys = done, "revoked all keys of an owner");
        Ok(done > 0)
    }
}
