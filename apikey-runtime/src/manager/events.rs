//! Telling what happened.

use super::ApiKeyManager;
use crate::events::EventStream;

impl ApiKeyManager {
    /// Begins to listen to what happens to this manager's keys: what was created, changed, rotated,
    /// revoked, switched or removed through it, and every request that it refused. A key that is
    /// let through makes no event.
    ///
    /// An event of a change comes when the change is durable and dropped from this manager's memory;
    /// a change that failed makes none, though where the store's answer was lost it may have been
    /// made. Changes that another process makes are told there.
    ///
    /// Each reader hears all that is told from now on, and nobody waits for it: up to 1024 events
    /// are kept, the oldest is lost, and a reader that is behind learns how many it has
    /// [missed](EventKind::Lagged). With nobody listening no event is made.
    ///
    /// ```
    /// use apikey_runtime::{ApiKeyManager, MemoryStore};
    /// use apikey_runtime::events::EventKind;
    ///
    /// # actix_web::rt::System::new().block_on(async {
    /// let manager = ApiKeyManager::builder().store(MemoryStore::new()).start().await?;
    /// let mut events = manager.events();
    ///
    /// let key = manager.create("ci").actor("alice").await?;
    /// manager.revoke(key.id()).reason("leaked").actor("bob").await?;
    /// manager.shutdown().await?;
    ///
    /// let created = events.next().await.expect("told before the end");
    /// assert_eq!((created.kind, created.actor.as_deref()), (EventKind::Created, Some("alice")));
    /// let revoked = events.next().await.expect("told before the end");
    /// assert_eq!(revoked.key_id, Some(key.id()));
    /// assert_eq!(events.next().await, None);
    /// # Ok::<(), apikey_runtime::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn events(&self) -> EventStream {
        self.0.core.events.subscribe()
    }
}
