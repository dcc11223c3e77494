//! Suspends and resumes owners.

use crate::error::{Error, StoreError};
use crate::events::EventKind;
use crate::manager::ApiKeyManager;
use crate::manager::call::{StartedCall, impl_call};
use crate::manager::confirm::ConfirmedCall;
use crate::manager::core::ManagerCore;
use crate::manager::validate::check_actor;
use crate::metrics::StoreCall;
use crate::store::answer;

/// A call that suspends or resumes an owner; see [`ApiKeyManager::suspend_owner`] and
/// [`ApiKeyManager::resume_owner`]. Resolves to whether this call changed it.
#[derive(Debug)]
#[must_use = "the owner is changed only when this is awaited"]
pub struct SetOwnerSuspended {
    manager: ApiKeyManager,
    owner: String,
    suspended: bool,
    actor: Option<String>,
    started: StartedCall<bool>,
}

impl SetOwnerSuspended {
    pub(in crate::manager) fn new(manager: ApiKeyManager, owner: String, suspended: bool) -> Self {
        Self {
            manager,
            owner,
            suspended,
            actor: None,
            started: StartedCall::none(),
        }
    }

    /// Sets the actor that the change's [events](crate::ApiKeyManager::events) name: 1 to 256 bytes.
    /// By default, they do not name one.
    pub fn actor(mut self, actor: impl Into<String>) -> Self {
        self.actor = Some(actor.into());
        self
    }

    /// Waits until the change has reached all nodes: checks that start later, on any node, do not
    /// accept a key of an owner that was suspended. See
    /// [`RevokeKey::confirmed`](crate::manager::RevokeKey::confirmed).
    pub fn confirmed(self) -> ConfirmedCall<Self> {
        ConfirmedCall::new(self.manager.clone(), self)
    }

    async fn carry_out(self) -> Result<bool, Error> {
        let Self {
            manager,
            owner,
            suspended,
            actor,
            started: _,
        } = self;
        check_actor(actor.as_deref())?;
        manager
            .on_thread(move |core| async move {
                core.set_owner_suspended(owner, suspended, actor.as_deref())
                    .await
            })
            .await
    }
}

impl_call!(
    SetOwnerSuspended => bool,
    |call| Self::new(call.manager.clone(), String::new(), call.suspended),
    Self::carry_out
);

impl ManagerCore {
    async fn set_owner_suspended(
        &self,
        owner: String,
        suspended: bool,
        actor: Option<&str>,
    ) -> Result<bool, Error> {
        let owners = self.owners()?;
        if suspended {
            self.refuse_older_nodes().await?;
        }
        let set = async {
            let answer = owners.set_owner_suspended(&owner, suspended).await?;
            answer::suspended_owner_of(&owner, suspended, answer)
        };
        let outcome = self.shared.call(StoreCall::SuspendOwner, set).await;
        let changed = match self.follow_owner_change(outcome).await {
            Ok((_, changed)) => changed,
            Err(StoreError::NotFound) => return Err(Error::OwnerNotFound(owner)),
            Err(error) => return Err(error.into()),
        };
        tracing::info!(suspended, newly = changed, "suspended or resumed an owner");
        if changed {
            let kind = match suspended {
                true => EventKind::OwnerSuspended,
                false => EventKind::OwnerResumed,
            };
            self.emit_of_owner(kind, &owner, actor);
        }
        Ok(changed)
    }
}
