//! Changes of any number of keys: they run in steps, other nodes follow page by page, and a node
//! that does not understand the change log trusts nothing.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::task::Poll;
use std::time::Duration;

use apikey_runtime::audit::ChangeOrigin;
use apikey_runtime::clock::ManualClock;
use apikey_runtime::events::{EventKind, EventStream};
use apikey_runtime::store::{
    BulkStep, ChangeListener, ChangeSet, Changes, Cursor, KeyPatch, ListCursor, NodeId, Revocation,
    StoreError, WriteOptions,
};
use apikey_runtime::{
    ApiKeyManager, DenyReason, Error, KeyId, KeyRecord, KeyStore, MemoryStore, NewKey, Timestamp,
};
use apikey_test_support::store::{Call, Capability, Forward, Forwarding, GateStore, WithoutOwners};
use apikey_test_support::{PATIENCE, manager_at, manager_on, patient_manager, soon, within};

/// Outlasts every test.
const LONG: Duration = Duration::from_secs(60);

/// Keys of one owner: three steps.
const KEYS: usize = 120;

/// Keys that a step revokes in a store without a method of its own for it.
const STEP: usize = 50;

fn leased(lease: Duration) -> Arc<MemoryStore> {
    Arc::new(MemoryStore::new().with_lease(lease))
}

/// Adds [`KEYS`] keys of the owner `acme` to the store.
async fn add_keys(store: &dyn KeyStore) {
    for number in 1..=KEYS as u128 {
        let id = KeyId::from_u128(number);
        let at = Timestamp::from_millis(1_000);
        let mut record = KeyRecord::new(id, "my_api", "a label", "sha256$00", at);
        record.owner = Some("acme".to_owned());
        store.insert(&record, &WriteOptions::new()).await.unwrap();
    }
}

async fn revoked(store: &dyn KeyStore) -> usize {
    let mut count = 0;
    for number in 1..=KEYS as u128 {
        let found = store.find(&KeyId::from_u128(number)).await.unwrap();
        count += usize::from(found.unwrap().revoked.is_some());
    }
    count
}

async fn refusal(manager: &ApiKeyManager, key: &NewKey) -> Option<DenyReason> {
    let answer = soon(manager.verify(key.expose_secret())).await;
    answer.err().map(|denied| denied.reason())
}

/// Fails the steps of `revoke_owner` as a test says.
#[derive(Debug)]
struct FailingSteps {
    inner: Arc<MemoryStore>,
    begun: AtomicUsize,
    /// The number of the step that fails, counted from 1, and how often it does.
    fails_at: usize,
    failures: AtomicUsize,
    transient: bool,
}

impl FailingSteps {
    fn new(fails_at: usize, failures: usize, transient: bool) -> Arc<Forwarding<Self>> {
        Arc::new(Forwarding(Self {
            inner: leased(LONG),
            begun: AtomicUsize::new(0),
            fails_at,
            failures: AtomicUsize::new(failures),
            transient,
        }))
    }
}

impl Forward for FailingSteps {
    fn inner(&self) -> &dyn KeyStore {
        &*self.inner
    }

    fn has(&self, capability: Capability) -> bool {
        capability != Capability::Owners
    }

    async fn revoke_owner(
        &self,
        owner: &str,
        revocation: &Revocation,
        after: Option<&ListCursor>,
        origin: &ChangeOrigin,
    ) -> Result<BulkStep, StoreError> {
        let number = self.begun.fetch_add(1, SeqCst) + 1;
        let left = self.failures.load(SeqCst);
        if number >= self.fails_at && left > 0 {
            self.failures.store(left - 1, SeqCst);
            return Err(match self.transient {
                true => StoreError::unavailable("the test says so"),
                false => StoreError::Backend {
                    reason: "a test".to_owned(),
                    source: "the test says so".into(),
                },
            });
        }
        self.inner
            .revoke_owner(owner, revocation, after, origin)
            .await
    }
}

/// Counts the revocations that were emitted, until the manager is shut down.
async fn count_events(mut events: EventStream) -> (usize, u64) {
    let (mut told, mut lost) = (0, 0);
    while let Some(event) = events.next().await {
        match event.kind {
            EventKind::Revoked { .. } => told += 1,
            EventKind::Lagged { count, .. } => lost += count,
            _ => {}
        }
    }
    (told, lost)
}

