//! Removes records of keys that ended.

use std::future::IntoFuture;

use crate::clock::Timestamp;
use crate::error::Error;
use crate::events::EventKind;
use crate::key::KeyId;
use crate::manager::validate::check_actor;
use crate::manager::{ApiKeyManager, BoxFuture};
use crate::metrics::StoreCall;

/// A call that removes records; see [`ApiKeyManager::purge`]. Resolves to the ids of the removed
/// keys.
#[derive(Debug)]
#[must_use = "records are removed only when this is awaited"]
pub struct PurgeKeys {
    manager: ApiKeyManager,
    before: Timestamp,
    actor: Option<String>,
}

impl PurgeKeys {
    pub(in crate::manager) fn new(manager: ApiKeyManager, before: Timestamp) -> Self {
        Self {
            manager,
            before,
            actor: None,
        }
    }

    /// Sets the actor that the change's [events](crate::ApiKeyManager::events) name: 1 to 256 bytes.
    /// By default, they do not name one.
    pub fn actor(mut self, actor: impl Into<String>) -> Self {
        self.actor = Some(actor.into());
        self
    }

    async fn carry_out(self) -> Result<Vec<KeyId>, Error> {
        let Self {
            manager,
            before,
            actor,
        } = self;
        check_actor(actor.as_deref())?;
        manager
            .on_thread(move |core| async move {
                let purge = core.shared.store.purge(before);
                let removed = core.shared.call(StoreCall::Purge, purge).await?;
                for id in &removed {
                    core.cache.evict(id);
                }
                for id in &removed {
                    core.emit(EventKind::Purged, *id, actor.as_deref());
                }
                Ok(removed)
            })
            .await
    }
}

impl IntoFuture for PurgeKeys {
    type Output = Result<Vec<KeyId>, Error>;
    type IntoFuture = BoxFuture<Vec<KeyId>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.carry_out())
    }
}
