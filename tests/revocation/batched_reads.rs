//! Reads of many keys at once: they share statements, and neither a change nor a failure between them is lost.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use apikey_runtime::key::{KeyHasher, ParsedDigest, Sha256Hasher};
use apikey_runtime::store::{BoxError, FindResult, StoreError};
use apikey_runtime::{
    ApiKey, ApiKeyManager, Config, Denied, DenyReason, KeyId, KeyRecord, KeyStore, MemoryStore,
    NewKey, Policy,
};
use apikey_test_support::store::{Call, Capability, Fault, Forward, Forwarding, Gate, GateStore};
use apikey_test_support::{patient, patient_manager, soon};

static PLAIN: Policy = Policy::new();
static FRESH: Policy = Policy::new().fresh();

/// Outlasts every test.
const LONG: Duration = Duration::from_secs(60);

/// The number of batches that a manager sends at once.
const WORKERS: usize = 4;

/// The number of single reads that a manager sends at once, of batches that failed.
const SINGLE_READS: usize = 8;

type Check = Pin<Box<dyn Future<Output = Result<ApiKey, Denied>>>>;

/// Starts a check, which gets as far as it can by itself: to its end, if nothing holds the manager's thread.
fn start(manager: &ApiKeyManager, key: &NewKey, policy: &'static Policy) -> Check {
    let (manager, key) = (manager.clone(), key.expose_secret().to_owned());
    let mut check: Check = Box::pin(async move { manager.verify_for(&key, policy).await });
    let mut context = Context::from_waker(Waker::noop());
    match check.as_mut().poll(&mut context) {
        Poll::Ready(decision) => Box::pin(std::future::ready(decision)),
        Poll::Pending => check,
    }
}

async fn reason(check: Check) -> Option<DenyReason> {
    soon(check).await.err().map(|denied| denied.reason())
}

/// Cold keys, and a manager whose reads stop at gates.
struct Scene {
    store: Arc<GateStore>,
    /// The manager that created the keys. The other one does not learn of its changes.
    there: ApiKeyManager,
    here: ApiKeyManager,
    keys: Vec<NewKey>,
}

impl Scene {
    async fn new(count: usize, batches: bool) -> Self {
        Self::on(count, batches, |shared| shared).await
    }

    /// `wrap` is what the manager reads instead of the store.
    async fn on(
        count: usize,
        batches: bool,
        wrap: impl FnOnce(Arc<dyn KeyStore>) -> Arc<dyn KeyStore>,
    ) -> Self {
        let shared: Arc<dyn KeyStore> = Arc::new(MemoryStore::new().with_lease(LONG));
        let there = patient_manager(Arc::clone(&shared)).await;
        let mut keys = Vec::new();
        for _ in 0..count {
            keys.push(there.create("a").await.unwrap());
        }
        let store = GateStore::around(wrap(shared));
        store.cut_push();
        if batches {
            store.allow_batches();
        }
        let here = patient_manager(store.clone()).await;
        Self {
            store,
            there,
            here,
            keys,
        }
    }

    /// Lets each worker send the read of one of the first keys, which stops at the gate.
    async fn occupy(&self) -> (Arc<Gate>, Vec<Check>) {
        let gate = self.store.gate_before(Call::Find);
        let mut checks = Vec::new();
        for key in &self.keys[..WORKERS] {
            checks.push(start(&self.here, key, &PLAIN));
            gate.arrived().await;
        }
        self.store.heal();
        (gate, checks)
    }

    async fn refusal(&self, key: &NewKey, policy: &Policy) -> Option<DenyReason> {
        let answer = soon(self.here.verify_for(key.expose_secret(), policy)).await;
        answer.err().map(|denied| denied.reason())
    }

    fn counts(&self) -> (usize, usize) {
        (
            self.store.count(Call::Find),
            self.store.count(Call::FindMany),
        )
    }
}

/// Returns how often the store was called for cold keys that come at once.
async fn calls(batches: bool) -> (usize, usize) {
    let scene = Scene::new(WORKERS + 100, batches).await;
    let (gate, mut checks) = scene.occupy().await;
    let others = scene.keys[WORKERS..].iter();
    checks.extend(others.map(|key| start(&scene.here, key, &PLAIN)));
    gate.open();
    for check in checks {
        assert_eq!(reason(check).await, None);
    }
    scene.counts()
}

#[actix_web::test]
async fn cold_keys_that_come_at_once_are_read_by_one_call() {
    assert_eq!(calls(true).await, (WORKERS, 1));
    // A store that reads one record at a time.
    assert_eq!(calls(false).await, (WORKERS + 100, 0));
}

