//! Limits of keys.

use super::ApiKeyManager;
use crate::error::Error;
use crate::key::KeyId;
use crate::limit::{Limit, LimitRule, LimitStatus, check_limits};
use crate::metrics::StoreCall;
use crate::store::{LimitCounter, LimitSupport};

impl ApiKeyManager {
    /// How the limits of a key stand: its own, or, where it has none, the configured one. Charges
    /// nothing. Limits of routes are not among them. A rate that this process counts by itself is as
    /// this process has it.
    ///
    /// ```
    /// # use apikey_runtime::{ApiKeyManager, MemoryStore, Quota};
    /// # actix_web::rt::System::new().block_on(async {
    /// # let manager = ApiKeyManager::builder().store(MemoryStore::new()).start().await?;
    /// let key = manager.create("free").limit("daily", Quota::per_day(100)).await?;
    /// manager.verify(key.expose_secret()).await.expect("it is live");
    /// assert_eq!(manager.limits(key.id()).await?[0].remaining, 99);
    /// # Ok::<(), apikey_runtime::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], [`Error::Store`], [`Error::ShutDown`].
    pub async fn limits(&self, id: KeyId) -> Result<Vec<LimitStatus>, Error> {
        self.on_thread(move |core| async move {
            let record = core.find(id).await?;
            Ok(core.verifier.read_limits(id, &record.limits).await?)
        })
        .await
    }

    /// Gives a key back up to `amount` units of what it used of the quota of that name: credits that
    /// were bought, or a mistake that is made good. It never gets more than the quota; to give more,
    /// raise the quota with [`update`](Self::update).
    ///
    /// ```
    /// # use apikey_runtime::{ApiKeyManager, MemoryStore, Quota};
    /// # actix_web::rt::System::new().block_on(async {
    /// # let manager = ApiKeyManager::builder().store(MemoryStore::new()).start().await?;
    /// let key = manager.create("prepaid").limit("credits", Quota::lifetime(1)).await?;
    /// assert!(manager.verify(key.expose_secret()).await.is_ok());
    /// assert!(manager.verify(key.expose_secret()).await.is_err());
    ///
    /// manager.refill(key.id(), "credits", 1).await?;
    /// assert!(manager.verify(key.expose_secret()).await.is_ok());
    /// # Ok::<(), apikey_runtime::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]; [`Error::InvalidArgument`] where the key has no quota of that name;
    /// [`Error::Store`], [`Error::ShutDown`].
    pub async fn refill(&self, id: KeyId, name: &str, amount: u64) -> Result<(), Error> {
        let name = name.to_owned();
        self.on_thread(move |core| async move {
            let record = core.find(id).await?;
            let quota = |limit: &&Limit| {
                limit.name() == name && matches!(limit.rule(), LimitRule::Quota(_))
            };
            let Some(limit) = record.limits.iter().find(quota) else {
                return Err(Error::InvalidArgument(format!(
                    "the key `{id}` has no quota of the name {name:?}; `get` shows its limits"
                )));
            };
            let counter = LimitCounter::new(limit.name(), limit.rule());
            let refill = core.shared.store.refill(&id, &counter, amount);
            Ok(core.shared.call(StoreCall::Refill, refill).await?)
        })
        .await
    }

    /// Refuses limits that cannot be stored, or that the store cannot count.
    pub(super) fn check_limits(&self, limits: &[Limit]) -> Result<(), Error> {
        check_limits(limits)?;
        let quota = |limit: &&Limit| matches!(limit.rule(), LimitRule::Quota(_));
        match limits.iter().find(quota) {
            Some(limit) if self.0.core.shared.store.limit_support() == LimitSupport::Nothing => {
                Err(Error::InvalidArgument(format!(
                    "the limit `{}` is a quota, and the key store counts none; \
                     implement `KeyStore::charge`, or write a rate",
                    limit.name()
                )))
            }
            _ => Ok(()),
        }
    }
}
