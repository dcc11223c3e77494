//! Reads which nodes use the store.

use super::ApiKeyManager;
use crate::error::Error;
use crate::metrics::StoreCall;
use crate::store::Node;

impl ApiKeyManager {
    /// Reads the nodes that use the store, this one among them, by their ids: a node for each manager that has
    /// started and has not left, or that was not removed after it died.
    ///
    /// ```
    /// # use apikey_runtime::{ApiKeyManager, MemoryStore};
    /// # actix_web::rt::System::new().block_on(async {
    /// let manager = ApiKeyManager::builder().store(MemoryStore::new()).start().await?;
    /// assert_eq!(manager.members().await?.len(), 1);
    /// # Ok::<(), apikey_runtime::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`Error::Unsupported`] if the store does not keep a
    /// [member list](crate::KeyStore::membership), [`Error::Store`] or [`Error::ShutDown`].
    pub async fn members(&self) -> Result<Vec<Node>, Error> {
        self.on_thread(|core| async move {
            let store = &core.shared.store;
            let membership = store.membership().ok_or_else(|| {
                Error::Unsupported(format!(
                    "the key store ({store:?}) does not keep a member list; use a store of this crate, or implement \
                     `KeyStore::membership`"
                ))
            })?;
            let read = membership.members();
            let mut members = core.shared.call(StoreCall::Members, read).await?;
            members.nodes.sort_by_key(|node| node.id);
            Ok(members.nodes)
        })
        .await
    }
}
