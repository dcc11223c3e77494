//! Changes that every node confirms, and how nodes learn of each other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use apikey_runtime::manager::StoreHealth;
use apikey_runtime::store::{Membership, NodeId};
use apikey_runtime::{
    ApiKeyManager, DenyReason, Error, KeyStore, MemoryStore, NewKey, SqliteStore,
};
use apikey_test_support::store::{Call, Fault, GateStore, NoHistory};
use apikey_test_support::{PATIENCE, manager_on, patient_manager, soon, within};

/// Short enough for a test to wait for its end.
const LEASE: Duration = Duration::from_millis(100);

/// Short enough for a test to wait for its end, and longer than a pause of a busy machine.
const ROOMY: Duration = Duration::from_secs(3);

/// Outlasts every test.
const LONG: Duration = Duration::from_secs(60);

fn leased(lease: Duration) -> Arc<MemoryStore> {
    Arc::new(MemoryStore::new().with_lease(lease))
}

async fn is_accepted(manager: &ApiKeyManager, key: &NewKey) -> bool {
    soon(manager.verify(key.expose_secret())).await.is_ok()
}

async fn refusal(manager: &ApiKeyManager, key: &NewKey) -> Option<DenyReason> {
    let answer = soon(manager.verify(key.expose_secret())).await;
    answer.err().map(|denied| denied.reason())
}

/// Starts managers and waits for longer than a lease, so that they know the members.
async fn settled<const N: usize>(
    lease: Duration,
    stores: [Arc<dyn KeyStore>; N],
) -> [ApiKeyManager; N] {
    let mut managers = Vec::new();
    for store in stores {
        managers.push(manager_on(store).await);
    }
    tokio::time::sleep(lease + LEASE).await;
    managers.try_into().unwrap()
}

async fn names(store: &dyn KeyStore) -> Vec<NodeId> {
    let roster = store.membership().unwrap().members().await.unwrap();
    roster.nodes.iter().map(|node| node.id).collect()
}

#[actix_web::test]
async fn v02_a_confirmed_revocation_is_acknowledged_by_every_node() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.db");
    // With a file, each node opens its own store, as processes do: there is no push.
    let in_file = || Arc::new(SqliteStore::new(&file).lease(ROOMY)) as Arc<dyn KeyStore>;
    let in_memory = leased(ROOMY) as Arc<dyn KeyStore>;
    let kinds = [
        [in_memory.clone(), in_memory.clone(), in_memory],
        [in_file(), in_file(), in_file()],
    ];
    for stores in kinds {
        let [here, there, elsewhere] = settled(ROOMY, stores).await;
        let key = here.create("a").await.unwrap();
        for manager in [&here, &there, &elsewhere] {
            assert!(is_accepted(manager, &key).await);
        }
        let confirmed = soon(here.revoke(key.id()).confirmed()).await.unwrap();
        for manager in [&here, &there, &elsewhere] {
            assert_eq!(refusal(manager, &key).await, Some(DenyReason::Revoked));
        }
        assert!(confirmed.value, "this call revoked it");
        assert_eq!(confirmed.propagation.acknowledged.len(), 2, "{confirmed:?}");
        assert!(!confirmed.propagation.outlasted, "{confirmed:?}");
        let again = soon(there.revoke(key.id()).confirmed()).await.unwrap();
        assert!(!again.value, "it was revoked before");
    }
}

/// V-02, V-03: a node that does not learn of a change still allows from its cache after a plain
/// `revoke` returned (the control), and denies after a confirmed one.
#[actix_web::test]
async fn v03_a_node_that_is_cut_off_is_waited_out() {
    for confirmed in [false, true] {
        let store = leased(ROOMY);
        let far_store = GateStore::around(store.clone());
        far_store.cut_push();
        let [here, far] = settled(ROOMY, [store.clone(), far_store.clone()]).await;
        let key = here.create("a").await.unwrap();
        far_store.polled().await;
        let poll = far_store.gate_before(Call::Changes);
        poll.arrived().await;
        assert!(
            is_accepted(&far, &key).await,
            "read, and cached under the lease"
        );
        if confirmed {
            let began = Instant::now();
            let done = soon(here.revoke(key.id()).confirmed()).await.unwrap();
            assert_eq!(done.propagation.waited_out.len(), 1, "{done:?}");
            assert!(done.propagation.outlasted && done.propagation.acknowledged.is_empty());
            assert!(began.elapsed() >= ROOMY);
            assert_eq!(refusal(&far, &key).await, Some(DenyReason::Revoked));
        } else {
            here.revoke(key.id()).await.unwrap();
            let accepted = is_accepted(&far, &key).await;
            // Unless the machine was so slow that the lease has ended meanwhile: no poll grants another.
            assert!(accepted || far.health().lease_remaining.is_none());
        }
        poll.open();
    }
}

