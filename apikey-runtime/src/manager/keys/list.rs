//! Lists keys.

use crate::error::Error;
use crate::key::KeyId;
use crate::manager::ApiKeyManager;
use crate::manager::call::{StartedCall, impl_call};
use crate::record::{KeyRecord, KeyState};
use crate::store::{ListQuery, MAX_PAGE_SIZE};

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
///
/// The call reads the store's pages until its own page is full. If few keys match, one call may read
/// the whole store. Polls and other calls run in between, and a shutdown ends the call between two
/// pages.
///
/// Its errors are [`Error::InvalidArgument`] if the page size is invalid, [`Error::Store`] and
/// [`Error::ShutDown`].
#[derive(Debug, Clone)]
#[must_use = "keys are listed only when this is awaited"]
pub struct ListKeys {
    manager: ApiKeyManager,
    query: ListQuery,
    state: Option<KeyState>,
    started: StartedCall<KeyPage>,
}

impl ListKeys {
    pub(in crate::manager) fn new(manager: ApiKeyManager) -> Self {
        Self {
            manager,
            query: ListQuery::first(PAGE_SIZE),
            state: None,
            started: StartedCall::none(),
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

    /// Sets the maximum number of keys in a page, from 1 to 1000; with another number, the call
    /// returns [`Error::InvalidArgument`]. By default, 50.
    pub fn page_size(mut self, keys: u32) -> Self {
        self.query.limit = keys;
        self
    }

    /// Reads the store's pages until a page of the result is full. Stores do not evaluate the
    /// state, so this does.
    async fn read(self) -> Result<KeyPage, Error> {
        let Self {
            manager,
            mut query,
            state,
            ..
        } = self;
        if !(1..=MAX_PAGE_SIZE).contains(&query.limit) {
            return Err(Error::InvalidArgument(format!(
                "the page size is {}; write 1 to {MAX_PAGE_SIZE}, and read further pages with `after`",
                query.limit
            )));
        }
        let size = query.limit as usize;
        let now = manager.now().now;
        manager
            .on_thread(move |core| async move {
                let mut page = KeyPage::default();
                loop {
                    let read = core.shared.list(&query).await?;
                    page.unreadable.extend(read.unreadable);
                    for record in read.records {
                        if page.keys.len() == size {
                            // The page filled up within this read. The next starts after its last
                            // key.
                            page.next = page.keys.last().map(|last| last.id);
                            return Ok(page);
                        }
                        if state.is_none_or(|wanted| record.state_at(now) == wanted) {
                            page.keys.push(record);
                        }
                    }
                    page.next = read.next;
                    if page.keys.len() == size || read.next.is_none() {
                        return Ok(page);
                    }
                    query.after = read.next;
                    core.before_next_page().await?;
                }
            })
            .await
    }
}

impl_call!(ListKeys => KeyPage, |call| call.clone(), Self::read);
