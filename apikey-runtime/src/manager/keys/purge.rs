//! Removes records of keys that ended.

use crate::clock::Timestamp;
use crate::error::Error;
use crate::manager::ApiKeyManager;
use crate::manager::call::{StartedCall, impl_call};
use crate::manager::keys::bulk::BulkChange;
use crate::manager::validate::check_actor;

/// A call that removes records; see [`ApiKeyManager::purge`]. Resolves to the number of
/// removed keys.
#[derive(Debug)]
#[must_use = "records are removed only when this is awaited"]
pub struct PurgeKeys {
    manager: ApiKeyManager,
    before: Timestamp,
    actor: Option<String>,
    started: StartedCall<u64>,
}

impl PurgeKeys {
    pub(in crate::manager) fn new(manager: ApiKeyManager, before: Timestamp) -> Self {
        Self {
            manager,
            before,
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

    async fn carry_out(self) -> Result<u64, Error> {
        let Self {
            manager,
            before,
            actor,
            ..
        } = self;
        check_actor(actor.as_deref())?;
        let change = BulkChange::Purge { before };
        manager
            .on_thread(move |core| async move {
                let done = core.change_in_steps(&change, actor.as_deref()).await?;
                tracing::info!(keys = done, "removed the records of ended keys");
                Ok(done)
            })
            .await
    }
}

impl_call!(
    PurgeKeys => u64,
    |call| Self::new(call.manager.clone(), call.before),
    Self::carry_out
);
