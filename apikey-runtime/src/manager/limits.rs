//! Calls on the limits of keys.

use super::ApiKeyManager;
use crate::error::Error;
use crate::key::KeyId;
use crate::limit::{Limit, LimitRule, LimitStatus, check_limits};
use crate::metrics::StoreCall;
use crate::store::LimitCounter;
use crate::util::text::quote;

impl ApiKeyManager {
    /// Returns the status of a key's limits: its own, or the default limit if it does not have any.
    ///
    /// The call does not charge the limits. Limits of routes are not included. The status of a rate
    /// that each process counts for itself is that of this process.
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
    /// Returns [`Error::NotFound`], [`Error::Store`] or [`Error::ShutDown`].
    pub async fn limits(&self, id: KeyId) -> Result<Vec<LimitStatus>, Error> {
        self.on_thread(move |core| async move {
            let record = core.find(id).await?;
            Ok(core.verifier.read_limits(id, &record.limits).await?)
        })
        .await
    }

    /// Refills a key's quota: gives back up to `amount` units that the key used, such as credits
    /// that were bought.
    ///
    /// The key never gets more than its quota. To give more, raise the quota with
    /// [`update`](Self::update).
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
    /// Returns [`Error::NotFound`], [`Error::InvalidArgument`] if the key does not have a quota of
    /// that name, [`Error::Store`] or [`Error::ShutDown`].
    pub async fn refill(&self, id: KeyId, name: &str, amount: u64) -> Result<(), Error> {
        let name = name.to_owned();
        self.on_thread(move |core| async move {
            let record = core.find(id).await?;
            let quota = |limit: &&Limit| {
                limit.name() == name && matches!(limit.rule(), LimitRule::Quota(_))
            };
            let Some(limit) = record.limits.iter().find(quota) else {
                return Err(Error::InvalidArgument(format!(
                    "the key `{id}` does not have a quota named {}; `get` shows its limits",
                    quote(&name)
                )));
            };
            let counter = LimitCounter::new(limit.name(), limit.rule());
            let refill = async { core.shared.limits()?.refill(&id, &counter, amount).await };
            Ok(core.shared.call(StoreCall::Refill, refill).await?)
        })
        .await
    }

    /// Rejects limits that cannot be stored, or that the store cannot count.
    pub(super) fn check_limits(&self, limits: &[Limit]) -> Result<(), Error> {
        check_limits(limits)?;
        let quota = |limit: &&Limit| matches!(limit.rule(), LimitRule::Quota(_));
        match limits.iter().find(quota) {
            Some(limit) if self.0.core.shared.limit_support.is_none() => {
                Err(Error::InvalidArgument(format!(
                    "the limit `{}` is a quota, and the key store does not count quotas; \
                     implement `LimitStore` for it, or write a rate",
                    limit.name()
                )))
            }
            _ => Ok(()),
        }
    }
}