#[actix_web::test]
async fn a_call_that_fails_in_the_middle_says_how_far_it_came_and_continues_there() {
    let store = FailingSteps::new(2, 1, false);
    let manager = manager_on(store.clone()).await;
    let mine = manager.create("a").owner("acme").await.unwrap();
    add_keys(&*store).await;
    assert_eq!(refusal(&manager, &mine).await, None);
    let counting = tokio::spawn(count_events(manager.events()));
    let error = soon(manager.revoke_all("acme")).await.unwrap_err();
    let text = error.to_string();
    let Error::Incomplete { done, source } = error else {
        panic!("{text}");
    };
    assert_eq!(done, STEP as u64, "the first step");
    assert!(matches!(*source, Error::Store(StoreError::Backend { .. })));
    assert!(text.contains("50 keys") && text.contains("again"), "{text}");
    assert!(soon(manager.revoke_all("acme")).await.unwrap());
    assert_eq!(revoked(&*store).await, KEYS);
    assert_eq!(refusal(&manager, &mine).await, Some(DenyReason::Revoked));
    manager.shutdown().await.unwrap();
    let (told, lost) = soon(counting).await.unwrap();
    assert_eq!(told as u64 + lost, (KEYS + 1) as u64, "each key once");
}

#[actix_web::test]
async fn a_step_is_tried_again_while_the_store_is_unavailable() {
    let store = FailingSteps::new(2, 3, true);
    let manager = manager_on(store.clone()).await;
    add_keys(&*store).await;
    assert!(soon(manager.revoke_all("acme")).await.unwrap());
    assert_eq!(revoked(&*store).await, KEYS);
    assert!(
        !soon(manager.revoke_all("acme")).await.unwrap(),
        "no key is left"
    );
    let store = FailingSteps::new(2, usize::MAX, true);
    let manager = manager_on(store.clone()).await;
    add_keys(&*store).await;
    let error = soon(manager.revoke_all("acme")).await.unwrap_err();
    assert!(
        matches!(error, Error::Incomplete { done: 50, .. }),
        "{error}"
    );
}

#[actix_web::test]
async fn the_steps_continue_if_the_call_is_dropped() {
    let store = GateStore::around(WithoutOwners::around(leased(LONG)));
    let manager = patient_manager(store.clone()).await;
    add_keys(&*store).await;
    let step = store.gate_before(Call::RevokeAll);
    let dropped = tokio::spawn({
        let manager = manager.clone();
        async move { manager.revoke_all("acme").await }
    });
    step.arrived().await;
    dropped.abort();
    assert!(dropped.await.unwrap_err().is_cancelled());
    assert_eq!(revoked(&*store).await, 0);
    step.open();
    let done = within(PATIENCE, async || revoked(&*store).await == KEYS).await;
    assert!(done.is_some());
}

#[actix_web::test]
async fn a_shutdown_ends_the_call_between_two_steps() {
    let store = GateStore::around(WithoutOwners::around(leased(LONG)));
    let manager = patient_manager(store.clone()).await;
    add_keys(&*store).await;
    let step = store.gate_before(Call::RevokeAll);
    let revoking = tokio::spawn({
        let manager = manager.clone();
        async move { manager.revoke_all("acme").await }
    });
    step.arrived().await;
    let mut stopping = pin!(manager.shutdown());
    let waits = poll_fn(|context| Poll::Ready(stopping.as_mut().poll(context).is_pending()));
    assert!(waits.await, "it waits for the step");
    step.open();
    let error = soon(revoking).await.unwrap().unwrap_err();
    let Error::Incomplete { done, source } = error else {
        panic!("{error}");
    };
    assert_eq!(done, STEP as u64);
    assert!(matches!(*source, Error::ShutDown));
    soon(stopping).await.unwrap();
    assert_eq!(revoked(&*store).await, STEP);
}

/// Changes a record as often as a page has entries, after each page that it answers: a reader that
/// is a page behind never catches up.
#[derive(Debug)]
struct SteadyStream {
    inner: Arc<MemoryStore>,
    changed: KeyId,
}

impl SteadyStream {
    async fn change(&self, times: usize) {
        for _ in 0..times {
            let done = self
                .inner
                .update(&self.changed, &KeyPatch::new(), &WriteOptions::new())
                .await;
            done.unwrap();
        }
    }
}

impl Forward for SteadyStream {
    fn inner(&self) -> &dyn KeyStore {
        &*self.inner
    }

