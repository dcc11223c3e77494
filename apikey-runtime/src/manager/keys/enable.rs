//! Enables and disables keys.

use crate::error::Error;
use crate::events::EventKind;
use crate::key::KeyId;
use crate::manager::ApiKeyManager;
use crate::manager::call::{StartedCall, impl_call};
use crate::manager::confirm::ConfirmedCall;
use crate::manager::validate::check_actor;
use crate::record::KeyPatch;

/// A call that enables or disables a key; see [`ApiKeyManager::enable`] and
/// [`ApiKeyManager::disable`].
#[derive(Debug)]
#[must_use = "the key is changed only when this is awaited"]
pub struct SetKeyEnabled {
    manager: ApiKeyManager,
    id: KeyId,
    enabled: bool,
    actor: Option<String>,
    started: StartedCall<()>,
}

impl SetKeyEnabled {
    pub(in crate::manager) fn new(manager: ApiKeyManager, id: KeyId, enabled: bool) -> Self {
        Self {
            manager,
            id,
            enabled,
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
    /// accept a key that was disabled. See
    /// [`RevokeKey::confirmed`](super::RevokeKey::confirmed).
    pub fn confirmed(self) -> ConfirmedCall<Self> {
        ConfirmedCall::new(self.manager.clone(), self)
    }

    async fn carry_out(self) -> Result<(), Error> {
        let Self {
            manager,
            id,
            enabled,
            actor,
            started: _,
        } = self;
        check_actor(actor.as_deref())?;
        let mut patch = KeyPatch::new();
        patch.enabled = Some(enabled);
        let kind = if enabled {
            EventKind::Enabled
        } else {
            EventKind::Disabled
        };
        manager
            .on_thread(move |core| async move {
                core.find_unrevoked(id).await?;
                core.patch(id, &patch).await?;
                core.emit(kind, id, actor.as_deref());
                Ok(())
            })
            .await
    }
}

impl_call!(
    SetKeyEnabled => (),
    |call| Self::new(call.manager.clone(), call.id, call.enabled),
    Self::carry_out
);
