//! Lists owners.

use crate::error::Error;
use crate::manager::ApiKeyManager;
use crate::manager::call::{StartedCall, impl_call};
use crate::metrics::StoreCall;
use crate::store::{MAX_PAGE_SIZE, OwnerPage, OwnerQuery, answer};

/// The default page size.
const PAGE_SIZE: u32 = 50;

/// A call that lists owners; see [`ApiKeyManager::owners`]. Resolves to a page, in the order of the names, byte by byte.
///
/// Its errors are [`Error::Unsupported`] if the store does not keep [owners](crate::KeyStore::owners),
/// [`Error::InvalidArgument`], [`Error::Store`] and [`Error::ShutDown`].
#[derive(Debug, Clone)]
#[must_use = "owners are listed only when this is awaited"]
pub struct ListOwners {
    manager: ApiKeyManager,
    query: OwnerQuery,
    started: StartedCall<OwnerPage>,
}

impl ListOwners {
    pub(in crate::manager) fn new(manager: ApiKeyManager) -> Self {
        Self {
            manager,
            query: OwnerQuery::first(PAGE_SIZE),
            started: StartedCall::none(),
        }
    }

    /// Selects owners whose name begins with this text, byte by byte, so in the same case. By default, all.
    pub fn starting_with(mut self, beginning: impl Into<String>) -> Self {
        self.query.starting_with = beginning.into();
        self
    }

    /// Starts after this name: [`OwnerPage::next`] of the previous page. An owner with this name need not exist. By
    /// default, at the first owner.
    pub fn after(mut self, name: impl Into<Option<String>>) -> Self {
        self.query.after = name.into();
        self
    }

    /// Sets the maximum number of owners in a page, from 1 to 1000; with another number, the call returns
    /// [`Error::InvalidArgument`]. By default, 50.
    pub fn page_size(mut self, owners: u32) -> Self {
        self.query.limit = owners;
        self
    }

    async fn read(self) -> Result<OwnerPage, Error> {
        let Self { manager, query, .. } = self;
        if !(1..=MAX_PAGE_SIZE).contains(&query.limit) {
            return Err(Error::InvalidArgument(format!(
                "the page size is {}; write 1 to {MAX_PAGE_SIZE}, and read further pages with `after`",
                query.limit
            )));
        }
        manager
            .on_thread(move |core| async move {
                let owners = core.owners()?;
                let list =
                    async { answer::owner_page_of(&query, owners.list_owners(&query).await?) };
                Ok(core.shared.call(StoreCall::ListOwners, list).await?)
            })
            .await
    }
}

impl_call!(ListOwners => OwnerPage, |call| call.clone(), Self::read);