    async fn changes(
        &self,
        since: Option<&Cursor>,
        node: Option<&NodeId>,
    ) -> Result<Changes, StoreError> {
        let log = self.inner.change_log().unwrap();
        let page = log.changes(since, node).await;
        self.change(ChangeSet::MAX_ENTRIES).await;
        page
    }
}

/// A poll ends at the head that its first page reported, although each page reports a later one.
#[actix_web::test]
async fn a_steady_stream_of_changes_does_not_delay_the_lease() {
    let inner = leased(LONG);
    let writer = manager_on(inner.clone()).await;
    let kept = writer.create("kept").await.unwrap();
    let changed = writer.create("changed").await.unwrap().id();
    let store = Arc::new(Forwarding(SteadyStream { inner, changed }));
    let behind = store.clone();
    // The clock stands still: the pages do not take longer than a lease, however many they are.
    let manager = manager_at(store, Arc::new(ManualClock::starting_now())).await;
    assert_eq!(refusal(&manager, &kept).await, None);
    behind.change(1_500).await;
    let misses = manager.health().cache_misses;
    for _ in 0..3 {
        let now = std::time::Instant::now();
        let polled = within(PATIENCE, async || {
            let last = manager.health().last_answer;
            last.is_some_and(|last| last < now.elapsed())
        });
        assert!(polled.await.is_some(), "a poll that was sent since ends");
    }
    assert_eq!(refusal(&manager, &kept).await, None);
    assert!(manager.health().lease_remaining.is_some());
    assert_eq!(manager.health().cache_misses, misses, "its entry stays");
}

/// The head is then taken at once, and its lease starts when that page was sent.
#[actix_web::test]
async fn pages_that_take_longer_than_the_lease_flush_the_cache() {
    for too_long in [false, true] {
        let inner = leased(LONG);
        let store = GateStore::around(inner.clone());
        let writer = manager_on(inner.clone()).await;
        let kept = writer.create("kept").await.unwrap();
        let changed = writer.create("changed").await.unwrap().id();
        let clock = Arc::new(ManualClock::starting_now());
        let manager = ApiKeyManager::builder()
            .config(apikey_test_support::patient())
            .shared_store(store.clone())
            .clock(clock.clone())
            .start()
            .await
            .unwrap();
        assert_eq!(refusal(&manager, &kept).await, None);
        let poll = store.gate_before(Call::Changes);
        let change = async |times: usize| {
            for _ in 0..times {
                inner
                    .update(&changed, &KeyPatch::new(), &WriteOptions::new())
                    .await
                    .unwrap();
            }
        };
        change(1).await;
        poll.arrived().await;
        change(1_500).await;
        poll.pass_one();
        poll.arrived().await;
        // The second page is sent.
        if too_long {
            clock.advance(LONG);
        }
        let misses = manager.health().cache_misses;
        poll.open();
        let leased = within(PATIENCE, async || {
            manager.health().lease_remaining.is_some()
        });
        assert!(leased.await.is_some());
        assert_eq!(refusal(&manager, &kept).await, None);
        let read_again = manager.health().cache_misses > misses;
        assert_eq!(read_again, too_long);
    }
}

/// States a lease in the middle of the log, and a longer one at its end: an operator lengthened it
/// between the two pages. Answers nothing after them.
#[derive(Debug)]
struct Lengthened {
    inner: Arc<MemoryStore>,
    pages: AtomicU32,
    /// Held while the log grows, so that a poll finds more than a page.
    growing: tokio::sync::Mutex<()>,
}

const SHORT: Duration = Duration::from_secs(1);

impl Forward for Lengthened {
    fn inner(&self) -> &dyn KeyStore {
        &*self.inner
    }

    async fn changes(
        &self,
        since: Option<&Cursor>,
        node: Option<&NodeId>,
    ) -> Result<Changes, StoreError> {
        if self.pages.load(SeqCst) == 2 {
            std::future::pending::<()>().await;
        }
        drop(self.growing.lock().await);
        let mut page = self
            .inner
            .change_log()
            .unwrap()
            .changes(since, node)
            .await?;
        let is_part = page.cursor.epoch < page.head;
        if is_part || self.pages.load(SeqCst) == 1 {
            self.pages.fetch_add(1, SeqCst);
        }
        if is_part {
            page.lease = SHORT;
        }
        Ok(page)
    }
}

