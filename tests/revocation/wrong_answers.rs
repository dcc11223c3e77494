//! Stores that answer with something else than they were asked for, as a collation that ignores case
//! or a wrong join does. A manager does not believe them.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use apikey_runtime::store::{
    Charge, ChargeOutcome, LastUsed, ListQuery, RecordPage, StoreError, UsageQuery, UsageRow,
    WriteOptions,
};
use apikey_runtime::{
    ApiKeyManager, DenyReason, Error, KeyId, KeyRecord, KeyStore, MemoryStore, Metadata, NewKey,
    Policy, Quota,
};
use apikey_test_support::store::{Forward, Forwarding};
use apikey_test_support::{PATIENCE, manager_on, soon};

/// An answer that is older is not used, also on a busy machine.
const LEASE: Duration = Duration::from_millis(500);

/// What the store answers instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lie {
    None,
    /// The records, usage and last uses of this key, for any other.
    Of(KeyId),
    /// Records with metadata that is nested this many levels deep.
    Nested(usize),
    /// This many decisions of limits.
    Decisions(usize),
}

#[derive(Debug)]
struct Lying {
    inner: MemoryStore,
    lie: Mutex<Lie>,
}

impl Lying {
    fn tell(&self, lie: Lie) {
        *self.lie.lock().unwrap() = lie;
    }

    fn lie(&self) -> Lie {
        *self.lie.lock().unwrap()
    }

    fn id(&self, asked: KeyId) -> KeyId {
        match self.lie() {
            Lie::Of(id) => id,
            _ => asked,
        }
    }

    fn usage(&self) -> &dyn apikey_runtime::store::UsageStore {
        KeyStore::usage(&self.inner).unwrap()
    }
}

fn nested(levels: usize) -> Metadata {
    let value = (1..levels).fold(serde_json::Value::Null, |inner, _| vec![inner].into());
    Metadata::from_iter([("a".to_owned(), value)])
}

impl Forward for Lying {
    fn inner(&self) -> &dyn KeyStore {
        &self.inner
    }

