//! Enables and disables keys.

use std::sync::Arc;

use super::TRIES;
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
use crate::manager::validate::check_origin;
use crate::record::KeyPatch;
use crate::scope::Scopes;
use crate::store::WriteOptions;

/// A call that enables or disables a key; see [`ApiKeyManager::enable`] and
/// [`ApiKeyManager::disable`].
#[derive(Debug)]
#[must_use = "the key is changed only when this is awaited"]
pub struct SetKeyEnabled {
    manager: ApiKeyManager,
    id: KeyId,
    enabled: bool,
    options: WriteOptions,
    granted_by: Option<Scopes>,
    started: StartedCall<()>,
}

impl SetKeyEnabled {
    pub(in crate::manager) fn new(manager: ApiKeyManager, id: KeyId, enabled: bool) -> Self {
        Self {
            manager,
            id,
            enabled,
            options: WriteOptions::new(),
            granted_by: None,
            started: StartedCall::none(),
        }
    }

    origin_setters!();
    condition_setters!();
    holder_setter!("A key is disabled whatever its scopes are.");

    /// Waits until the change has reached all nodes: checks that start later, on any node, do not
    /// accept a key that was disabled. See
    /// [`RevokeKey::confirmed`](super::RevokeKey::confirmed).
    pub fn confirmed(self) -> ConfirmedCall<Self> {
        ConfirmedCall::new(self.manager.clone(), self)
    }

    async fn carry_out(self) -> Result<(), Error> {
        check_origin(&self.options.origin)?;
        let manager = self.manager.clone();
        manager.on_thread(move |core| self.set(core)).await
    }

    /// Enables a key only if it did not change since it was read: it may be revoked meanwhile, or get scopes
    /// that the holder lacks.
    async fn set(self, core: Arc<ManagerCore>) -> Result<(), Error> {
        let mut patch = KeyPatch::new();
        patch.enabled = Some(self.enabled);
        patch.enabled_at = self.enabled.then(|| core.shared.now().now);
        let held = self.granted_by.as_ref().filter(|_| self.enabled);
        for _ in 0..TRIES {
            let record = core.find_unrevoked(self.id, &self.options).await?;
            judge_holder(held, &record.scopes)?;
            let mut options = self.options.clone();
            if self.enabled {
                options.expected_version = Some(record.version);
            }
            match core.patch(self.id, &patch, &options).await {
                Ok(()) => {
                    let kind = match self.enabled {
                        true => EventKind::Enabled,
                        false => EventKind::Disabled,
                    };
                    core.emit(kind, self.id, &options.origin);
                    return Ok(());
                }
                Err(Error::Conflict(_)) if self.options.expected_version.is_none() => {}
                Err(other) => return Err(other),
            }
        }
        Err(Error::Conflict(self.id))
    }
}

impl_call!(
    SetKeyEnabled => (),
    |call| Self::new(call.manager.clone(), call.id, call.enabled),
    Self::carry_out
);