/// Another node may have waited for the shorter lease only, after a change that the last page does
/// not name yet.
#[actix_web::test]
async fn a_lease_that_is_lengthened_between_two_pages_is_not_taken_from_the_first() {
    let inner = leased(LONG);
    let writer = manager_on(inner.clone()).await;
    let changed = writer.create("changed").await.unwrap().id();
    let store = Arc::new(Forwarding(Lengthened {
        inner: inner.clone(),
        pages: AtomicU32::new(0),
        growing: tokio::sync::Mutex::new(()),
    }));
    // The clock stands still: what remains of a lease is its length.
    let manager = manager_at(store.clone(), Arc::new(ManualClock::starting_now())).await;
    assert_eq!(manager.health().lease_remaining, Some(LONG));
    let growing = store.0.growing.lock().await;
    for _ in 0..1_500 {
        inner
            .update(&changed, &KeyPatch::new(), &WriteOptions::new())
            .await
            .unwrap();
    }
    drop(growing);
    let read = within(PATIENCE, async || {
        store.0.pages.load(SeqCst) == 2 && manager.health().lease_remaining != Some(LONG)
    });
    assert!(read.await.is_some(), "{:?}", manager.health());
    assert_eq!(manager.health().lease_remaining, Some(SHORT));
}

/// States the protocol that readers need.
#[derive(Debug)]
struct Requires {
    inner: Arc<MemoryStore>,
    version: AtomicU32,
}

impl Forward for Requires {
    fn inner(&self) -> &dyn KeyStore {
        &*self.inner
    }

    async fn changes(
        &self,
        since: Option<&Cursor>,
        node: Option<&NodeId>,
    ) -> Result<Changes, StoreError> {
        let log = self.inner.change_log().unwrap();
        let page = log.changes(since, node).await?;
        Ok(page.with_required_protocol(self.version.load(SeqCst)))
    }

    fn subscribe(&self) -> Option<ChangeListener> {
        self.inner.change_log().unwrap().subscribe()
    }
}

/// The old node does not know what later entries mean, so it must not trust anything; the new one
/// does not wait for it.
#[actix_web::test]
async fn a_node_that_does_not_speak_the_protocol_takes_no_lease_and_says_so() {
    const LEASE: Duration = Duration::from_millis(300);
    let inner = leased(LEASE);
    let store = Arc::new(Forwarding(Requires {
        inner: inner.clone(),
        version: AtomicU32::new(1),
    }));
    let new = manager_on(inner).await;
    let old = manager_on(store.clone()).await;
    let key = new.create("a").await.unwrap();
    assert_eq!(refusal(&old, &key).await, None);
    let leased = within(PATIENCE, async || old.health().lease_remaining.is_some());
    assert!(leased.await.is_some());
    assert_eq!(old.health().unsupported_protocol, None);

    store.version.store(3, SeqCst);
    let noticed = within(PATIENCE, async || {
        old.health().unsupported_protocol == Some(3)
    });
    assert!(noticed.await.is_some());
    for _ in 0..3 {
        let misses = old.health().cache_misses;
        assert_eq!(refusal(&old, &key).await, None, "the store is read");
        assert_eq!(old.health().cache_misses, misses + 1);
        assert_eq!(old.health().lease_remaining, None);
    }
    // Once the nodes have followed one history for long enough, no lease is waited for.
    let unbroken = within(PATIENCE, async || {
        let key = new.create("b").await.unwrap();
        let done = soon(new.revoke(key.id()).confirmed()).await.unwrap();
        done.propagation.acknowledged.len() == 1 && !done.propagation.outlasted
    });
    assert!(unbroken.await.is_some(), "the old node acknowledges");
    let done = soon(new.revoke(key.id()).confirmed()).await.unwrap();
    assert!(done.value);
    assert_eq!(refusal(&old, &key).await, Some(DenyReason::Revoked));
    // Its own calls end too.
    let last = old.create("c").await.unwrap();
    assert!(soon(old.revoke(last.id()).confirmed()).await.unwrap().value);
    assert_eq!(refusal(&new, &last).await, Some(DenyReason::Revoked));

    store.version.store(1, SeqCst);
    let healed = within(PATIENCE, async || old.health().lease_remaining.is_some());
    assert!(healed.await.is_some());
    assert_eq!(old.health().unsupported_protocol, None);
}
