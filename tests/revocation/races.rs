//! Reads and writes that race a revocation, and each other.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use apikey_runtime::audit::ChangeOrigin;
use apikey_runtime::store::{
    BulkStep, KeyPatch, ListCursor, ListQuery, RecordPage, Revocation, StoreError, WriteOptions,
};
use apikey_runtime::{
    ApiKey, ApiKeyManager, DenyReason, Error, KeyId, KeyRecord, KeyStore, MemoryStore, NewKey,
    Policy, SqliteStore, Timestamp,
};
use apikey_test_support::servers::data_folder;
use apikey_test_support::store::{Call, GateStore, StaleStore};
use apikey_test_support::{manager_on, patient_manager, soon};
use async_trait::async_trait;

/// Outlasts every test, so that effects before its end have other causes.
const LONG: Duration = Duration::from_secs(60);

/// The default lease of a store.
const LEASE: Duration = Duration::from_millis(200);

fn leased(lease: Duration) -> Arc<MemoryStore> {
    Arc::new(MemoryStore::new().with_lease(lease))
}

async fn refusal(manager: &ApiKeyManager, key: &str) -> Option<DenyReason> {
    soon(manager.verify(key))
        .await
        .err()
        .map(|denied| denied.reason())
}

/// The read of one caller races a revocation: it has the record when the key is revoked. Returns
/// what later callers get. `wrap` is what the manager reads instead of the store.
async fn after_a_race(
    wrap: impl FnOnce(Arc<MemoryStore>) -> Arc<dyn KeyStore>,
) -> (usize, Vec<Option<DenyReason>>) {
    // A read that takes longer than the lease is repeated. The key is created by another manager in advance, because the
    // notification of a change would cause a second read.
    let inner = leased(LONG);
    let key = patient_manager(inner.clone()).await.create("a").await;
    let (key, store) = (key.unwrap(), GateStore::around(wrap(inner)));
    let manager = patient_manager(store.clone()).await;
    let gate = store.gate_after(Call::Find);
    let (racing, secret) = (manager.clone(), key.expose_secret().to_owned());
    let racing = actix_web::rt::spawn(async move { racing.verify(&secret).await });
    gate.arrived().await;
    store.heal();
    manager.revoke(key.id()).await.unwrap();

    let before = store.count(Call::Find);
    let mut seen = vec![refusal(&manager, key.expose_secret()).await];
    let reads = store.count(Call::Find) - before;
    gate.open();
    // The caller that asked before the revocation may be allowed.
    let _ = soon(racing).await.unwrap();
    for _ in 0..3 {
        seen.push(refusal(&manager, key.expose_secret()).await);
    }
    (reads, seen)
}

#[actix_web::test]
async fn v05_a_read_that_races_the_revocation_is_neither_joined_nor_kept() {
    let (reads, seen) = after_a_race(|inner| inner).await;
    assert_eq!(reads, 1, "a read of its own");
    assert_eq!(seen, [Some(DenyReason::Revoked); 4]);
    // Control: a store that itself caches what the racing read saw.
    let (_, seen) = after_a_race(|inner| StaleStore::around(inner)).await;
    assert_ne!(seen, [Some(DenyReason::Revoked); 4]);
}

#[actix_web::test]
async fn v05_a_read_that_races_another_managers_revocation_is_not_kept_past_its_lease() {
    let shared = leased(LEASE);
    let store = GateStore::around(shared.clone());
    let here = patient_manager(store.clone()).await;
    let there = manager_on(shared).await;
    let key = here.create("a").await.unwrap();
    let gate = store.gate_after(Call::Find);
    let (racing, secret) = (here.clone(), key.expose_secret().to_owned());
    let racing = actix_web::rt::spawn(async move { racing.verify(&secret).await });
    gate.arrived().await;
    store.heal();
    there.revoke(key.id()).await.unwrap();
    // The poll reports the change while the read is still in flight; the read is then stale, and
    // repeated.
    tokio::time::sleep(LEASE * 2).await;
    gate.open();
    let late = soon(racing).await.unwrap();
    assert_eq!(late.unwrap_err().reason(), DenyReason::Revoked);
    assert_eq!(
        refusal(&here, key.expose_secret()).await,
        Some(DenyReason::Revoked)
    );
}

