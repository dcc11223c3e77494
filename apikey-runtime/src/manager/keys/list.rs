//! Lists keys.

use std::future::IntoFuture;

use crate::error::Error;
use crate::key::KeyId;
use crate::manager::{ApiKeyManager, BoxFuture};
use crate::metrics::StoreCall;
use crate::record::{KeyRecord, KeyState};
use crate::store::ListQuery;

/// The default page size.
const PAGE_SIZE: u32 = 50;

/// A page of keys.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct KeyPage {
    /// The keys, in the order of their ids.
    pub keys: Vec<KeyRecord>,
    /// The ids of records in the store that cannot be read. Such keys are always denied.
    pub unreadable: Vec<String>,
    /// The argument of [`ListKeys::after`] for the next page; `None` on the last.
    pub next: Option<KeyId>,
}

/// A call that lists keys; see [`ApiKeyManager::list`]. Resolves to a page.
#[derive(Debug, Clone)]
#[must_use = "keys are listed only when this is awaited"]
pub struct ListKeys {
    manager: ApiKeyManager,
    query: ListQuery,
    state: Option<KeyState>,
}

impl ListKeys {
    pub(in crate::manager) fn new(manager: ApiKeyManager) -> Self {
        Self {
            manager,
            query: ListQuery::first(PAGE_SIZE),
            state: None,
        }
    }

    /// Selects keys of this owner. By default, all.
    pub fn owner(mut self, owner: impl Into<String>) -> Self {
        self.query.owner = Some(owner.into());
        self
    }

    /// Selects keys with exactly this label. By default, all.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.query.label = Some(label.into());
        self
    }

    /// Selects keys that are in this state now. By default, all.
    pub fn state(mut self, state: KeyState) -> Self {
        self.state = Some(state);
        self
    }

    /// Starts after this key: [`KeyPage::next`] of the previous page. By default, at the first key.
    pub fn after(mut self, id: impl Into<Option<KeyId>>) -> Self {
        self.query.after = id.into();
        self
    }

    /// Sets the maximum number of keys in a page, from 1 to 1000. By default, 50.
    pub fn page_size(mut self, keys: u32) -> Self {
        self.query.limit = keys.clamp(1, 1_000);
        self
    }

    /// Reads the store's pages until a page of the result is full. Stores do not evaluate the
    /// state, so this does.
    async fn read(self) -> Result<KeyPage, Error> {
        let Self {
            manager,
            mut query,
            state,
        } = self;
        let size = query.limit as usize;
        let now = manager.now();
        manager
            .on_thread(move |core| async move {
                let mut page = KeyPage::default();
                loop {
                    let read = core
                        .shared
                        .call(StoreCall::List, core.shared.store.list(&query))
                        .await?;
                    page.unreadable.extend(read.unreadable);
                    for record in read.records {
                        if page.keys.len() == size {
                            // The page filled up within this read. The next starts after its last
                            // key.
                            page.next = page.keys.last().map(|last| last.id);
                            return Ok(page);
                        }
                        if state.is_none_or(|wanted| record.state(now) == wanted) {
                            page.keys.push(record);
                        }
                    }
                    page.next = read.next;
                    if page.keys.len() == size || read.next.is_none() {
                        return Ok(page);
                    }
                    query.after = read.next;
                }
            })
            .await
    }
}

impl IntoFuture for ListKeys {
    type Output = Result<KeyPage, Error>;
    type IntoFuture = BoxFuture<KeyPage>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.read())
    }
}