#[actix_web::test]
async fn checks_that_need_reads_of_their_own_share_one_that_is_not_sent() {
    let scene = Scene::new(WORKERS + 1, true).await;
    let (gate, mut checks) = scene.occupy().await;
    let key = &scene.keys[WORKERS];
    for policy in [&PLAIN, &FRESH, &FRESH, &PLAIN] {
        checks.push(start(&scene.here, key, policy));
    }
    gate.open();
    for check in checks {
        assert_eq!(reason(check).await, None);
    }
    assert_eq!(scene.counts(), (WORKERS + 1, 0));
}

/// A batch has its answer and is held, while another node revokes one of its keys.
#[actix_web::test]
async fn a_check_that_needs_a_read_of_its_own_does_not_join_a_batch_that_was_sent() {
    let scene = Scene::new(WORKERS + 2, true).await;
    let (gate, checks) = scene.occupy().await;
    let held = scene.store.gate_after(Call::FindMany);
    let [revoked, other] = [&scene.keys[WORKERS], &scene.keys[WORKERS + 1]];
    let early = start(&scene.here, revoked, &PLAIN);
    let beside = start(&scene.here, other, &PLAIN);
    gate.open();
    held.arrived().await;
    scene.there.revoke(revoked.id()).await.unwrap();
    // Control: without the policy, the check joins.
    let joined = start(&scene.here, revoked, &PLAIN);
    let fresh = scene.refusal(revoked, &FRESH).await;
    assert_eq!(fresh, Some(DenyReason::Revoked));
    held.open();
    for check in checks.into_iter().chain([early, beside, joined]) {
        assert_eq!(reason(check).await, None, "it began before the revocation");
    }
}

/// A batch has its answer and is held, while this node revokes one of its keys.
#[actix_web::test]
async fn v05_a_batch_that_races_the_revocation_is_neither_joined_nor_kept() {
    let scene = Scene::new(WORKERS + 2, true).await;
    let (gate, checks) = scene.occupy().await;
    let held = scene.store.gate_after(Call::FindMany);
    let [revoked, other] = [&scene.keys[WORKERS], &scene.keys[WORKERS + 1]];
    let early = start(&scene.here, revoked, &PLAIN);
    let beside = start(&scene.here, other, &PLAIN);
    gate.open();
    held.arrived().await;
    for check in checks {
        assert_eq!(reason(check).await, None);
    }
    scene.here.revoke(revoked.id()).await.unwrap();
    let late = scene.refusal(revoked, &PLAIN).await;
    assert_eq!(late, Some(DenyReason::Revoked));
    held.open();
    let _began_before = reason(early).await;
    assert_eq!(reason(beside).await, None);
    for _ in 0..3 {
        let late = scene.refusal(revoked, &PLAIN).await;
        assert_eq!(late, Some(DenyReason::Revoked));
    }
}

/// A store that fails to read some records, and each batch with one of them.
#[derive(Debug)]
struct Broken {
    inner: Arc<dyn KeyStore>,
    fault: Fault,
    /// The label of a record that is broken.
    label: &'static str,
}

impl Broken {
    fn check(&self, found: &Option<KeyRecord>) -> Result<(), StoreError> {
        let is_broken = |record: &KeyRecord| record.label == self.label;
        match self.fault {
            _ if !found.as_ref().is_some_and(is_broken) => Ok(()),
            Fault::Panics => panic!("the test says so"),
            _ => Err(StoreError::unavailable("the test says so")),
        }
    }
}

impl Forward for Broken {
    fn inner(&self) -> &dyn KeyStore {
        &*self.inner
    }

    fn has(&self, _: Capability) -> bool {
        true
    }

