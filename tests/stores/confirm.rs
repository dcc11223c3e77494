//! `ApiKeyManager::confirm`, after changes that were not confirmed themselves.

use std::time::{Duration, Instant};

use apikey_runtime::{ApiKeyManager, DenyReason, NewKey};
use apikey_test_support::fleet::Fleet;
use apikey_test_support::store::{Call, GateStore};
use apikey_test_support::{PATIENCE, manager_on, soon, within};

/// Long enough for some reads of the member list on a busy machine.
const LEASE: Duration = Duration::from_secs(2);

async fn refusal(manager: &ApiKeyManager, key: &NewKey) -> Option<DenyReason> {
    let answer = soon(manager.verify(key.expose_secret())).await;
    answer.err().map(|denied| denied.reason())
}

#[actix_web::test]
async fn confirm_waits_for_each_node_that_follows_earlier_changes() {
    for fleet in Fleet::every(LEASE).await {
        let name = fleet.name;
        let here_store = GateStore::around(fleet.store());
        let far_store = GateStore::around(fleet.store());
        let here = manager_on(here_store.clone()).await;
        let far = manager_on(far_store.clone()).await;
        let key = here.create("a").await.unwrap();
        tokio::time::sleep(LEASE + LEASE / 5).await;
        // Control: a node that follows does not make it wait for the end of a lease. A busy machine may stop
        // that node for a lease, but not each time.
        let mut late = Vec::new();
        loop {
            let done = soon(here.confirm()).await.unwrap();
            if done.acknowledged.len() == 1 && !done.outlasted {
                break;
            }
            late.push(done);
            assert!(late.len() < 3, "{name} {late:?}");
        }

        let poll = far_store.gate_before(Call::Changes);
        poll.arrived().await;
        assert_eq!(refusal(&far, &key).await, None, "{name}");
        assert!(soon(here.revoke(key.id())).await.unwrap(), "{name}");
        let (began, asked) = (Instant::now(), here_store.count(Call::Nodes));
        let confirming = {
            let here = here.clone();
            actix_web::rt::spawn(async move { here.confirm().await })
        };
        let waited = within(PATIENCE, async || {
            confirming.is_finished() || here_store.count(Call::Nodes) >= asked + 5
        });
        assert!(waited.await.is_some(), "{name}");
        let is_early = |began: Instant| began.elapsed() < LEASE;
        assert!(!confirming.is_finished() || !is_early(began), "{name}");
        far_store.heal();
        poll.open();
        let done = soon(confirming).await.unwrap().unwrap();
        assert_eq!(
            refusal(&far, &key).await,
            Some(DenyReason::Revoked),
            "{name}"
        );
        // Unless the machine was so slow that the lease has ended meanwhile.
        if is_early(began) {
            assert_eq!(done.acknowledged.len(), 1, "{name} {done:?}");
            assert!(done.waited_out.is_empty() && !done.outlasted, "{name}");
        }
    }
}

/// A node that does not follow until its lease has ended is named.
#[actix_web::test]
async fn confirm_waits_out_a_node_that_does_not_follow() {
    const SHORT: Duration = Duration::from_millis(500);
    for fleet in Fleet::every(SHORT).await {
        let name = fleet.name;
        let far_store = GateStore::around(fleet.store());
        let here = manager_on(fleet.store()).await;
        let far = manager_on(far_store.clone()).await;
        let key = here.create("a").await.unwrap();
        let poll = far_store.gate_before(Call::Changes);
        poll.arrived().await;
        assert!(soon(here.revoke(key.id())).await.unwrap(), "{name}");
        let began = Instant::now();
        let done = soon(here.confirm()).await.unwrap();
        assert!(
            began.elapsed() >= SHORT && done.outlasted,
            "{name} {done:?}"
        );
        assert_eq!(done.waited_out.len(), 1, "{name} {done:?}");
        far_store.heal();
        poll.open();
        assert_eq!(
            refusal(&far, &key).await,
            Some(DenyReason::Revoked),
            "{name}"
        );
    }
}
