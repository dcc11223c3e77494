//! A store in memory.

mod audit;
mod copy;
mod copy_tally;
mod expiry_notices;
mod history;
mod index;
mod list;
mod live_keys;
mod membership;
mod owners;
mod shared_secrets;
#[cfg(test)]
mod tests;
mod usage;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::{Mutex, MutexGuard};

use self::audit::AuditEntries;
use self::expiry_notices::NoticeTable;
use self::index::RecordIndex;
use self::owners::Owners;
use self::usage::Tally;
use super::{
    AuditStore, BatchReads, BulkStep, ChangeLog, ChangeNotifier, ChangeSet, ChangedItem, Cursor,
    ExpiryNotices, KeyStore, LimitStore, ListCursor, ListQuery, Membership, Node, NodeId,
    OwnerStore, RecordPage, SharedSecretStore, StoreCopy, UsageStore, WriteOptions,
};
use crate::audit::ChangeOrigin;
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::error::StoreError;
use crate::key::KeyId;
use crate::record::{KeyPatch, KeyRecord, Revocation, check_readable};

/// The lease if none is configured.
const DEFAULT_LEASE: Duration = Duration::from_millis(200);

/// The maximum number of changes in the log. Usually it is shorter: acknowledgements trim it.
const LOG_LEN: usize = 1_000_000;

/// The number of changes that one acknowledgement removes from the log.
const TRIM_LEN: usize = 1_000;

/// Distinguishes the stores of one process.
static STORES: AtomicU64 = AtomicU64::new(0);

/// Keeps records in memory: for tests, and for a single process whose keys need not outlive it.
///
/// ```
/// use apikey_runtime::{KeyStore, MemoryStore};
/// use apikey_runtime::store::ListQuery;
///
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let store = MemoryStore::new();
/// assert!(store.list(&ListQuery::first(10)).await?.records.is_empty());
/// # Ok::<(), apikey_runtime::store::StoreError>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct MemoryStore {
    lease: Duration,
    /// Unset until it is given, offered or needed.
    clock: OnceLock<Arc<dyn Clock>>,
    /// The tag of all cursors. One tag for all of them suffices: a change log in memory is never
    /// restored from a copy, so a cursor belongs either to this store or to another.
    tag: Vec<u8>,
    state: Mutex<State>,
    changed: ChangeNotifier,
}

#[derive(Default)]
struct State {
    records: BTreeMap<KeyId, KeyRecord>,
    index: RecordIndex,
    audit: AuditEntries,
    notices: NoticeTable,
    /// The epoch of the last change.
    epoch: u64,
    /// The last changes; the back is that of `epoch`.
    log: VecDeque<LoggedItem>,
    nodes: BTreeMap<NodeId, Node>,
    /// Counts the heartbeats of all nodes. A node that leaves and joins again never repeats a
    /// heartbeat.
    beats: u64,
    tally: Tally,
    owners: Owners,
    shared_secrets: HashMap<String, [u8; 32]>,
}

/// An item of the log. What it says of an owner is read with the log.
#[derive(Debug, Clone)]
enum LoggedItem {
    Key(KeyId),
    Member,
    Owner(String),
}

impl MemoryStore {
    /// Creates an empty store.
    #[must_use]
    pub fn new() -> Self {
        Self {
            lease: DEFAULT_LEASE,
            clock: OnceLock::new(),
            tag: STORES
                .fetch_add(1, Ordering::Relaxed)
                .to_be_bytes()
                .to_vec(),
            state: Mutex::default(),
            changed: ChangeNotifier::new(),
        }
    }

    /// Sets the lease: how long a node may use a cached record after a poll.
    ///
    /// By default, 200 milliseconds.
    #[must_use]
    pub fn with_lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Sets the clock by which limits are counted: it determines when a day or a month ends.
    ///
    /// By default, the clock that the manager's builder was given, or a [`SystemClock`].
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = OnceLock::from(clock);
        self
    }

    fn clock(&self) -> &dyn Clock {
        &**self.clock.get_or_init(|| Arc::new(SystemClock::new()))
    }

    fn cursor(&self, state: &State) -> Cursor {
        Cursor {
            epoch: state.epoch,
            tag: self.tag.clone(),
        }
    }

    /// Locks the state for a change and notifies listeners. They need the lock to read, so they do
    /// not see the state before the change is done.
    fn change(&self) -> MutexGuard<'_, State> {
        let state = self.state();
        self.changed.notify();
        state
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No panic can occur in the middle of a change, so the state is valid after one.
        self.state.lock()
    }
}

