//! Changes of owners: lost answers, stores without owners, and nodes of an older build.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use apikey_runtime::store::{MemberList, Node, NodeId, StoreError};
use apikey_runtime::{
    ApiKeyManager, Config, DenyReason, Error, KeyState, KeyStore, MemoryStore, NewKey,
};
use apikey_test_support::store::{Call, Fault, Forward, Forwarding, GateStore, WithoutOwners};
use apikey_test_support::{manager_on, patient_manager, soon};

/// Outlasts every test.
const LONG: Duration = Duration::from_secs(60);

fn leased() -> Arc<MemoryStore> {
    Arc::new(MemoryStore::new().with_lease(LONG))
}

async fn refusal(manager: &ApiKeyManager, key: &NewKey) -> Option<DenyReason> {
    let answer = soon(manager.verify(key.expose_secret())).await;
    answer.err().map(|denied| denied.reason())
}

/// A change that was possibly made counts at once: the key is read again.
#[actix_web::test]
async fn v10_a_change_of_an_owner_whose_answer_is_lost_is_an_error_and_counts() {
    let config = Config::builder().store_timeout(Duration::from_secs(1));
    let config = config.build().unwrap();
    for fault in [
        Fault::Unavailable,
        Fault::Backend,
        Fault::AnswerLost,
        Fault::Hangs,
    ] {
        let store = GateStore::around(leased());
        let builder = ApiKeyManager::builder().config(config.clone());
        let manager = builder.shared_store(store.clone()).start().await.unwrap();
        let key = manager.create("a").owner("acme").await.unwrap();
        let changes = [
            (Call::SuspendOwner, DenyReason::Disabled),
            (Call::RevokeOwnerKeys, DenyReason::Revoked),
        ];
        for (call, reason) in changes {
            assert_eq!(refusal(&manager, &key).await, None, "{fault:?}");
            store.fail(call, fault);
            let outcome = match call {
                Call::SuspendOwner => soon(manager.suspend_owner("acme")).await,
                _ => soon(manager.revoke_all("acme")).await,
            };
            assert!(matches!(outcome, Err(Error::Store(_))), "{fault:?}");
            let expected = (fault == Fault::AnswerLost).then_some(reason);
            assert_eq!(refusal(&manager, &key).await, expected, "{fault:?}");
            store.heal();
            if call == Call::SuspendOwner {
                manager.resume_owner("acme").await.unwrap();
            }
        }
    }
}

#[actix_web::test]
async fn a_store_without_owners_revokes_in_steps_and_says_that_it_cannot_suspend() {
    let manager = manager_on(WithoutOwners::around(leased())).await;
    let key = manager.create("a").owner("acme").await.unwrap();
    assert_eq!(refusal(&manager, &key).await, None);
    for outcome in [
        manager.suspend_owner("acme").await.map(drop),
        manager.resume_owner("acme").await.map(drop),
        manager.owner_state("acme").await.map(drop),
    ] {
        let Err(Error::Unsupported(said)) = outcome else {
            panic!("{outcome:?}");
        };
        assert!(said.contains("KeyStore::owners"), "{said}");
    }
    assert_eq!(refusal(&manager, &key).await, None);
    assert!(manager.revoke_all("acme").await.unwrap());
    assert_eq!(refusal(&manager, &key).await, Some(DenyReason::Revoked));
    assert!(
        !manager.revoke_all("acme").await.unwrap(),
        "no key was left to revoke"
    );
}

/// Lists one more node, of an older build.
#[derive(Debug)]
struct WithOlderNode {
    gated: Arc<GateStore>,
    is_listed: AtomicBool,
    fails: AtomicBool,
}

fn older() -> NodeId {
    NodeId::from_u128(7)
}

impl Forward for WithOlderNode {
    fn inner(&self) -> &dyn KeyStore {
        &*self.gated
    }

    async fn members(&self) -> Result<MemberList, StoreError> {
        if self.fails.load(SeqCst) {
            return Err(StoreError::unavailable("the test says so"));
        }
        let mut members = self.gated.membership().unwrap().members().await?;
        if self.is_listed.load(SeqCst) {
            let epoch = members.cursor.epoch;
            members
                .nodes
                .push(Node::new(older(), epoch, 1, true).with_protocol(1));
        }
        Ok(members)
    }
}

fn with_older_node(gated: &Arc<GateStore>) -> Arc<Forwarding<WithOlderNode>> {
    Arc::new(Forwarding(WithOlderNode {
        gated: Arc::clone(gated),
        is_listed: AtomicBool::new(true),
        fails: AtomicBool::new(false),
    }))
}

/// An older build reads the records alone, for each request.
#[actix_web::test]
async fn while_an_older_node_is_listed_revoke_all_marks_the_keys_before_it_returns() {
    for (is_listed, fails) in [(true, false), (false, true), (false, false)] {
        let gated = GateStore::around(leased());
        let store = with_older_node(&gated);
        let manager = patient_manager(store.clone()).await;
        let key = manager.create("a").owner("acme").await.unwrap();
        store.is_listed.store(is_listed, SeqCst);
        store.fails.store(fails, SeqCst);
        let step = gated.gate_before(Call::MarkKeys);
        let mut revoking = tokio::spawn({
            let manager = manager.clone();
            async move { manager.revoke_all("acme").await }
        });
        // The task in the background and, if there is one, the call.
        step.arrived().await;
        if is_listed || fails {
            step.arrived().await;
            assert!(!revoking.is_finished(), "it waits for the marking");
            // It is in effect on this node nevertheless.
            assert_eq!(refusal(&manager, &key).await, Some(DenyReason::Revoked));
            step.open();
        }
        // The control: without such a node, the marking has not begun.
        assert!(soon(&mut revoking).await.unwrap().unwrap());
        step.open();
    }
}

#[actix_web::test]
async fn while_an_older_node_is_listed_an_owner_is_not_suspended() {
    let gated = GateStore::around(leased());
    let store = with_older_node(&gated);
    let manager = patient_manager(store.clone()).await;
    let key = manager.create("a").owner("acme").await.unwrap();
    let error = manager.suspend_owner("acme").await.unwrap_err();
    let Error::Unsupported(said) = error else {
        panic!("{error}");
    };
    let node = older().to_string();
    assert!(said.contains(&node) && said.contains("update"), "{said}");
    store.fails.store(true, SeqCst);
    let error = manager.suspend_owner("acme").await.unwrap_err();
    assert!(matches!(error, Error::Store(_)), "{error}");
    assert_eq!(gated.count(Call::SuspendOwner), 0);
    assert_eq!(refusal(&manager, &key).await, None);

    // The control.
    store.fails.store(false, SeqCst);
    store.is_listed.store(false, SeqCst);
    assert!(manager.suspend_owner("acme").await.unwrap());
    assert_eq!(refusal(&manager, &key).await, Some(DenyReason::Disabled));
    // What ends a suspension does not depend on older nodes: they accept the keys anyway.
    store.is_listed.store(true, SeqCst);
    assert!(manager.resume_owner("acme").await.unwrap());
    let active = manager.list().state(KeyState::Active).await.unwrap();
    assert_eq!(active.keys.len(), 1);
}
