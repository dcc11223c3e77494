//! Ends the grace of a key's old secret.

use std::sync::Arc;

use super::TRIES;
use crate::error::Error;
use crate::events::EventKind;
use crate::key::KeyId;
use crate::manager::ApiKeyManager;
use crate::manager::call::{StartedCall, condition_setters, impl_call, origin_setters};
use crate::manager::confirm::ConfirmedCall;
use crate::manager::core::ManagerCore;
use crate::manager::validate::check_origin;
use crate::record::KeyPatch;
use crate::store::WriteOptions;

/// A call that ends the grace of a key's old secret; see [`ApiKeyManager::end_grace`]. Resolves to
/// whether an old secret was in its grace.
#[derive(Debug)]
#[must_use = "the grace is ended only when this is awaited"]
pub struct EndGrace {
    manager: ApiKeyManager,
    id: KeyId,
    options: WriteOptions,
    started: StartedCall<bool>,
}

impl EndGrace {
    pub(in crate::manager) fn new(manager: ApiKeyManager, id: KeyId) -> Self {
        Self {
            manager,
            id,
            options: WriteOptions::new(),
            started: StartedCall::none(),
        }
    }

    origin_setters!();
    condition_setters!();

    /// Waits until the change has reached all nodes: checks that start later, on any node, do not
    /// accept the old secret. See [`RevokeKey::confirmed`](super::RevokeKey::confirmed).
    pub fn confirmed(self) -> ConfirmedCall<Self> {
        ConfirmedCall::new(self.manager.clone(), self)
    }

    async fn carry_out(self) -> Result<bool, Error> {
        check_origin(&self.options.origin)?;
        let manager = self.manager.clone();
        manager.on_thread(move |core| self.end(core)).await
    }

    /// Ends the grace that was read first, and not that of a rotation which comes between.
    async fn end(self, core: Arc<ManagerCore>) -> Result<bool, Error> {
        let mut rotations = None;
        for _ in 0..TRIES {
            let record = core.find_unrevoked(self.id, &self.options).await?;
            if *rotations.get_or_insert(record.rotations) != record.rotations {
                break;
            }
            let now = core.shared.now().now;
            if record.previous.is_none_or(|previous| previous.until <= now) {
                return Ok(false);
            }
            let mut options = self.options.clone();
            options.expected_version = Some(record.version);
            let reason = options.origin.reason.clone();
            match core.forget_previous(self.id, reason, &options).await {
                Ok(()) => return Ok(true),
                Err(Error::Conflict(_)) if self.options.expected_version.is_none() => {}
                Err(other) => return Err(other),
            }
        }
        Err(Error::Conflict(self.id))
    }
}

impl_call!(
    EndGrace => bool,
    |call| Self::new(call.manager.clone(), call.id),
    Self::carry_out
);

impl ManagerCore {
    /// Removes a key's old secret, and says that its grace was ended.
    pub(super) async fn forget_previous(
        &self,
        id: KeyId,
        reason: Option<String>,
        options: &WriteOptions,
    ) -> Result<(), Error> {
        let mut patch = KeyPatch::new();
        patch.previous = Some(None);
        self.patch(id, &patch, options).await?;
        tracing::info!(key_id = %id, "the grace of a superseded secret was ended");
        self.emit(EventKind::GraceEnded { reason }, id, &options.origin);
        Ok(())
    }
}
