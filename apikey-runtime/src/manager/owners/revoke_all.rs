//! Revokes all keys of an owner.

use crate::error::{Error, StoreError};
use crate::events::EventKind;
use crate::manager::ApiKeyManager;
use crate::manager::call::{StartedCall, impl_call};
use crate::manager::confirm::ConfirmedCall;
use crate::manager::core::ManagerCore;
use crate::manager::keys::{BulkChange, revocation};
use crate::manager::validate::check_actor;
use crate::metrics::StoreCall;
use crate::record::{OwnerRevocation, Revocation};
use crate::store::{OwnerStore, answer};

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
    actor: Option<String>,
    started: StartedCall<bool>,
}

impl RevokeAll {
    pub(in crate::manager) fn new(manager: ApiKeyManager, owner: String) -> Self {
        Self {
            manager,
            owner,
            reason: None,
            actor: None,
            started: StartedCall::none(),
        }
    }

    /// Sets the reason, which the records keep: 1 to 256 bytes. By default, no reason is kept.
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// Sets the actor that the change's [events](crate::ApiKeyManager::events) name: 1 to 256 bytes.
    /// By default, they do not name one.
    pub fn actor(mut self, actor: impl Into<String>) -> Self {
        self.actor = Some(actor.into());
        self
    }

    /// Waits until the revocation of all keys has reached all nodes. See
    /// [`RevokeKey::confirmed`](crate::manager::RevokeKey::confirmed).
    pub fn confirmed(self) -> ConfirmedCall<Self> {
        ConfirmedCall::new(self.manager.clone(), self)
    }

    async fn carry_out(self) -> Result<bool, Error> {
        let revocation = revocation(&self.manager, self.reason)?;
        let Self { owner, actor, .. } = self;
        check_actor(actor.as_deref())?;
        self.manager
            .on_thread(move |core| async move {
                match core.shared.store.owners() {
                    Some(owners) => {
                        let revocation = OwnerRevocation::new(revocation.at)
                            .with_reason(revocation.reason)
                            .with_actor(actor);
                        core.revoke_owner(owners, &owner, revocation).await
                    }
                    None => core.revoke_in_steps(owner, revocation, actor).await,
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
    ) -> Result<bool, Error> {
        let revoke = async {
            let state = owners.revoke_owner_keys(owner, &revocation).await?;
            answer::revoked_owner_of(owner, state)
        };
        let outcome = self.shared.call(StoreCall::RevokeOwnerKeys, revoke).await;
        match self.follow_owner_change(outcome).await {
            Ok(_) => {}
            Err(StoreError::NotFound) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        tracing::info!("revoked all keys of an owner");
        let OwnerRevocation { reason, actor, .. } = revocation;
        self.emit_of_owner(EventKind::OwnerRevoked { reason }, owner, actor.as_deref());
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
        actor: Option<String>,
    ) -> Result<bool, Error> {
        let change = BulkChange::Revoke { owner, revocation };
        let done = self.change_in_steps(&change, actor.as_deref()).await?;
        tracing::info!(keys = done, "revoked all keys of an owner");
        Ok(done > 0)
    }
}