impl State {
    fn log(&mut self, item: LoggedItem) {
        self.epoch += 1;
        self.log.push_back(item);
        if self.log.len() > LOG_LEN {
            self.log.pop_front();
        }
    }

    /// Makes each node that follows the log read everything again.
    fn resync(&mut self) {
        self.epoch += 1;
        self.log.clear();
    }

    fn find(&self, id: &KeyId) -> Option<KeyRecord> {
        let found = self.records.get(id).cloned();
        found.map(|record| self.owners.complete(record))
    }

    fn heartbeat(&mut self) -> u64 {
        self.beats += 1;
        self.beats
    }

    /// Returns those of the next records that match `wanted`, and where the next step continues.
    fn step(
        &self,
        after: Option<&KeyId>,
        wanted: impl Fn(&KeyRecord) -> bool,
    ) -> (Vec<KeyId>, Option<ListCursor>) {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut following = self.records.range::<KeyId, _>((start, Bound::Unbounded));
        let page: Vec<_> = following.by_ref().take(BulkStep::MAX_KEYS).collect();
        let next = following.next().and(page.last());
        let next = next.map(|(id, _)| ListCursor::from(**id));
        let ids = page.iter().filter(|(_, record)| wanted(record));
        (ids.map(|(id, _)| **id).collect(), next)
    }

    /// Puts a changed record in the place of the present one, and logs the change.
    fn replace(&mut self, changed: KeyRecord, now: Timestamp, origin: &ChangeOrigin) {
        let id = changed.id;
        self.owners.begin(changed.owner.as_deref());
        let before = self.records.get(&id);
        if let Some(before) = before {
            self.index.remove(before);
        }
        self.index.add(&changed);
        self.audit.add(now, before, Some(&changed), origin);
        self.notices.follow(before, Some(&changed), now);
        self.records.insert(id, changed);
        self.log(LoggedItem::Key(id));
    }

    /// Returns a page of the changes after `epoch`, if the log reaches back that far.
    fn since(&self, epoch: u64) -> Option<Vec<ChangedItem>> {
        let count = usize::try_from(self.epoch.checked_sub(epoch)?).ok()?;
        let start = self.log.len().checked_sub(count)?;
        let page = self.log.range(start..).take(ChangeSet::MAX_ENTRIES);
        let item = |logged: &LoggedItem| match logged {
            LoggedItem::Key(id) => ChangedItem::Key(*id),
            LoggedItem::Member => ChangedItem::Member,
            LoggedItem::Owner(owner) => ChangedItem::Owner {
                owner: owner.clone(),
                state: self.owners.state(owner).unwrap_or_default(),
            },
        };
        Some(page.map(item).collect())
    }

    /// Removes changes that every node has acknowledged from the log, a bounded number at once.
    fn trim(&mut self) {
        let acknowledged = self.nodes.values().map(|node| node.acknowledged).min();
        let needed = acknowledged.map_or(self.log.len() as u64, |epoch| {
            self.epoch.saturating_sub(epoch)
        });
        let removable = (self.log.len() as u64).saturating_sub(needed);
        let count = usize::try_from(removable).map_or(TRIM_LEN, |count| count.min(TRIM_LEN));
        self.log.drain(..count);
    }
}

#[async_trait]
impl KeyStore for MemoryStore {
    fn offer_clock(&self, clock: &Arc<dyn Clock>) {
        // If it is set already, the store keeps its own.
        let _ = self.clock.set(Arc::clone(clock));
    }