    async fn find(&self, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> {
        let mut found = self.inner.find(&self.id(*id)).await?;
        if let (Some(record), Lie::Nested(levels)) = (&mut found, self.lie()) {
            record.metadata = nested(levels);
        }
        Ok(found)
    }

    async fn list(&self, query: &ListQuery) -> Result<RecordPage, StoreError> {
        let mut page = self.inner.list(query).await?;
        match self.lie() {
            Lie::Of(id) => page.records.extend(self.inner.find(&id).await?),
            Lie::Nested(levels) => {
                let records = page.records.iter_mut();
                records.for_each(|record| record.metadata = nested(levels));
            }
            _ => {}
        }
        Ok(page)
    }

    async fn charge(&self, charge: &Charge) -> Result<ChargeOutcome, StoreError> {
        let mut outcome = self.inner.limits().unwrap().charge(charge).await?;
        if let Lie::Decisions(count) = self.lie() {
            let decision = outcome.decisions[0];
            outcome.decisions = vec![decision; count];
        }
        Ok(outcome)
    }

    async fn read_usage(&self, query: &UsageQuery) -> Result<Vec<UsageRow>, StoreError> {
        let keys = query.keys.iter().map(|id| self.id(*id)).collect();
        let query = UsageQuery::new(keys, query.from, query.to);
        self.usage().read_usage(&query).await
    }

    async fn last_used(&self, keys: &[KeyId]) -> Result<Vec<LastUsed>, StoreError> {
        let keys: Vec<_> = keys.iter().map(|id| self.id(*id)).collect();
        self.usage().last_used(&keys).await
    }
}

async fn scene(lease: Duration) -> (Arc<Forwarding<Lying>>, ApiKeyManager) {
    let store = Arc::new(Forwarding(Lying {
        inner: MemoryStore::new().with_lease(lease),
        lie: Mutex::new(Lie::None),
    }));
    (store.clone(), manager_on(store).await)
}

/// Creates a key, and a second record of the same secret under another id.
async fn key_and_twin(store: &Forwarding<Lying>, manager: &ApiKeyManager) -> (NewKey, KeyId) {
    let key = manager.create("a").owner("A").await.unwrap();
    let mut twin = key.record().clone();
    twin.id = KeyId::from_u128(1);
    twin.owner = Some("a".to_owned());
    store
        .inner
        .insert(&twin, &WriteOptions::new())
        .await
        .unwrap();
    (key, twin.id)
}

async fn refusal(manager: &ApiKeyManager, key: &NewKey, policy: &Policy) -> Option<DenyReason> {
    let verified = soon(manager.verify_for(key.expose_secret(), policy)).await;
    verified.err().map(|denied| denied.reason())
}

#[track_caller]
fn is_corrupt<T: Debug>(outcome: Result<T, Error>) {
    let corrupt = matches!(outcome, Err(Error::Store(StoreError::Corrupt { .. })));
    assert!(corrupt, "{outcome:?}");
}

#[actix_web::test]
async fn the_record_of_another_key_does_not_keep_a_revoked_key_alive() {
    let (store, manager) = scene(LEASE).await;
    let (key, twin) = key_and_twin(&store, &manager).await;
    assert_eq!(
        refusal(&manager, &key, &Policy::new()).await,
        None,
        "the control"
    );
    store.tell(Lie::Of(twin));
    assert!(manager.revoke(key.id()).await.unwrap());
    let (began, mut checks) = (Instant::now(), 0);
    while began.elapsed() < LEASE * 2 || checks < 100 {
        for policy in [Policy::new(), Policy::new().fresh()] {
            let reason = refusal(&manager, &key, &policy).await;
            assert_eq!(reason, Some(DenyReason::InvalidKey), "check {checks}");
        }
        checks += 1;
    }
    store.tell(Lie::None);
    let reason = refusal(&manager, &key, &Policy::new().fresh()).await;
    assert_eq!(reason, Some(DenyReason::Revoked), "the control");
}

#[actix_web::test]
async fn no_call_uses_the_record_of_another_key() {
    let (store, manager) = scene(LEASE).await;
    let (key, twin) = key_and_twin(&store, &manager).await;
    store.tell(Lie::Of(twin));
    let id = key.id();
    is_corrupt(manager.get(id).await);
    is_corrupt(manager.update(id).label("b").await);
    is_corrupt(manager.rotate(id).await);
    is_corrupt(manager.enable(id).await);
    is_corrupt(manager.limits(id).await);
    is_corrupt(manager.list().owner("A").await);
    is_corrupt(manager.owner_usage("A").await);
    store.tell(Lie::None);
    assert_eq!(
        manager.get(twin).await.unwrap().version,
        1,
        "it was not changed"
    );
    assert_eq!(manager.list().owner("A").await.unwrap().keys.len(), 1);
}

#[actix_web::test]
async fn no_report_has_the_usage_of_another_key() {
    let (store, manager) = scene(LEASE).await;
    let (key, twin) = key_and_twin(&store, &manager).await;
    let other = manager.create("b").await.unwrap();
    for used in [&key, &other] {
        assert_eq!(refusal(&manager, used, &Policy::new()).await, None);
    }
    assert_eq!(manager.usage(key.id()).await.unwrap().total().requests, 1);
    store.tell(Lie::Of(other.id()));
    is_corrupt(manager.usage(key.id()).await);
    is_corrupt(manager.last_used(key.id()).await);
    is_corrupt(manager.last_used(twin).await);
    assert!(manager.last_used(other.id()).await.unwrap().is_some());
}

/// To print, compare or drop such a record would abort the process.
#[actix_web::test]
async fn a_record_that_is_nested_too_deeply_cannot_be_read() {
    let (store, manager) = scene(PATIENCE).await;
    let key = manager.create("a").await.unwrap();
    store.tell(Lie::Nested(100_000));
    let fresh = Policy::new().fresh();
    assert_eq!(
        refusal(&manager, &key, &fresh).await,
        Some(DenyReason::InvalidKey)
    );
    is_corrupt(manager.get(key.id()).await);
    let page = manager.list().await.unwrap();
    assert!(page.keys.is_empty());
    assert_eq!(page.unreadable, [key.id().to_string()]);
    store.tell(Lie::Nested(100));
    assert_eq!(refusal(&manager, &key, &fresh).await, None, "the control");
}

#[actix_web::test]
async fn a_charge_with_too_few_or_too_many_decisions_is_not_a_charge() {
    let (store, manager) = scene(LEASE).await;
    let quotas = ["a", "b"].map(|name| apikey_runtime::Limit::new(name, Quota::lifetime(1_000)));
    let key = manager.create("a").limits(quotas).await.unwrap();
    for (decisions, reason) in [
        (0, Some(DenyReason::StoreUnavailable)),
        (1, Some(DenyReason::StoreUnavailable)),
        (2, None),
        (3, Some(DenyReason::StoreUnavailable)),
    ] {
        store.tell(Lie::Decisions(decisions));
        assert_eq!(
            refusal(&manager, &key, &Policy::new()).await,
            reason,
            "{decisions}"
        );
    }
}
