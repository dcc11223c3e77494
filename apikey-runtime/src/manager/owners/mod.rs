//! The calls that change all keys of an owner at once, and the task that marks revoked keys.

mod list;
mod live_keys;
mod marking;
mod older_nodes;
mod revoke_all;
mod suspend;

pub use list::ListOwners;
pub use revoke_all::RevokeAll;
pub use suspend::SetOwnerSuspended;

use super::ApiKeyManager;
use super::core::ManagerCore;
use crate::audit::ChangeOrigin;
use crate::error::{Error, StoreError};
use crate::events::{Event, EventKind};
use crate::metrics::StoreCall;
use crate::record::OwnerState;
use crate::store::OwnerStore;

impl ApiKeyManager {
    /// Revokes all keys that an owner has now, permanently, whatever their number. Resolves to whether
    /// the store knows the owner: `false` if it has never had a key.
    ///
    /// This is one change of the owner, with one event, and with the promises of
    /// [`revoke`](Self::revoke): when it returns `Ok`, no check that starts later with this manager
    /// accepts one of the keys, nor does a check elsewhere when the store's push, or the end of the
    /// lease, has reached its manager. The keys read as revoked from then on, with the time and the
    /// reason; a key that the owner gets later is not revoked. Managers write the revocation into the
    /// keys' records in the background.
    ///
    /// If the store does not keep [owners](crate::KeyStore::owners), the keys are revoked in steps, and
    /// the call resolves to whether a key was revoked: see [`RevokeAll`].
    ///
    /// ```
    /// # use apikey_runtime::{ApiKeyManager, MemoryStore};
    /// # actix_web::rt::System::new().block_on(async {
    /// # let manager = ApiKeyManager::builder().store(MemoryStore::new()).start().await?;
    /// let key = manager.create("ci").owner("acme").await?;
    /// assert!(manager.revoke_all("acme").reason("breach").confirmed().await?.value);
    /// assert!(manager.verify(key.expose_secret()).await.is_err());
    /// # Ok::<(), apikey_runtime::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// Its errors are [`Error::InvalidArgument`], [`Error::Store`] and [`Error::ShutDown`], and
    /// [`Error::Incomplete`] if it runs in steps. After an error, it is not known whether the keys are
    /// revoked: make the same call again.
    pub fn revoke_all(&self, owner: impl Into<String>) -> RevokeAll {
        RevokeAll::new(self.clone(), owner.into())
    }

    /// Suspends an owner: all its keys, also those that it gets later, are denied as disabled until
    /// [`resume_owner`](Self::resume_owner). Resolves to whether this call changed it (`false`: it was
    /// suspended before).
    ///
    /// It takes effect as a [revocation](Self::revoke) does. Each key keeps whether it is enabled.
    ///
    /// ```
    /// # use apikey_runtime::{ApiKeyManager, KeyState, MemoryStore};
    /// # use std::time::SystemTime;
    /// # actix_web::rt::System::new().block_on(async {
    /// # let manager = ApiKeyManager::builder().store(MemoryStore::new()).start().await?;
    /// let key = manager.create("ci").owner("acme").await?;
    /// manager.suspend_owner("acme").await?;
    /// let record = manager.get(key.id()).await?;
    /// assert_eq!(record.state_at(SystemTime::now()), KeyState::Suspended);
    /// manager.resume_owner("acme").await?;
    /// assert!(manager.verify(key.expose_secret()).await.is_ok());
    /// # Ok::<(), apikey_runtime::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// Its errors are [`Error::OwnerNotFound`], [`Error::InvalidArgument`], [`Error::Store`],
    /// [`Error::ShutDown`], and [`Error::Unsupported`] if the store does not keep
    /// [owners](crate::KeyStore::owners), or if an older build that does not know suspended owners runs
    /// on it.
    pub fn suspend_owner(&self, owner: impl Into<String>) -> SetOwnerSuspended {
        SetOwnerSuspended::new(self.clone(), owner.into(), true)
    }

    /// Ends a suspension of an owner: its keys are accepted again at once, on all managers. Resolves to
    /// whether this call changed it. Keys that were disabled or revoked stay so.
    ///
    /// Its errors are those of [`suspend_owner`](Self::suspend_owner).
    pub fn resume_owner(&self, owner: impl Into<String>) -> SetOwnerSuspended {
        SetOwnerSuspended::new(self.clone(), owner.into(), false)
    }

    /// Lists the owners that have ever had a key, in the order of their names: all, or those with a beginning of a name.
    /// Resolves to the first page.
    ///
    /// ```
    /// # use apikey_runtime::{ApiKeyManager, MemoryStore};
    /// # actix_web::rt::System::new().block_on(async {
    /// # let manager = ApiKeyManager::builder().store(MemoryStore::new()).start().await?;
    /// for owner in ["globex", "acme", "acid"] {
    ///     manager.create("ci").owner(owner).await?;
    /// }
    /// manager.suspend_owner("acme").await?;
    /// let page = manager.owners().starting_with("ac").await?;
    /// let listed: Vec<_> = page.owners.iter().map(|owner| (&*owner.name, owner.state.suspended)).collect();
    /// assert_eq!(listed, [("acid", false), ("acme", true)]);
    /// assert!(page.next.is_none());
    /// # Ok::<(), apikey_runtime::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn owners(&self) -> ListOwners {
        ListOwners::new(self.clone())
    }

    /// Reads the state of an owner from the store: how often all its keys were revoked, and whether
    /// they are suspended. Returns `None` if the owner has never had a key.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Unsupported`] if the store does not keep [owners](crate::KeyStore::owners),
    /// [`Error::Store`] or [`Error::ShutDown`].
    pub async fn owner_state(&self, owner: impl Into<String>) -> Result<Option<OwnerState>, Error> {
        let owner = owner.into();
        self.on_thread(move |core| async move {
            let read = core.owners()?.find_owner(&owner);
            Ok(core.shared.call(StoreCall::FindOwner, read).await?)
        })
        .await
    }
}

impl ManagerCore {
    /// Returns the store of owners.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Unsupported`] if the store does not have it.
    fn owners(&self) -> Result<&dyn OwnerStore, Error> {
        let store = &self.shared.store;
        store.owners().ok_or_else(|| {
            Error::Unsupported(format!(
                "the key store ({store:?}) does not keep owners; use a store of this crate, implement \
                 `KeyStore::owners`, or change each key of the owner by itself"
            ))
        })
    }

    /// Follows a change of an owner, by a poll: another node may have given a key to this owner, or to
    /// another, shortly before. After an error too, since the change may have been made and its answer
    /// lost.
    async fn follow_owner_change<T>(&self, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        let unchanged = matches!(
            answer,
            Err(StoreError::NotFound | StoreError::InvalidArgument(_))
        );
        if !unchanged && !self.poller.poll_now().await {
            self.cache.flush();
        }
        answer
    }

    /// Emits an event of a change of an owner that is durable and known to this cache.
    fn emit_of_owner(&self, kind: EventKind, owner: &str, origin: &ChangeOrigin) {
        self.events.emit(|| Event {
            at: self.shared.now().now,
            kind,
            key_id: None,
            owner: Some(owner.to_owned()),
            actor: origin.actor.clone(),
        });
    }
}