#[actix_web::test]
async fn a_push_makes_other_nodes_look_at_once() {
    let store = leased(LONG);
    let deaf_store = GateStore::around(store.clone());
    deaf_store.cut_push();
    let here = manager_on(store.clone()).await;
    let there = manager_on(store).await;
    let deaf = manager_on(deaf_store).await;
    let key = here.create("a").await.unwrap();
    for manager in [&there, &deaf] {
        assert!(is_accepted(manager, &key).await);
    }
    here.revoke(key.id()).await.unwrap();
    let heard = within(PATIENCE / 2, async || !is_accepted(&there, &key).await).await;
    assert!(heard.is_some(), "a third of the lease is 20 s");
    assert!(is_accepted(&deaf, &key).await, "the control has no push");
}

#[actix_web::test]
async fn v04_update_rotate_disable_and_revoke_all_are_confirmed_too() {
    let store = leased(ROOMY);
    let [here, there] = settled(ROOMY, [store.clone(), store]).await;
    let key = here.create("a").owner("42").scopes(["a"]).await.unwrap();
    let scopes = async |manager: &ApiKeyManager, key: &NewKey| {
        let answer = soon(manager.verify(key.expose_secret())).await;
        answer.map(|key| key.scopes().to_string()).ok()
    };
    assert_eq!(scopes(&there, &key).await.as_deref(), Some("a"));
    let update = soon(here.update(key.id()).scopes(["b"]).confirmed()).await;
    assert_eq!(scopes(&there, &key).await.as_deref(), Some("b"));
    assert_eq!(update.unwrap().value.scopes.to_string(), "b");

    let rotation = soon(here.rotate(key.id()).confirmed()).await.unwrap();
    assert!(!is_accepted(&there, &key).await, "no grace");
    let key = rotation.value;
    assert!(is_accepted(&there, &key).await, "the new secret, at once");

    soon(here.disable(key.id()).confirmed()).await.unwrap();
    assert_eq!(refusal(&there, &key).await, Some(DenyReason::Disabled));
    soon(here.enable(key.id()).confirmed()).await.unwrap();
    assert!(is_accepted(&there, &key).await);

    let all = soon(here.revoke_all("42").confirmed()).await.unwrap();
    assert_eq!(refusal(&there, &key).await, Some(DenyReason::Revoked));
    assert!(all.value);
    assert_eq!(all.propagation.acknowledged.len(), 1);
}

/// V-10.
#[actix_web::test]
async fn v10_a_change_that_fails_is_never_confirmed() {
    let store = GateStore::around(leased(LEASE));
    let manager = manager_on(store.clone()).await;
    let key = manager.create("a").await.unwrap();
    for fault in [Fault::Unavailable, Fault::Backend, Fault::AnswerLost] {
        store.fail(Call::Revoke, fault);
        let error = soon(manager.revoke(key.id()).confirmed())
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Store(_)), "{error}");
    }
    store.heal();
    let done = soon(manager.revoke(key.id()).confirmed()).await.unwrap();
    assert!(!done.value, "the answer was lost, not the revocation");
}

#[actix_web::test]
async fn while_the_list_of_nodes_cannot_be_read_nothing_is_confirmed() {
    let store = GateStore::around(leased(LEASE));
    let [manager] = settled(LEASE, [store.clone() as Arc<dyn KeyStore>]).await;
    let key = manager.create("a").await.unwrap();
    store.fail(Call::Nodes, Fault::Unavailable);
    let mut confirming = Box::pin(manager.revoke(key.id()).confirmed().into_future());
    let early = tokio::time::timeout(LEASE * 3, &mut confirming).await;
    assert!(
        early.is_err(),
        "it is unknown which nodes have cached the key: {early:?}"
    );
    assert_eq!(refusal(&manager, &key).await, Some(DenyReason::Revoked));
    store.heal();
    assert!(soon(confirming).await.unwrap().value);
}