    async fn find(&self, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> {
        let found = self.inner.find(id).await?;
        self.check(&found)?;
        Ok(found)
    }

    async fn find_many(&self, ids: &[KeyId]) -> Result<Vec<FindResult>, StoreError> {
        let found = self.inner.batch_reads().unwrap().find_many(ids).await?;
        for found in found.iter().flatten() {
            self.check(found)?;
        }
        Ok(found)
    }
}

#[actix_web::test]
async fn a_record_that_makes_its_batch_fail_denies_its_own_key_alone() {
    for fault in [Fault::Unavailable, Fault::Panics] {
        let wrap = |inner| -> Arc<dyn KeyStore> {
            let label = "broken";
            Arc::new(Forwarding(Broken {
                inner,
                fault,
                label,
            }))
        };
        let scene = Scene::on(WORKERS + 20, true, wrap).await;
        let broken = scene.there.create("broken").await.unwrap();
        let (gate, mut checks) = scene.occupy().await;
        checks.push(start(&scene.here, &broken, &PLAIN));
        let others = scene.keys[WORKERS..].iter();
        checks.extend(others.map(|key| start(&scene.here, key, &PLAIN)));
        gate.open();
        for (number, check) in checks.into_iter().enumerate() {
            let expected = (number == WORKERS).then_some(DenyReason::StoreUnavailable);
            assert_eq!(reason(check).await, expected, "{fault:?}: {number}");
        }
        let (singles, batches) = scene.counts();
        assert_eq!(batches, 1);
        assert!(singles >= WORKERS + 21, "{singles}");
        // Reads go on after a panic.
        let last = scene.there.create("last").await.unwrap();
        assert_eq!(scene.refusal(&last, &PLAIN).await, None);
    }
}

/// The keys of a batch that failed do not all ask the store at once.
#[actix_web::test]
async fn a_few_keys_of_a_batch_that_failed_are_read_at_once() {
    let scene = Scene::new(WORKERS + SINGLE_READS + 20, true).await;
    let (gate, mut checks) = scene.occupy().await;
    scene.store.fail(Call::FindMany, Fault::Unavailable);
    let singles = scene.store.gate_before(Call::Find);
    let others = scene.keys[WORKERS..].iter();
    checks.extend(others.map(|key| start(&scene.here, key, &PLAIN)));
    gate.open();
    for _ in 0..SINGLE_READS {
        singles.arrived().await;
    }
    for more in 0..3 {
        // The manager's thread has run all that it could.
        for _ in 0..3 {
            soon(scene.here.list()).await.unwrap();
        }
        assert_eq!(scene.counts(), (WORKERS + SINGLE_READS + more, 1));
        singles.pass_one();
        singles.arrived().await;
    }
    singles.open();
    for check in checks {
        assert_eq!(reason(check).await, None);
    }
}

/// The store hangs, so reads wait that no worker will send.
#[actix_web::test]
async fn reads_that_wait_end_with_the_manager() {
    let mut scene = Scene::new(WORKERS + 10, true).await;
    let impatient = Config::builder().store_timeout(Duration::from_secs(1));
    let builder = ApiKeyManager::builder().config(impatient.build().unwrap());
    scene.here = builder
        .shared_store(scene.store.clone())
        .start()
        .await
        .unwrap();
    let (_gate, mut checks) = scene.occupy().await;
    let others = scene.keys[WORKERS..].iter();
    checks.extend(others.map(|key| start(&scene.here, key, &PLAIN)));
    soon(scene.here.shutdown()).await.unwrap();
    for (number, check) in checks.into_iter().enumerate() {
        let reason = reason(check).await;
        // One that waited may just be sent before its own deadline.
        assert!(number >= WORKERS || reason == Some(DenyReason::StoreUnavailable));
    }
}

/// The default hasher, which panics at one digest.
#[derive(Debug)]
struct PanickingHasher {
    inner: Sha256Hasher,
    digest: String,
}

impl KeyHasher for PanickingHasher {
    fn hash(&self, key: &str) -> Result<String, BoxError> {
        self.inner.hash(key)
    }

    fn parse(&self, stored: &str) -> Option<ParsedDigest> {
        assert!(stored != self.digest, "the test says so");
        self.inner.parse(stored)
    }

    fn verify(&self, key: &str, digest: &ParsedDigest) -> bool {
        self.inner.verify(key, digest)
    }
}

#[actix_web::test]
async fn a_digest_at_which_the_hasher_panics_denies_its_own_key_alone() {
    let mut scene = Scene::new(WORKERS + 21, true).await;
    let broken = WORKERS + 10;
    let record = scene.there.get(scene.keys[broken].id()).await.unwrap();
    let hasher = PanickingHasher {
        inner: Sha256Hasher::new(),
        digest: record.digest,
    };
    let builder = ApiKeyManager::builder().config(patient()).hasher(hasher);
    scene.here = builder
        .shared_store(scene.store.clone())
        .start()
        .await
        .unwrap();
    let (gate, mut checks) = scene.occupy().await;
    let others = scene.keys[WORKERS..].iter();
    checks.extend(others.map(|key| start(&scene.here, key, &PLAIN)));
    gate.open();
    for (number, check) in checks.into_iter().enumerate() {
        let expected = (number == broken).then_some(DenyReason::InvalidKey);
        assert_eq!(reason(check).await, expected, "{number}");
    }
    assert_eq!(scene.counts(), (WORKERS, 1));
}
