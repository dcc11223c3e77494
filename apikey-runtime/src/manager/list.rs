//! Listing keys.

use std::future::IntoFuture;

use super::ApiKeyManager;
use super::create::Work;
use crate::error::Error;
use crate::key::KeyId;
use crate::metrics::StoreCall;
use crate::record::{KeyRecord, KeyState};
use crate::store::ListQuery;

/// How many records a page has unless it is said.
const PAGE_SIZE: u32 = 50;

/// A page of keys.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct KeyPage {
    /// The keys, in the order of their ids.
    pub keys: Vec<KeyRecord>,
    /// The ids of records that are in the store and cannot be read; no such key is ever accepted.
    pub unreadable: Vec<String>,
    /// For [`ListKeys::after`], to get the next page; `None` on the last.
    pub next: Option<KeyId>,
}

/// A list of keys being asked for; see [`ApiKeyManager::list`]. Await it.
#[derive(Debug, Clone)]
#[must_use = "nothing is read until this is awaited"]
pub struct ListKeys {
    manager: ApiKeyManager,
    query: ListQuery,
    state: Option<KeyState>,
}

impl ListKeys {
    pub(super) fn new(manager: ApiKeyManager) -> Self {
        Self {
            manager,
            query: ListQuery::first(PAGE_SIZE),
            state: None,
        }
    }

    /// Only keys of this owner. By default, all.
    pub fn owner(mut self, owner: impl Into<String>) -> Self {
        self.query.owner = Some(owner.into());
        self
    }

    /// Only keys with exactly this label. By default, all.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.query.label = Some(label.into());
        self
    }

    /// Only keys that are in this state now. By default, all.
    pub fn state(mut self, state: KeyState) -> Self {
        self.state = Some(state);
        self
    }

    /// Only keys after this one: [`KeyPage::next`] of the page before. By default, from the first.
    pub fn after(mut self, id: impl Into<Option<KeyId>>) -> Self {
        self.query.after = id.into();
        self
    }

    /// How many keys a page has at most, from 1 to 1000. By default, 50.
    pub fn page_size(mut self, keys: u32) -> Self {
        self.query.limit = keys.clamp(1, 1_000);
        self
    }

    /// Reads pages of the store until one of ours is full: a state is judged here, and not by
    /// stores.
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
                            // The page filled up within this read; the next starts after its last
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
    type IntoFuture = Work<KeyPage>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.read())
    }
}
