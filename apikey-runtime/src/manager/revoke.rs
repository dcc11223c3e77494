//! Revoking keys.

use std::future::IntoFuture;

use super::ApiKeyManager;
use super::checks::{check_actor, check_text};
use super::confirm::ConfirmedCall;
use super::core::{ManagerCore, missing};
use super::create::Work;
use crate::error::Error;
use crate::events::EventKind;
use crate::key::KeyId;
use crate::metrics::StoreCall;
use crate::record::Revocation;

/// A revocation being made; see [`ApiKeyManager::revoke`]. Await it for whether this call did it
/// (`false`: it was revoked before).
#[derive(Debug)]
#[must_use = "nothing is revoked until this is awaited"]
pub struct RevokeKey {
    manager: ApiKeyManager,
    id: KeyId,
    reason: Option<String>,
    actor: Option<String>,
}

impl RevokeKey {
    pub(super) fn new(manager: ApiKeyManager, id: KeyId) -> Self {
        Self {
            manager,
            id,
            reason: None,
            actor: None,
        }
    }

    /// The reason: 1 to 256 bytes, for those who read the record. By default, nothing is said.
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// Who revokes the key, for those who read [events](crate::ApiKeyManager::events): 1 to 256 bytes. By
    /// default, nobody is named.
    pub fn actor(mut self, actor: impl Into<String>) -> Self {
        self.actor = Some(actor.into());
        self
    }

    /// Returns only when the revocation has reached every node that uses the store: from then on no
    /// check that *starts* anywhere accepts the key, with the store's push broken, nodes paused or
    /// cut off.
    ///
    /// It waits until each node on the store's list has said that it dropped what changed, which
    /// takes milliseconds; or until the longest lease that a node may hold has ended (a thousandth
    /// and 5 ms more, for clocks that run apart). Where the store gives no answer after the change
    /// was made, it waits for up to 60 seconds, the longest lease that there can be.
    ///
    /// A call that is dropped on the way has revoked the key, or does so still.
    pub fn confirmed(self) -> ConfirmedCall<Self> {
        ConfirmedCall::new(self.manager.clone(), self)
    }
}

impl IntoFuture for RevokeKey {
    type Output = Result<bool, Error>;
    type IntoFuture = Work<bool>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let revocation = revocation(&self.manager, self.reason)?;
            let Self { id, actor, .. } = self;
            check_actor(actor.as_deref())?;
            self.manager
                .on_thread(move |core| async move {
                    core.revoke(id, revocation, actor.as_deref()).await
                })
                .await
        })
    }
}

/// A revocation of all keys of an owner; see [`ApiKeyManager::revoke_all`]. Await it for the ids of
/// those that this call revoked.
#[derive(Debug)]
#[must_use = "nothing is revoked until this is awaited"]
pub struct RevokeAll {
    manager: ApiKeyManager,
    owner: String,
    reason: Option<String>,
    actor: Option<String>,
}

impl RevokeAll {
    pub(super) fn new(manager: ApiKeyManager, owner: String) -> Self {
        Self {
            manager,
            owner,
            reason: None,
            actor: None,
        }
    }

    /// The reason: 1 to 256 bytes, for those who read the records. By default, nothing is said.
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// Who revokes the keys, for those who read [events](crate::ApiKeyManager::events): 1 to 256 bytes. By
    /// default, nobody is named.
    pub fn actor(mut self, actor: impl Into<String>) -> Self {
        self.actor = Some(actor.into());
        self
    }

    /// Returns only when the revocations have reached every node. See [`RevokeKey::confirmed`].
    pub fn confirmed(self) -> ConfirmedCall<Self> {
        ConfirmedCall::new(self.manager.clone(), self)
    }
}

impl IntoFuture for RevokeAll {
    type Output = Result<Vec<KeyId>, Error>;
    type IntoFuture = Work<Vec<KeyId>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let revocation = revocation(&self.manager, self.reason)?;
            let Self { owner, actor, .. } = self;
            check_actor(actor.as_deref())?;
            self.manager
                .on_thread(move |core| async move {
                    let actor = actor.as_deref();
                    core.revoke_owner(&owner, &revocation, actor).await
                })
                .await
        })
    }
}

impl ManagerCore {
    async fn revoke(
        &self,
        id: KeyId,
        revocation: Revocation,
        actor: Option<&str>,
    ) -> Result<bool, Error> {
        let revoke = self.shared.store.revoke(&id, &revocation);
        let outcome = self.shared.call(StoreCall::Revoke, revoke).await;
        self.cache.evict(&id);
        let revoked = outcome.map_err(|error| missing(error, id))?;
        tracing::info!(key_id = %id, newly = revoked, "revoked");
        if revoked {
            let reason = revocation.reason;
            self.emit(EventKind::Revoked { reason }, id, actor);
        }
        Ok(revoked)
    }

    async fn revoke_owner(
        &self,
        owner: &str,
        revocation: &Revocation,
        actor: Option<&str>,
    ) -> Result<Vec<KeyId>, Error> {
        let revoke = self.shared.store.revoke_owner(owner, revocation);
        match self.shared.call(StoreCall::RevokeOwner, revoke).await {
            Ok(ids) => {
                ids.iter().for_each(|id| self.cache.evict(id));
                // Keys of the owner that others revoked before are not among them, and this node
                // may not have heard of that yet.
                if !self.poller.poll_now().await {
                    self.cache.flush();
                }
                tracing::info!(keys = ids.len(), "revoked all keys of an owner");
                for id in &ids {
                    let reason = revocation.reason.clone();
                    self.emit(EventKind::Revoked { reason }, *id, actor);
                }
                Ok(ids)
            }
            Err(error) => {
                // Which keys it would have been is not known here.
                self.cache.flush();
                Err(error.into())
            }
        }
    }
}

fn revocation(manager: &ApiKeyManager, reason: Option<String>) -> Result<Revocation, Error> {
    reason.as_deref().map_or(Ok(()), |reason| {
        check_text("reason for the revocation", reason)
    })?;
    Ok(Revocation {
        at: manager.now().now,
        reason,
    })
}
