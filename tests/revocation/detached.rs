//! A detached manager: a tool beside the nodes of a store, and not one of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use apikey_runtime::{ApiKeyManager, DenyReason, KeyStore, MemoryStore, NewKey};
use apikey_test_support::fleet::Fleet;
use apikey_test_support::store::{Call, GateStore};
use apikey_test_support::{PATIENCE, manager_on, soon, within};

/// Short enough for a test to wait for its end, and long enough for a node to acknowledge, also on a busy machine.
const LEASE: Duration = Duration::from_secs(3);

async fn detached_on(store: Arc<dyn KeyStore>) -> ApiKeyManager {
    let builder = ApiKeyManager::builder().shared_store(store).detached();
    builder.start().await.unwrap()
}

async fn refusal(manager: &ApiKeyManager, key: &NewKey) -> Option<DenyReason> {
    let answer = soon(manager.verify(key.expose_secret())).await;
    answer.err().map(|denied| denied.reason())
}

#[actix_web::test]
async fn nodes_learn_of_its_changes_and_it_is_no_member() {
    for fleet in Fleet::every(LEASE).await {
        let name = fleet.name;
        let node = manager_on(fleet.store()).await;
        let tool = detached_on(fleet.store()).await;
        let key = soon(tool.create("a").owner("42")).await.unwrap();
        assert_eq!(refusal(&node, &key).await, None, "{name}");

        soon(tool.revoke(key.id())).await.unwrap();
        let revoked = async || refusal(&node, &key).await == Some(DenyReason::Revoked);
        assert!(within(PATIENCE, revoked).await.is_some(), "{name}");

        let other = soon(node.create("b").owner("42")).await.unwrap();
        assert_eq!(refusal(&node, &other).await, None, "{name}");
        let done = soon(tool.revoke(other.id()).confirmed()).await.unwrap();
        assert_eq!(refusal(&node, &other).await, Some(DenyReason::Revoked));
        let [member] = &tool.members().await.unwrap()[..] else {
            panic!("{name}: only the node is a member");
        };
        assert_eq!(done.propagation.acknowledged, [member.id], "{name}");
        assert!(done.propagation.waited_out.is_empty(), "{name}");
        assert!(done.propagation.outlasted, "{name}");

        // An owner's change, and one of many keys, do not wait for a poll that never comes.
        let began = Instant::now();
        soon(tool.suspend_owner("42")).await.unwrap();
        soon(tool.revoke_all("42")).await.unwrap();
        let now = apikey_test_support::later(&tool).await;
        assert_eq!(soon(tool.purge(now)).await.unwrap(), 2, "{name}");
        assert!(began.elapsed() < PATIENCE / 2, "{name}");
    }
}

/// What it verifies is what the store says at that moment, also of an id that was unknown shortly before.
#[actix_web::test]
async fn it_trusts_nothing_that_it_has_read() {
    let store = Arc::new(MemoryStore::new());
    let node = manager_on(store.clone()).await;
    let tool = detached_on(store.clone()).await;
    let key = node.create("a").await.unwrap();
    assert_eq!(refusal(&tool, &key).await, None);
    node.disable(key.id()).await.unwrap();
    assert_eq!(refusal(&tool, &key).await, Some(DenyReason::Disabled));
    node.enable(key.id()).await.unwrap();
    assert_eq!(refusal(&tool, &key).await, None);

    // A key of another store with the id of a later one.
    let elsewhere = manager_on(Arc::new(MemoryStore::new())).await;
    let stray = elsewhere.create("b").await.unwrap();
    assert_eq!(refusal(&tool, &stray).await, Some(DenyReason::InvalidKey));
    let record = elsewhere.get(stray.id()).await.unwrap();
    let options = apikey_runtime::store::WriteOptions::new();
    store.insert(&record, &options).await.unwrap();
    assert_eq!(refusal(&tool, &stray).await, None);
}

/// A tool that ends without a word, as by a signal, is not waited for. The control is a node that does so.
#[actix_web::test]
async fn one_that_is_gone_delays_no_confirmation() {
    for is_node in [false, true] {
        let store = Arc::new(MemoryStore::new().with_lease(LEASE));
        let here = manager_on(store.clone()).await;
        let gate = GateStore::around(store.clone());
        let gone = match is_node {
            true => manager_on(gate.clone()).await,
            false => detached_on(gate.clone()).await,
        };
        let key = here.create("a").await.unwrap();
        tokio::time::sleep(LEASE * 2).await;
        // In the middle of a call, and from now on silent.
        gate.fail(Call::Changes, apikey_test_support::store::Fault::Hangs);
        gate.fail(Call::Acknowledge, apikey_test_support::store::Fault::Hangs);
        let write = gate.gate_before(Call::Update);
        let call = tokio::task::spawn_local(gone.disable(key.id()).confirmed());
        write.arrived().await;
        call.abort();
        let done = soon(here.revoke(key.id()).confirmed()).await.unwrap();
        let waited_out = done.propagation.waited_out.len();
        assert_eq!(waited_out, usize::from(is_node), "{done:?}");
        assert_eq!(done.propagation.outlasted, is_node, "{done:?}");
        write.open();
    }
}

/// A node that neither hears of the change nor polls is waited out. Before, the control, it still allows the key.
#[actix_web::test]
async fn it_waits_out_a_node_that_does_not_acknowledge() {
    let store = Arc::new(MemoryStore::new().with_lease(LEASE));
    let far_store = GateStore::around(store.clone());
    far_store.cut_push();
    let far = manager_on(far_store.clone()).await;
    let tool = detached_on(store).await;
    for confirmed in [false, true] {
        let key = tool.create("a").await.unwrap();
        far_store.polled().await;
        let poll = far_store.gate_before(Call::Changes);
        poll.arrived().await;
        assert_eq!(refusal(&far, &key).await, None, "cached under the lease");
        if confirmed {
            let done = soon(tool.revoke(key.id()).confirmed()).await.unwrap();
            assert_eq!(done.propagation.waited_out.len(), 1, "{done:?}");
            assert_eq!(refusal(&far, &key).await, Some(DenyReason::Revoked));
        } else {
            tool.revoke(key.id()).await.unwrap();
            let accepted = refusal(&far, &key).await.is_none();
            // Unless the machine was so slow that the lease has ended meanwhile: no poll grants another.
            assert!(accepted || far.health().lease_remaining.is_none());
        }
        far_store.heal();
        poll.open();
    }
}

/// Between its calls, it leaves the store alone.
#[actix_web::test]
async fn it_calls_the_store_only_when_it_is_called() {
    let store = GateStore::around(Arc::new(MemoryStore::new().with_lease(LEASE)));
    let tool = detached_on(store.clone()).await;
    tool.create("a").await.unwrap();
    let called = || {
        let calls = store.transcript();
        calls.lines().count()
    };
    let before = called();
    tokio::time::sleep(LEASE * 2).await;
    assert_eq!(called(), before, "{}", store.transcript());
    tool.shutdown().await.unwrap();
    for call in [Call::Join, Call::Leave, Call::Changes, Call::Acknowledge] {
        assert_eq!(store.count(call), 0, "{call:?}");
    }
}