/// After a restore from a dump, nodes that joined later are not in the member list, and may hold a
/// lease.
#[actix_web::test]
async fn a_history_that_was_put_back_lets_a_confirmation_wait_out_the_lease() {
    let store = GateStore::around(leased(ROOMY));
    let [manager] = settled(ROOMY, [store.clone() as Arc<dyn KeyStore>]).await;
    for restored in [false, true] {
        let key = manager.create("a").await.unwrap();
        store.polled().await;
        if restored {
            store.restore();
        }
        let began = Instant::now();
        let done = soon(manager.revoke(key.id()).confirmed()).await.unwrap();
        assert_eq!(done.propagation.outlasted, restored, "{done:?}");
        assert!(!restored || began.elapsed() >= ROOMY);
    }
}

/// The answer counts from its arrival: until then the store may have been another.
#[actix_web::test]
async fn a_history_that_was_put_back_while_a_poll_was_on_its_way_counts_from_the_answer() {
    let store = GateStore::around(leased(ROOMY));
    let manager = patient_manager(store.clone()).await;
    let key = manager.create("a").await.unwrap();
    let poll = store.gate_before(Call::Changes);
    poll.arrived().await;
    // From its start, the poll would have outlasted the lease.
    tokio::time::sleep(ROOMY + LEASE).await;
    store.restore();
    store.heal();
    poll.open();
    let done = soon(manager.revoke(key.id()).confirmed()).await.unwrap();
    assert!(done.propagation.outlasted, "{done:?}");
}

#[actix_web::test]
async fn a_list_that_is_lost_while_it_is_looked_at_lets_nobody_go() {
    let inner = leased(ROOMY);
    let far_store = GateStore::around(inner.clone());
    let [here, far] = settled(ROOMY, [inner.clone(), far_store.clone()]).await;
    let key = here.create("a").await.unwrap();
    assert!(is_accepted(&far, &key).await);
    let poll = far_store.gate_before(Call::Changes);
    poll.arrived().await;
    let confirming = tokio::spawn({
        let (here, id) = (here.clone(), key.id());
        async move { here.revoke(id).confirmed().await }
    });
    let revoked = within(PATIENCE, async || {
        inner
            .find(&key.id())
            .await
            .unwrap()
            .unwrap()
            .revoked
            .is_some()
    });
    assert!(revoked.await.is_some());
    for node in names(&*inner).await {
        inner.leave(&node).await.unwrap();
    }
    let done = soon(confirming).await.unwrap().unwrap();
    assert!(!is_accepted(&far, &key).await);
    assert!(done.propagation.outlasted, "{done:?}");
    poll.open();
}

/// A removed node does not hold a lease, and confirmations do not wait for it: what it reads for
/// one check must not serve a check that began later.
#[actix_web::test]
async fn without_a_lease_no_check_joins_a_read_that_began_before_it() {
    let inner = leased(ROOMY);
    let far_store = GateStore::around(inner.clone());
    let [here, far] = settled(ROOMY, [inner.clone(), far_store.clone()]).await;
    for call in [Call::Changes, Call::Join, Call::Acknowledge] {
        far_store.fail(call, Fault::Unavailable);
    }
    let struck = within(PATIENCE, async || names(&*inner).await.len() == 1).await;
    assert!(struck.is_some());
    let key = here.create("a").await.unwrap();
    let read = far_store.gate_after(Call::Find);
    let early = tokio::spawn({
        let (far, secret) = (far.clone(), key.expose_secret().to_owned());
        async move { far.verify(&secret).await.is_ok() }
    });
    read.arrived().await;
    let done = soon(here.revoke(key.id()).confirmed()).await.unwrap();
    assert!(!done.propagation.outlasted && done.propagation.acknowledged.is_empty());
    let mut late = Box::pin(far.verify(key.expose_secret()));
    // As far as it gets by itself: it has started or joined a read.
    assert!(futures_poll(&mut late).is_none());
    read.open();
    assert!(soon(early).await.unwrap(), "it began before");
    let late = soon(late).await.unwrap_err();
    assert_eq!(late.reason(), DenyReason::Revoked);
}

fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::Pin::new(future).poll(&mut context) {
        std::task::Poll::Ready(output) => Some(output),
        std::task::Poll::Pending => None,
    }
}

/// A key that another node gave to the owner shortly before is denied here, too, when the call
/// returns.
#[actix_web::test]
async fn v01_a_change_of_an_owner_takes_in_keys_that_another_node_gave_it() {
    for (polls_fail, suspends) in [(false, false), (false, true), (true, false), (true, true)] {
        let inner = leased(LONG);
        let deaf = GateStore::around(inner.clone());
        deaf.cut_push();
        let other = manager_on(inner).await;
        let here = manager_on(deaf.clone()).await;
        let first = other.create("first").owner("42").await.unwrap();
        let given = other.create("given").owner("x").await.unwrap();
        let kept = other.create("kept").owner("42").await.unwrap();
        for key in [&first, &given, &kept] {
            assert!(is_accepted(&here, key).await);
        }
        other.update(given.id()).owner("42").await.unwrap();
        other.update(kept.id()).owner("x").await.unwrap();
        assert!(
            is_accepted(&here, &given).await,
            "the control: it has not learned of it"
        );
        if polls_fail {
            deaf.fail(Call::Changes, Fault::Unavailable);
        }
        if suspends {
            assert!(soon(here.suspend_owner("42")).await.unwrap());
        } else {
            assert!(soon(here.revoke_all("42")).await.unwrap());
        }
        assert!(!is_accepted(&here, &first).await);
        assert!(!is_accepted(&here, &given).await);
        assert!(is_accepted(&here, &kept).await, "it left the owner before");
    }
}

#[actix_web::test]
async fn a_manager_that_ends_waits_for_no_other_node() {
    let inner = leased(LONG);
    let manager = manager_on(inner.clone()).await;
    let key = manager.create("a").await.unwrap();
    inner.join(&NodeId::from_u128(7)).await.unwrap();
    let confirming = tokio::spawn({
        let (manager, id) = (manager.clone(), key.id());
        async move { manager.revoke(id).confirmed().await }
    });
    let revoked = within(PATIENCE, async || {
        inner
            .find(&key.id())
            .await
            .unwrap()
            .unwrap()
            .revoked
            .is_some()
    });
    assert!(revoked.await.is_some());
    soon(manager.shutdown()).await.unwrap();
    let error = soon(confirming).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::ShutDown), "{error}");
}

#[actix_web::test]
async fn a_manager_that_has_just_started_waits_out_the_lease() {
    let manager = manager_on(leased(ROOMY)).await;
    let key = manager.create("a").await.unwrap();
    let done = soon(manager.revoke(key.id()).confirmed()).await.unwrap();
    assert!(done.propagation.outlasted && done.propagation.waited_out.is_empty());
}

#[actix_web::test]
async fn a_store_without_a_history_is_waited_for_as_long_as_a_read_may_take() {
    let config = apikey_runtime::Config::builder().store_timeout(LEASE);
    let manager = ApiKeyManager::builder()
        .config(config.build().unwrap())
        .store(NoHistory::default())
        .start()
        .await
        .unwrap();
    let key = manager.create("a").await.unwrap();
    let began = Instant::now();
    let done = soon(manager.revoke(key.id()).confirmed()).await.unwrap();
    assert!(done.value && done.propagation.outlasted && began.elapsed() >= LEASE);
}

#[actix_web::test]
async fn a_call_that_is_dropped_while_it_waits_has_revoked_the_key() {
    let store = GateStore::around(leased(LONG));
    let manager = manager_on(store.clone()).await;
    let key = manager.create("a").await.unwrap();
    let nodes = store.gate_before(Call::Nodes);
    let mut confirming = Box::pin(manager.revoke(key.id()).confirmed().into_future());
    tokio::select! {
        _ = &mut confirming => panic!("it waits at the gate"),
        () = nodes.arrived() => {}
    }
    drop(confirming);
    assert_eq!(refusal(&manager, &key).await, Some(DenyReason::Revoked));
}

