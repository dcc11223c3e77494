//! Suspends and resumes owners.

use crate::audit::ChangeOrigin;
use crate::error::{Error, StoreError};
use crate::events::EventKind;
use crate::manager::ApiKeyManager;
use crate::manager::call::{StartedCall, impl_call, origin_setters};
use crate::manager::confirm::ConfirmedCall;
use crate::manager::core::ManagerCore;
use crate::manager::validate::check_origin;
use crate::metrics::StoreCall;
use crate::store::{WriteOptions, answer};

/// A call that suspends or resumes an owner; see [`ApiKeyManager::suspend_owner`] and
/// [`ApiKeyManager::resume_owner`]. Resolves to whether this call changed it.
#[derive(Debug)]
#[must_use = "the owner is changed only when this is awaited"]
pub struct SetOwnerSuspended {
    manager: ApiKeyManager,
    owner: String,
    suspended: bool,
    options: WriteOptions,
    started: StartedCall<bool>,
}

impl SetOwnerSuspended {
    pub(in crate::manager) fn new(manager: ApiKeyManager, owner: String, suspended: bool) -> Self {
        Self {
            manager,
            owner,
            suspended,
            options: WriteOptions::new(),
            started: StartedCall::none(),
        }
    }

    origin_setters!();

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
            options,
            started: _,
        } = self;
        check_origin(&options.origin)?;
        manager
            .on_thread(move |core| async move {
                core.set_owner_suspended(owner, suspended, &options.origin)
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
        origin: &ChangeOrigin,
    ) -> Result<bool, Error> {
        let owners = self.owners()?;
        if suspended {
            self.refuse_older_nodes().await?;
        }
        let set = async {
            let answer = owners
                .set_owner_suspended(&owner, suspended, origin)
                .await?;
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
            self.emit_of_owner(kind, &owner, origin);
        }
        Ok(changed)
    }
}
