//! The manager's events.

use super::ApiKeyManager;
use crate::events::EventStream;

impl ApiKeyManager {
    /// Subscribes to the events of this manager: keys that it created, changed, rotated, revoked,
    /// enabled, disabled or purged, owners whose keys it revoked, suspended or resumed, requests
    /// that it denied, and keys of the store that [expire soon](crate::guide::end_of_a_key). Allowed requests do not
    /// emit events.
    ///
    /// The event of a change is emitted when the change is durable and known to this manager's cache:
    /// for `purge`, step by step. A failed change or step does not emit events, although it may have
    /// been made if the store's answer was lost. Changes made by another process are emitted there.
    ///
    /// Each subscriber receives all events from now on, and never delays the manager: up to 1024
    /// events are buffered, then the oldest is dropped, and a subscriber that is behind learns how
    /// many events it [missed](crate::events::EventKind::Lagged). Without subscribers, events are
    /// not created.
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
    /// let created = events.next().await.expect("an event before the end");
    /// assert_eq!((created.kind, created.actor.as_deref()), (EventKind::Created, Some("alice")));
    /// let revoked = events.next().await.expect("an event before the end");
    /// assert_eq!(revoked.key_id, Some(key.id()));
    /// assert_eq!(events.next().await, None);
    /// # Ok::<(), apikey_runtime::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn events(&self) -> EventStream {
        self.0.core.events.subscribe()
    }
}
