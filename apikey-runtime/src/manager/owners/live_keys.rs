//! Counts the live keys of an owner.

use crate::error::Error;
use crate::manager::ApiKeyManager;
use crate::metrics::StoreCall;
use crate::store::answer;

impl ApiKeyManager {
    /// Counts the [live](crate::KeyRecord::is_live) keys of an owner, up to `max`. Returns 0 for an owner that has never
    /// had a key.
    ///
    /// ```
    /// # use apikey_runtime::{ApiKeyManager, MemoryStore};
    /// # actix_web::rt::System::new().block_on(async {
    /// let manager = ApiKeyManager::builder().store(MemoryStore::new()).start().await?;
    /// manager.create("ci").owner("acme").await?;
    /// assert_eq!(manager.live_keys("acme", 1_000).await?, 1);
    /// # Ok::<(), apikey_runtime::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`Error::Unsupported`] if the store does not keep [owners](crate::KeyStore::owners),
    /// [`Error::Store`] or [`Error::ShutDown`].
    pub async fn live_keys(&self, owner: impl Into<String>, max: u32) -> Result<u32, Error> {
        let owner = owner.into();
        self.on_thread(move |core| async move {
            let owners = core.owners()?;
            let count = async {
                let count = owners.count_live_keys(&owner, max).await?;
                answer::live_keys_of(&owner, max, count)
            };
            Ok(core.shared.call(StoreCall::CountLiveKeys, count).await?)
        })
        .await
    }
}
