//! Lists keys.

use super::selection::KeySelection;
use crate::clock::Timestamp;
use crate::error::Error;
use crate::manager::ApiKeyManager;
use crate::manager::call::{StartedCall, impl_call};
use crate::manager::core::ManagerCore;
use crate::metrics::StoreCall;
use crate::record::{KeyRecord, KeyState};
use crate::store::{LastUsed, ListCursor, ListQuery, MAX_PAGE_SIZE, answer};

/// The default page size.
const PAGE_SIZE: u32 = 50;

/// The maximum number of records that one call reads to find those that its filters select.
const MAX_ROWS: u32 = 1_000;

/// The number of records that a call with filters reads at once, unless its page is larger.
const ROWS: u32 = 100;

/// The number up to which live keys are counted for a page.
const MAX_COUNT: u32 = 10_000;

/// A page of keys.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct KeyPage {
    /// The keys, in the order of [`ListKeys`].
    pub keys: Vec<KeyRecord>,
    /// The ids of records in the store that cannot be read. Such keys are always denied.
    /// The next page may have an id again: it starts after the last key of this one, and the record may follow that key.
    pub unreadable: Vec<String>,
    /// The argument of [`ListKeys::after`] for the next page; `None` on the last.
    pub next: Option<ListCursor>,
    /// When the keys of the page were last allowed, in any order, without those that never were. Their
    /// states depend on it: see [`ApiKeyManager::state_of`].
    /// Empty without [`ListKeys::with_usage`].
    pub last_used: Vec<LastUsed>,
    /// How many live keys the owner of the list has, counted up to 10,000. `None` without
    /// [`ListKeys::with_usage`] or an owner, or if the store does not keep
    /// [owners](crate::KeyStore::owners).
    pub live_keys: Option<u32>,
}

/// A call that lists keys; see [`ApiKeyManager::list`]. Resolves to a page.
///
/// A key must match all filters that are set. The store finds the keys of one of them by an index, and
/// the manager checks the others. The first row of this table that applies is the filter of the index,
/// and sets the order:
///
/// | filter | order |
/// |---|---|
/// | [`id_prefix`](Self::id_prefix) of at least 3 characters | by id |
/// | [`owner`](Self::owner) | the newest first |
/// | [`label`](Self::label), [`label_prefix`](Self::label_prefix) | by label, in lower case |
/// | [`expires_between`](Self::expires_between) | the earliest expiry first |
/// | `id_prefix` of 1 or 2 characters | by id |
/// | none of these | the newest first |
///
/// A call with other filters than that of the index reads 1,000 records at most. Its page may thus be
/// short, or empty, and have a [`next`](KeyPage::next) that continues the search.
///
/// Its errors are [`Error::InvalidArgument`] if an argument is invalid or not one that the store can compare,
/// [`Error::Unsupported`] if the store does not keep the usage that is asked for, [`Error::Store`] and
/// [`Error::ShutDown`].
#[derive(Debug, Clone)]
#[must_use = "keys are listed only when this is awaited"]
pub struct ListKeys {
    manager: ApiKeyManager,
    selection: KeySelection,
    after: Option<ListCursor>,
    page_size: u32,
    with_usage: bool,
    started: StartedCall<KeyPage>,
}

impl ListKeys {
    pub(in crate::manager) fn new(manager: ApiKeyManager) -> Self {
        Self {
            manager,
            selection: KeySelection::default(),
            after: None,
            page_size: PAGE_SIZE,
            with_usage: false,
            started: StartedCall::none(),
        }
    }

    /// Selects keys of this owner. By default, all.
    pub fn owner(mut self, owner: impl Into<String>) -> Self {
        self.selection.owner = Some(owner.into());
        self
    }