/// A check with a new secret, which another manager issued, joins a read from before the rotation.
#[actix_web::test]
async fn v04_a_new_secret_works_at_once_although_an_earlier_read_of_the_key_is_joined() {
    let shared = leased(LONG);
    let store = GateStore::around(shared.clone());
    store.cut_push();
    let here = patient_manager(store.clone()).await;
    let there = manager_on(shared).await;
    let key = there.create("a").await.unwrap();
    let gate = store.gate_after(Call::Find);
    static POLICY: Policy = Policy::new();
    let [early] = start_checks(&here, key.expose_secret(), &POLICY, 1)
        .try_into()
        .unwrap_or_else(|_| panic!("one check"));
    let early = actix_web::rt::spawn(early);
    gate.arrived().await;
    let renewed = there.rotate(key.id()).await.unwrap();
    let [late] = start_checks(&here, renewed.expose_secret(), &POLICY, 1)
        .try_into()
        .unwrap_or_else(|_| panic!("one check"));
    let late = actix_web::rt::spawn(late);
    let before = store.count(Call::Find);
    gate.open();
    assert!(soon(early).await.unwrap().is_ok(), "it began before");
    assert!(
        soon(late).await.unwrap().is_ok(),
        "it began after the rotation"
    );
    assert_eq!(store.count(Call::Find) - before, 1, "one more read");
}

type Check = Pin<Box<dyn Future<Output = Result<ApiKey, apikey_runtime::Denied>>>>;

/// Starts `count` checks of one key: each has got as far as it can by itself.
fn start_checks(
    manager: &ApiKeyManager,
    key: &str,
    policy: &'static Policy,
    count: usize,
) -> Vec<Check> {
    let mut context = Context::from_waker(Waker::noop());
    (0..count)
        .map(|_| {
            let (manager, key) = (manager.clone(), key.to_owned());
            let mut check: Check = Box::pin(async move { manager.verify_for(&key, policy).await });
            assert!(check.as_mut().poll(&mut context).is_pending());
            check
        })
        .collect()
}

#[actix_web::test]
async fn v07_ten_thousand_checks_of_one_cold_key_make_one_read() {
    static PLAIN: Policy = Policy::new();
    static FRESH: Policy = Policy::new().fresh();
    // Created by another manager in advance, because the notification of a change would cause a
    // second read.
    let inner = leased(LONG);
    let key = patient_manager(inner.clone())
        .await
        .create("a")
        .await
        .unwrap();
    let store = GateStore::around(inner);
    let manager = patient_manager(store.clone()).await;
    for (policy, count, reads) in [(&PLAIN, 10_000, 1), (&FRESH, 100, 100)] {
        let before = store.count(Call::Find);
        let gate = store.gate_before(Call::Find);
        let checks = start_checks(&manager, key.expose_secret(), policy, count);
        gate.arrived().await;
        gate.open();
        for check in checks {
            assert!(soon(check).await.is_ok());
        }
        // The control is the fresh route, which reads for each request.
        assert_eq!(store.count(Call::Find) - before, reads);
        store.heal();
    }
}

#[actix_web::test]
async fn v07_when_the_one_that_began_the_read_goes_away_the_others_are_answered() {
    static PLAIN: Policy = Policy::new();
    // Created by another manager in advance, because the notification of a change, which a busy machine delays, would
    // cause a second read.
    let inner = leased(LONG);
    let creator = patient_manager(inner.clone()).await;
    let key = creator.create("a").await.unwrap();
    let other = creator.create("b").await.unwrap();
    let store = GateStore::around(inner);
    let manager = patient_manager(store.clone()).await;
    let gate = store.gate_before(Call::Find);
    let mut checks = start_checks(&manager, key.expose_secret(), &PLAIN, 100);
    gate.arrived().await;
    drop(checks.remove(0));
    checks.truncate(50);
    gate.open();
    for check in checks {
        assert!(soon(check).await.is_ok());
    }
    assert_eq!(store.count(Call::Find), 1);
    // All callers have gone away: the read completes all the same, and its result is cached.
    let gate = store.gate_before(Call::Find);
    let checks = start_checks(&manager, other.expose_secret(), &PLAIN, 10);
    gate.arrived().await;
    drop(checks);
    gate.open();
    assert_eq!(refusal(&manager, other.expose_secret()).await, None);
    assert_eq!(store.count(Call::Find), 2);
}

