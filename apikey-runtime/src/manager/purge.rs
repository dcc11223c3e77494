//! Removing records that nobody needs any more.

use std::future::IntoFuture;

use super::ApiKeyManager;
use super::checks::check_actor;
use super::create::Work;
use crate::clock::Timestamp;
use crate::error::Error;
use crate::events::EventKind;
use crate::key::KeyId;
use crate::metrics::StoreCall;

/// A removal of records being made; see [`ApiKeyManager::purge`]. Await it for the ids of the keys
/// that were removed.
#[derive(Debug)]
#[must_use = "nothing is removed until this is awaited"]
pub struct PurgeKeys {
    manager: ApiKeyManager,
    before: Timestamp,
    actor: Option<String>,
}

impl PurgeKeys {
    pub(super) fn new(manager: ApiKeyManager, before: Timestamp) -> Self {
        Self {
            manager,
            before,
            actor: None,
        }
    }

    /// Who removes them, for those who read [events](crate::ApiKeyManager::events): 1 to 256 bytes. By
    /// default, nobody is named.
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
    type IntoFuture = Work<Vec<KeyId>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.carry_out())
    }
}