    /// Selects keys with this label, compared byte by byte. By default, all.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.selection.label = Some(label.into());
        self
    }

    /// Selects keys whose label begins with this text, whether in capital or small letters. By default,
    /// all.
    ///
    /// If an older release or a statement by hand wrote a label, the index has only its ASCII letters in small. If the
    /// label has other capital letters, such a key is found by a text that ends before the first of them, and
    /// not by [`label`](Self::label), until a call sets the label again.
    pub fn label_prefix(mut self, beginning: impl Into<String>) -> Self {
        self.selection.label_prefix = Some(beginning.into());
        self
    }

    /// Selects keys whose [id](crate::KeyId) begins with this text. By default, all.
    pub fn id_prefix(mut self, beginning: impl Into<String>) -> Self {
        self.selection.id_prefix = Some(beginning.into());
        self
    }

    /// Selects keys that expire from `from` (inclusive) to `to` (exclusive), a later time. By default,
    /// all, also those that never expire.
    pub fn expires_between(mut self, from: impl Into<Timestamp>, to: impl Into<Timestamp>) -> Self {
        self.selection.expires = Some((from.into(), to.into()));
        self
    }

    /// Selects keys that are in this state now. By default, all.
    ///
    /// Idle keys are found by their last uses, which are then read too.
    pub fn state(mut self, state: KeyState) -> Self {
        self.selection.state = Some(state);
        self
    }

    /// Selects keys that were neither created nor allowed at or after this time. By default, all.
    ///
    /// Uses that other processes have counted are included when their
    /// [interval](crate::ConfigBuilder::usage_flush_interval) ends.
    pub fn unused_since(mut self, time: impl Into<Timestamp>) -> Self {
        self.selection.unused_since = Some(time.into());
        self
    }

    /// Adds the last uses of the page's keys, and how many live keys the [owner](Self::owner) has. By
    /// default, neither is read.
    pub fn with_usage(mut self) -> Self {
        self.with_usage = true;
        self
    }

    /// Starts after this key: [`KeyPage::next`] of the previous page. By default, at the first key. A
    /// cursor of a list with other filters is an error, or starts at another place.
    pub fn after(mut self, cursor: impl Into<Option<ListCursor>>) -> Self {
        self.after = cursor.into();
        self
    }

    /// Sets the maximum number of keys in a page, from 1 to 1000; with another number, the call
    /// returns [`Error::InvalidArgument`]. By default, 50.
    pub fn page_size(mut self, keys: u32) -> Self {
        self.page_size = keys;
        self
    }

    async fn read(self) -> Result<KeyPage, Error> {
        let Self {
            manager,
            selection,
            after,
            page_size,
            with_usage,
            ..
        } = self;
        if !(1..=MAX_PAGE_SIZE).contains(&page_size) {
            return Err(Error::InvalidArgument(format!(
                "the page size is {page_size}; write 1 to {MAX_PAGE_SIZE}, and read further pages with `after`"
            )));
        }
        let reads_usage = with_usage || selection.unused_since.is_some();
        if reads_usage {
            manager.check_usage_is_kept()?;
        }
        let range = selection.range()?;
        selection.check_cursor(&range, after.as_ref())?;
        let now = manager.now();
        manager
            .on_thread(move |core| async move {
                if reads_usage {
                    core.usage.flush().await?;
                }
                let query = ListQuery::of(range, page_size).after(after);
                let mut page = core.select(&selection, query, now).await?;
                if with_usage {
                    core.add_usage(&mut page, selection.owner.as_deref())
                        .await?;
                }
                Ok(page)
            })
            .await
    }
}

impl_call!(ListKeys => KeyPage, |call| call.clone(), Self::read);

impl ManagerCore {
    /// Reads the store's pages until the page of the result is full, the range has ended, or the
    /// maximum number of records was read.
    async fn select(
        &self,
        selection: &KeySelection,
        mut query: ListQuery,
        now: Timestamp,
    ) -> Result<KeyPage, Error> {
        let size = query.limit as usize;
        let is_filtered = selection.filters(&query.range);
        let (mut page, mut left) = (KeyPage::default(), MAX_ROWS);
        loop {
            let rows = match is_filtered {
                true => query.limit.max(ROWS),
                false => u32::try_from(size - page.keys.len()).unwrap_or(MAX_ROWS),
            };
            let read = ListQuery {
                limit: rows.min(left),
                ..query.clone()
            };
            left -= read.limit;
            let read = self.shared.list(&read).await?;
            page.unreadable.extend(read.unreadable);
            let last = read.positions.last();
            let is_past = last.is_some_and(|last| selection.ends_before(&query.range, last));
            let rows = read.records.into_iter().zip(read.positions).collect();
            let mut last = None;
            for (record, position) in self.matching(selection, rows, now).await? {
                if page.keys.len() == size {
                    // The page filled up within this read. The next starts after its last key.
                    page.next = last;
                    return Ok(page);
                }
                page.keys.push(record);
                last = Some(position);
            }
            page.next = read.next.filter(|_| !is_past);
            if page.keys.len() == size || page.next.is_none() || left == 0 {
                return Ok(page);
            }
            query.after.clone_from(&page.next);
            self.before_next_page().await?;
        }
    }

    /// Returns the records that match. Stores evaluate neither states nor usage.
    async fn matching(
        &self,
        selection: &KeySelection,
        mut rows: Vec<(KeyRecord, ListCursor)>,
        now: Timestamp,
    ) -> Result<Vec<(KeyRecord, ListCursor)>, Error> {
        rows.retain(|(record, _)| selection.matches(record, now));
        if let Some(state) = selection.state {
            let states = self.states_of(rows.iter().map(|(record, _)| record), now);
            let mut states = states.await?.into_iter();
            rows.retain(|_| states.next() == Some(state));
        }
        if let Some(time) = selection.unused_since {
            let used = self
                .last_uses(rows.iter().map(|(record, _)| record))
                .await?;
            let used = used.into_iter().filter(|used| used.at >= time);
            let used: std::collections::HashSet<_> = used.map(|used| used.key).collect();
            rows.retain(|(record, _)| !used.contains(&record.id));
        }
        Ok(rows)
    }

    async fn last_uses(
        &self,
        records: impl Iterator<Item = &KeyRecord>,
    ) -> Result<Vec<LastUsed>, Error> {
        let ids: Vec<_> = records.map(|record| record.id).collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        Ok(self.shared.last_used(&ids).await?)
    }

    async fn add_usage(&self, page: &mut KeyPage, owner: Option<&str>) -> Result<(), Error> {
        page.last_used = self.last_uses(page.keys.iter()).await?;
        if let Some((owner, owners)) = owner.zip(self.shared.store.owners()) {
            let count = async {
                let count = owners.count_live_keys(owner, MAX_COUNT).await?;
                answer::live_keys_of(owner, MAX_COUNT, count)
            };
            page.live_keys = Some(self.shared.call(StoreCall::CountLiveKeys, count).await?);
        }
        Ok(())
    }
}