#[actix_web::test]
async fn a_node_that_ends_leaves_the_list_and_one_that_vanished_is_struck_off() {
    let store = leased(Duration::from_millis(20));
    let stays = manager_on(store.clone()).await;
    let ends = manager_on(store.clone()).await;
    assert_eq!(names(&*store).await.len(), 2);
    ends.shutdown().await.unwrap();
    assert_eq!(names(&*store).await.len(), 1);
    // A killed node does not acknowledge.
    let vanished = NodeId::from_u128(7);
    store.join(&vanished).await.unwrap();
    let struck = within(PATIENCE, async || !names(&*store).await.contains(&vanished)).await;
    assert!(struck.is_some(), "{:?}", store.members().await);
    assert_eq!(names(&*store).await.len(), 1, "a live node stays");
    drop(stays);
}

/// A node that was removed although it is alive does not trust its cache until it has joined again.
#[actix_web::test]
async fn a_node_that_was_struck_off_joins_anew_with_an_empty_memory() {
    let inner = leased(LEASE);
    let store = GateStore::around(inner.clone());
    let manager = manager_on(store.clone()).await;
    let key = manager.create("a").await.unwrap();
    store.polled().await;
    // On a busy machine the lease may end between two checks.
    let from_memory = within(PATIENCE, async || {
        let read = store.count(Call::Find);
        is_accepted(&manager, &key).await && store.count(Call::Find) == read
    });
    assert!(from_memory.await.is_some());
    let read = store.count(Call::Find);
    // Within one poll, so that the heartbeat does not change.
    loop {
        let node = inner.members().await.unwrap().nodes[0].clone();
        inner.suspect(&node).await.unwrap();
        let suspected = inner.members().await.unwrap().nodes;
        if suspected.iter().any(|node| node.suspected) {
            break;
        }
    }
    let back = within(PATIENCE, async || {
        let nodes = inner.members().await.unwrap().nodes;
        nodes.len() == 1 && !nodes[0].suspected
    })
    .await;
    assert!(back.is_some());
    assert!(is_accepted(&manager, &key).await);
    assert!(store.count(Call::Find) > read, "read again");
}

#[actix_web::test]
async fn the_health_report_tells_how_the_store_and_the_lease_stand() {
    let store = GateStore::around(leased(LEASE));
    let manager = manager_on(store.clone()).await;
    let health = manager.health();
    assert!(health.is_ready() && health.store == StoreHealth::Up);
    assert_eq!(health.lease_length, Some(LEASE));
    assert!(health.last_answer.is_some());
    let leased = within(PATIENCE, async || {
        let left = manager.health().lease_remaining;
        left.is_some_and(|left| left <= LEASE)
    });
    assert!(leased.await.is_some());

    let key = manager.create("a").await.unwrap();
    store.polled().await;
    for _ in 0..4 {
        assert!(is_accepted(&manager, &key).await);
    }
    let health = manager.health();
    assert_eq!(health.cached_keys, 1);
    // The first check had to ask the store. If the lease ended meanwhile on a busy machine, one
    // more did.
    assert!(
        health.cache_misses >= 1 && health.cache_hits >= 1,
        "{health:?}"
    );
    assert_eq!(health.cache_hits + health.cache_misses, 4);
    assert!(health.hit_rate().is_some_and(|rate| rate <= 0.75));

    store.go_down();
    let ended = within(PATIENCE, async || {
        let health = manager.health();
        !health.is_ready() && health.lease_remaining.is_none()
    })
    .await;
    assert!(ended.is_some(), "no store, no lease");
    let health = manager.health();
    let StoreHealth::Down { reason, .. } = &health.store else {
        panic!("{health:?}")
    };
    assert!(!reason.is_empty());
    let json = serde_json::to_value(&health).unwrap();
    assert_eq!(json["store"]["state"], "down");
    assert_eq!(json["lease_remaining_ms"], serde_json::Value::Null);

    store.heal();
    let healed = within(PATIENCE, async || manager.health().is_ready()).await;
    assert!(healed.is_some());
    manager.shutdown().await.unwrap();
    assert_eq!(manager.health().store, StoreHealth::ShutDown);
    assert!(!manager.health().is_ready());
}