    async fn insert(&self, record: &KeyRecord, options: &WriteOptions) -> Result<(), StoreError> {
        check_readable(&record.metadata)?;
        let mut state = self.change();
        let now = self.clock().read().now;
        if state.records.contains_key(&record.id) {
            return Err(StoreError::Conflict);
        }
        let mut admitted = record.clone();
        state.owners.number(&mut admitted);
        state.check_live_keys(None, &admitted, now, options)?;
        state.replace(admitted, now, &options.origin);
        Ok(())
    }

    async fn find(&self, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> {
        Ok(self.state().find(id))
    }

    async fn list(&self, query: &ListQuery) -> Result<RecordPage, StoreError> {
        self.state().page(query)
    }

    async fn update(
        &self,
        id: &KeyId,
        patch: &KeyPatch,
        options: &WriteOptions,
    ) -> Result<(), StoreError> {
        patch.metadata.as_ref().map_or(Ok(()), check_readable)?;
        let mut state = self.change();
        let now = self.clock().read().now;
        let record = state.records.get(id).ok_or(StoreError::NotFound)?;
        options.check_record(record)?;
        // Changes a copy: the record changes as a whole or not at all.
        let (before, mut changed) = (record.clone(), record.clone());
        patch.apply(&mut changed, options.origin.actor.as_deref());
        state.owners.transfer(&before, &mut changed);
        let [was, is] = [&before, &changed].map(|record| state.owners.complete(record.clone()));
        state.check_live_keys(Some(&was), &is, now, options)?;
        state.replace(changed, now, &options.origin);
        Ok(())
    }

    async fn revoke(
        &self,
        id: &KeyId,
        revocation: &Revocation,
        options: &WriteOptions,
    ) -> Result<bool, StoreError> {
        let mut state = self.change();
        let now = self.clock().read().now;
        let record = state.records.get(id).ok_or(StoreError::NotFound)?;
        options.check_record(record)?;
        if state.owners.revocation(record).is_some() {
            return Ok(false);
        }
        let mut changed = record.clone();
        changed.revoked = Some(revocation.clone());
        changed.version = changed.version.saturating_add(1);
        changed.updated_by.clone_from(&options.origin.actor);
        state.replace(changed, now, &options.origin);
        Ok(true)
    }

    async fn purge(
        &self,
        before: Timestamp,
        after: Option<&ListCursor>,
        origin: &ChangeOrigin,
    ) -> Result<BulkStep, StoreError> {
        let mut state = self.change();
        let now = self.clock().read().now;
        let after = after.map(|after| &after.id);
        let (ids, next) = state.step(after, |record| {
            let revocation = state.owners.revocation(record);
            revocation.is_some_and(|revocation| revocation.at < before)
                || record.expires.is_some_and(|expires| expires < before)
        });
        for id in &ids {
            if let Some(record) = state.records.remove(id) {
                state.index.remove(&record);
                state.audit.add(now, Some(&record), None, origin);
                state.notices.follow(Some(&record), None, now);
            }
            state.tally.remove(id);
            state.log(LoggedItem::Key(*id));
        }
        Ok(BulkStep::new(ids, next))
    }

    fn batch_reads(&self) -> Option<&dyn BatchReads> {
        Some(self)
    }

    fn change_log(&self) -> Option<&dyn ChangeLog> {
        Some(self)
    }

    fn membership(&self) -> Option<&dyn Membership> {
        Some(self)
    }

    fn owners(&self) -> Option<&dyn OwnerStore> {
        Some(self)
    }

    fn audit(&self) -> Option<&dyn AuditStore> {
        Some(self)
    }

    fn expiry_notices(&self) -> Option<&dyn ExpiryNotices> {
        Some(self)
    }

    fn limits(&self) -> Option<&dyn LimitStore> {
        Some(self)
    }

    fn usage(&self) -> Option<&dyn UsageStore> {
        Some(self)
    }

    fn shared_secrets(&self) -> Option<&dyn SharedSecretStore> {
        Some(self)
    }

    fn copying(&self) -> Option<&dyn StoreCopy> {
        Some(self)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("lease", &self.lease)
            .finish_non_exhaustive()
    }
}