#[actix_web::test]
async fn v08_a_warm_key_is_judged_anew_on_a_stricter_route() {
    static STRICT: Policy = Policy::new().scopes(apikey_runtime::ScopeExpr::One("admin"));
    static FAMILY: Policy = Policy::new().prefix("adm");
    static LIVE: Policy = Policy::new().environment("live");
    let store = GateStore::around(leased(LONG));
    let manager = manager_on(store.clone()).await;
    let key = manager
        .create("a")
        .scopes(["user"])
        .environment("test")
        .await
        .unwrap();
    for _ in 0..2 {
        assert_eq!(refusal(&manager, key.expose_secret()).await, None);
        for (policy, reason) in [
            (&STRICT, DenyReason::InsufficientScope),
            (&FAMILY, DenyReason::InvalidKey),
            (&LIVE, DenyReason::InvalidKey),
        ] {
            let denied = manager
                .verify_for(key.expose_secret(), policy)
                .await
                .unwrap_err();
            assert_eq!(denied.reason(), reason);
        }
    }
}

/// The change that a late writer makes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Late {
    Update,
    Enable,
    Rotate,
}

impl Late {
    /// Returns the new secret, if there is one.
    async fn write(self, manager: &ApiKeyManager, id: KeyId) -> Result<Option<String>, Error> {
        match self {
            Self::Update => manager
                .update(id)
                .label("b")
                .scopes(["a"])
                .await
                .map(|_| None),
            Self::Enable => manager.enable(id).await.map(|()| None),
            Self::Rotate => {
                let rotated = manager.rotate(id).grace(LONG).await;
                rotated.map(|key| Some(key.expose_secret().to_owned()))
            }
        }
    }
}

/// A writer has read the record, and waits in front of the store when the key is revoked. Returns
/// `Err` if the key becomes valid again.
async fn stays_revoked(shared: Arc<dyn KeyStore>, late: Late) -> Result<(), String> {
    let store = GateStore::around(shared.clone());
    let (slow, fast) = (
        patient_manager(store.clone()).await,
        manager_on(shared).await,
    );
    let key = fast.create("a").await.unwrap();
    let id = key.id();
    let gate = store.gate_before(Call::Update);
    let writer = slow.clone();
    let writing = actix_web::rt::spawn(async move { late.write(&writer, id).await });
    gate.arrived().await;
    assert!(fast.revoke(id).reason("stolen").await.unwrap());
    gate.open();
    let outcome = soon(writing).await.unwrap();
    let revoked = fast.get(id).await.unwrap().revoked;
    if revoked.is_none_or(|revocation| revocation.reason.as_deref() != Some("stolen")) {
        return Err(format!("{late:?} took the revocation back"));
    }
    for manager in [&slow, &fast] {
        assert!(dies(manager, &key).await, "{late:?}");
    }
    match outcome {
        Ok(Some(_)) => return Err("a revoked key was given a new secret".to_owned()),
        Ok(None) => {}
        Err(Error::Revoked(_) | Error::Store(StoreError::Conflict)) => {}
        Err(other) => return Err(other.to_string()),
    }
    store.heal();
    assert!(matches!(slow.enable(id).await, Err(Error::Revoked(_))));
    assert!(matches!(slow.rotate(id).await, Err(Error::Revoked(_))));
    Ok(())
}

#[actix_web::test]
async fn v12_a_late_writer_does_not_bring_a_revoked_key_back() {
    let folder = data_folder();
    for late in [Late::Update, Late::Enable, Late::Rotate] {
        stays_revoked(leased(LEASE), late).await.unwrap();
        let file = folder.path().join(format!("{late:?}.db"));
        stays_revoked(Arc::new(SqliteStore::new(file)), late)
            .await
            .unwrap();
        let careless = Arc::new(WholeRecords::default());
        stays_revoked(careless, late)
            .await
            .expect_err("the control");
    }
}

