//! Marking: each manager writes the revocations of owners into the keys' records in the background.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use apikey_runtime::audit::ChangeOrigin;
use apikey_runtime::store::{OwnerRevocation, OwnerStore, StoreError};
use apikey_runtime::{KeyStore, MemoryStore, Timestamp};
use apikey_test_support::log::Log;
use apikey_test_support::store::{Call, Fault, Forward, Forwarding, GateStore};
use apikey_test_support::{PATIENCE, manager_on, patient_manager, soon, within};

/// Outlasts every test.
const LONG: Duration = Duration::from_secs(60);

/// Notes the answers to steps of marking, so that a test sees which manager marked.
#[derive(Debug)]
struct Steps {
    inner: Arc<GateStore>,
    answers: Mutex<Vec<bool>>,
}

impl Forward for Steps {
    fn inner(&self) -> &dyn KeyStore {
        &*self.inner
    }

    async fn mark_revoked_keys(&self) -> Result<bool, StoreError> {
        let more = self.inner.owners().unwrap().mark_revoked_keys().await?;
        self.answers.lock().unwrap().push(more);
        Ok(more)
    }
}

fn noting(memory: &Arc<MemoryStore>) -> Arc<Forwarding<Steps>> {
    Arc::new(Forwarding(Steps {
        inner: GateStore::around(Arc::clone(memory) as _),
        answers: Mutex::default(),
    }))
}

impl Steps {
    /// Waits until this manager has made a step that found keys, and one that found that none are
    /// left.
    async fn has_marked(&self) {
        let marked = within(PATIENCE, async || {
            let answers = self.answers.lock().unwrap();
            answers.windows(2).any(|pair| pair == [true, false])
        });
        assert!(marked.await.is_some(), "{:?}", self.answers);
    }

    fn steps(&self) -> usize {
        self.answers.lock().unwrap().len()
    }
}

fn memory() -> Arc<MemoryStore> {
    Arc::new(MemoryStore::new().with_lease(LONG))
}

#[actix_web::test]
async fn a_manager_that_starts_marks_what_another_left() {
    let memory = memory();
    let first = manager_on(memory.clone()).await;
    first.create("a").owner("acme").await.unwrap();
    first.shutdown().await.unwrap();
    let revocation = OwnerRevocation::new(Timestamp::from_millis(1_000));
    memory
        .revoke_owner_keys("acme", &revocation, &ChangeOrigin::new())
        .await
        .unwrap();
    let store = noting(&memory);
    let _manager = manager_on(store.clone()).await;
    store.has_marked().await;
}

/// The node that made the call cannot write, so another marks: it follows the owner's change.
#[actix_web::test]
async fn a_node_that_follows_the_revocation_marks_what_another_cannot() {
    let memory = memory();
    let (here_store, there_store) = (noting(&memory), noting(&memory));
    let here = manager_on(here_store.clone()).await;
    let _there = manager_on(there_store.clone()).await;
    here_store.inner.fail(Call::MarkKeys, Fault::Unavailable);
    let log = Log::capture();
    here.create("a").owner("acme").await.unwrap();
    assert!(here.revoke_all("acme").await.unwrap());
    there_store.has_marked().await;
    let tried = within(PATIENCE, async || {
        here_store.inner.count(Call::MarkKeys) >= 3
    });
    assert!(tried.await.is_some(), "it tries again");
    assert!(
        log.lines(&["WARN", "not marked yet", "the test says so"])
            .len()
            >= 2,
        "each failure is logged"
    );
    // When it can write again, it goes on.
    let steps = here_store.steps();
    here_store.inner.heal();
    let healed = within(PATIENCE, async || here_store.steps() > steps).await;
    assert!(healed.is_some());
}

/// Without a revocation, a manager looks once, at its start.
#[actix_web::test]
async fn marking_waits_for_a_change_of_an_owner() {
    let memory = memory();
    let store = noting(&memory);
    let manager = manager_on(store.clone()).await;
    let looked = within(PATIENCE, async || store.steps() == 1).await;
    assert!(looked.is_some());
    let polls = store.inner.count(Call::Changes);
    let key = manager.create("a").owner("acme").await.unwrap();
    manager.revoke(key.id()).await.unwrap();
    manager.create("a").owner("acme").await.unwrap();
    let followed = within(PATIENCE, async || store.inner.count(Call::Changes) > polls);
    assert!(followed.await.is_some());
    assert_eq!(store.steps(), 1);
    assert!(manager.revoke_all("acme").await.unwrap());
    store.has_marked().await;
}

#[actix_web::test]
async fn a_shutdown_does_not_wait_for_marking() {
    let store = GateStore::around(memory());
    let manager = patient_manager(store.clone()).await;
    manager.create("a").owner("acme").await.unwrap();
    let step = store.gate_before(Call::MarkKeys);
    assert!(manager.revoke_all("acme").await.unwrap());
    step.arrived().await;
    soon(manager.shutdown()).await.unwrap();
}