/// For the negative control: a store that writes whole records back, as the manager read them.
#[derive(Debug, Default)]
struct WholeRecords {
    inner: Mutex<HashMap<KeyId, KeyRecord>>,
    first: Mutex<HashMap<KeyId, KeyRecord>>,
}

#[async_trait]
impl KeyStore for WholeRecords {
    async fn insert(&self, record: &KeyRecord, _options: &WriteOptions) -> Result<(), StoreError> {
        self.inner.lock().unwrap().insert(record.id, record.clone());
        self.first.lock().unwrap().insert(record.id, record.clone());
        Ok(())
    }

    async fn find(&self, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> {
        Ok(self.inner.lock().unwrap().get(id).cloned())
    }

    async fn list(&self, _query: &ListQuery) -> Result<RecordPage, StoreError> {
        Ok(RecordPage::default())
    }

    async fn update(
        &self,
        id: &KeyId,
        patch: &KeyPatch,
        _options: &WriteOptions,
    ) -> Result<(), StoreError> {
        let mut record = self.first.lock().unwrap()[id].clone();
        patch.apply(&mut record, None);
        self.inner.lock().unwrap().insert(*id, record);
        Ok(())
    }

    async fn revoke(
        &self,
        id: &KeyId,
        revocation: &Revocation,
        _options: &WriteOptions,
    ) -> Result<bool, StoreError> {
        let mut inner = self.inner.lock().unwrap();
        let record = inner.get_mut(id).ok_or(StoreError::NotFound)?;
        Ok(record.revoked.replace(revocation.clone()).is_none())
    }

    async fn revoke_owner(
        &self,
        _owner: &str,
        _revocation: &Revocation,
        _after: Option<&ListCursor>,
        _origin: &ChangeOrigin,
    ) -> Result<BulkStep, StoreError> {
        Ok(BulkStep::default())
    }

    async fn purge(
        &self,
        _before: Timestamp,
        _after: Option<&ListCursor>,
        _origin: &ChangeOrigin,
    ) -> Result<BulkStep, StoreError> {
        Ok(BulkStep::default())
    }
}

/// Returns whether each check of the key that begins two leases from now is refused.
async fn dies(manager: &ApiKeyManager, key: &NewKey) -> bool {
    let from = Instant::now();
    loop {
        // What counts is when a check began: on a busy machine it may take long.
        let began = from.elapsed();
        if refusal(manager, key.expose_secret()).await.is_some() {
            return true;
        }
        if began > LEASE * 2 {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Two concurrent revocations: the first to start is the last to be committed. Returns the one that
/// a reader misses as `Err`.
async fn none_is_missed(
    writes: Arc<dyn KeyStore>,
    reads: Arc<dyn KeyStore>,
) -> Result<(), &'static str> {
    let store = GateStore::around(writes);
    let writer = patient_manager(store.clone()).await;
    let reader = manager_on(reads).await;
    let first = writer.create("first").await.unwrap();
    let second = writer.create("second").await.unwrap();
    for key in [&first, &second] {
        assert_eq!(refusal(&reader, key.expose_secret()).await, None);
    }
    // The first waits at the gate while the second is committed and a poll learns of it.
    let gate = store.gate_before(Call::Revoke);
    let (manager, id) = (writer.clone(), first.id());
    let revoking = tokio::spawn(async move { manager.revoke(id).await });
    gate.arrived().await;
    store.heal();
    writer.revoke(second.id()).await.unwrap();
    if !dies(&reader, &second).await {
        return Err("second");
    }
    assert_eq!(refusal(&reader, first.expose_secret()).await, None);
    gate.open();
    assert!(soon(revoking).await.unwrap().unwrap());
    if dies(&reader, &first).await {
        Ok(())
    } else {
        Err("first")
    }
}

#[actix_web::test]
async fn v19_of_two_changes_in_flight_no_manager_misses_one() {
    let shared = leased(LEASE);
    none_is_missed(shared.clone(), shared).await.unwrap();
    let folder = data_folder();
    let file = folder.path().join("keys.db");
    let store = || Arc::new(SqliteStore::new(&file));
    none_is_missed(store(), store()).await.unwrap();
    let shared = leased(LEASE);
    let stale = StaleStore::around(shared.clone());
    none_is_missed(shared, stale)
        .await
        .expect_err("the control");
}
