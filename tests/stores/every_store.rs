//! Requirements on every store: revocation, faults and secrets, with several nodes on it.
//!
//! These are the parts of the families V, X and S that depend on the store. The conformance suite
//! tests that a store keeps records and its change log correctly; problems of one kind of store
//! have tests of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use apikey_runtime::store::{KeyPatch, WriteOptions};
use apikey_runtime::{
    ApiKeyManager, Config, DenyReason, KeyId, KeyRecord, KeyState, NewKey, Policy, ScopeExpr,
    Timestamp,
};
use apikey_test_support::fleet::Fleet;
use apikey_test_support::store::{Call, Fault, GateStore};
use apikey_test_support::{PATIENCE, later, manager_on, patient_manager, soon, within};

/// Long enough for every node to acknowledge on a busy machine.
const LEASE: Duration = Duration::from_millis(500);

/// Outlasts every test.
const LONG: Duration = Duration::from_secs(60);

async fn refusal(manager: &ApiKeyManager, key: &NewKey) -> Option<DenyReason> {
    let answer = soon(manager.verify(key.expose_secret())).await;
    answer.err().map(|denied| denied.reason())
}

async fn is_accepted(manager: &ApiKeyManager, key: &NewKey) -> bool {
    refusal(manager, key).await.is_none()
}

/// V-01.
#[actix_web::test]
async fn v01_with_64_readers_no_check_that_starts_after_revoke_returned_accepts_the_key() {
    for fleet in Fleet::every(LEASE).await {
        let manager = manager_on(fleet.store()).await;
        let key = manager.create("a").await.unwrap();
        let (revoked, stop) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicBool::new(false)),
        );
        // Allowed before, allowed after, and denied after `revoke` returned.
        let counts = Arc::new([(); 3].map(|()| AtomicUsize::new(0)));
        let readers: Vec<_> = (0..64)
            .map(|_| {
                let (manager, secret) = (manager.clone(), key.expose_secret().to_owned());
                let (revoked, stop) = (Arc::clone(&revoked), Arc::clone(&stop));
                let counts = Arc::clone(&counts);
                std::thread::spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .build()
                        .unwrap();
                    while !stop.load(SeqCst) {
                        let late = revoked.load(SeqCst);
                        match runtime.block_on(manager.verify(&secret)) {
                            Ok(_) => counts[usize::from(late)].fetch_add(1, SeqCst),
                            Err(_) => counts[2].fetch_add(usize::from(late), SeqCst),
                        };
                        std::thread::yield_now();
                    }
                })
            })
            .collect();
        let warm = within(PATIENCE, async || counts[0].load(SeqCst) > 500).await;
        assert!(warm.is_some(), "{}: the readers read", fleet.name);
        assert!(manager.revoke(key.id()).await.unwrap());
        revoked.store(true, SeqCst);
        let checked = || counts[1].load(SeqCst) + counts[2].load(SeqCst);
        let have_checked = within(PATIENCE, async || checked() > 64).await;
        assert!(
            have_checked.is_some(),
            "{}: the readers read on",
            fleet.name
        );
        stop.store(true, SeqCst);
        readers
            .into_iter()
            .for_each(|reader| reader.join().unwrap());
        assert_eq!(counts[1].load(SeqCst), 0, "{}", fleet.name);
    }
}

/// V-02: by push, or by poll if the store does not push.
#[actix_web::test]
async fn v02_a_plain_revocation_reaches_the_other_nodes_within_the_lease() {
    for fleet in Fleet::every(LEASE).await {
        let here = manager_on(fleet.store()).await;
        let there = manager_on(fleet.store()).await;
        let key = here.create("a").await.unwrap();
        assert!(is_accepted(&there, &key).await, "{}", fleet.name);
        here.revoke(key.id()).await.unwrap();
        let returned = Instant::now();
        loop {
            // What counts is when a check began.
            let late = returned.elapsed();
            if !is_accepted(&there, &key).await {
                break;
            }
            assert!(late < LEASE, "{}", fleet.name);
        }
    }
}

/// V-02, V-03: on every store, an isolated node allows after a plain revocation (the control), and
/// denies after a confirmed one.
#[actix_web::test]
async fn v03_a_confirmed_revocation_holds_on_a_node_that_is_cut_off() {
    for fleet in Fleet::every(LEASE).await {
        let far_store = GateStore::around(fleet.store());
        far_store.cut_push();
        let here = manager_on(fleet.store()).await;
        let far = manager_on(far_store.clone()).await;
        for confirmed in [false, true] {
            let key = here.create("a").await.unwrap();
            far_store.polled().await;
            // Its lease is not older than this.
            let began = Instant::now();
            let poll = far_store.gate_before(Call::Changes);
            poll.arrived().await;
            assert!(is_accepted(&far, &key).await, "{}", fleet.name);
            if confirmed {
                let done = soon(here.revoke(key.id()).confirmed()).await.unwrap();
                assert!(
                    done.value && done.propagation.outlasted,
                    "{}: {done:?}",
                    fleet.name
                );
                assert_eq!(
                    refusal(&far, &key).await,
                    Some(DenyReason::Revoked),
                    "{}",
                    fleet.name
                );
            } else {
                here.revoke(key.id()).await.unwrap();
                let accepted = is_accepted(&far, &key).await;
                assert!(accepted || began.elapsed() > LEASE / 2, "{}", fleet.name);
            }
            far_store.heal();
            poll.open();
        }
    }
}

/// All nodes acknowledge, so the call does not wait for a lease to end.
#[actix_web::test]
async fn v02_nodes_that_answer_confirm_before_a_lease_is_over() {
    const LEASE: Duration = Duration::from_secs(2);
    const TRIES: usize = 3;
    for fleet in Fleet::every(LEASE).await {
        let here = manager_on(fleet.store()).await;
        let others = [
            manager_on(fleet.store()).await,
            manager_on(fleet.store()).await,
        ];
        tokio::time::sleep(LEASE + LEASE / 5).await;
        let mut late = Vec::new();
        loop {
            let key = here.create("a").await.unwrap();
            for manager in &others {
                assert!(is_accepted(manager, &key).await, "{}", fleet.name);
            }
            let done = soon(here.revoke(key.id()).confirmed()).await.unwrap();
            for manager in &others {
                let reason = refusal(manager, &key).await;
                assert_eq!(reason, Some(DenyReason::Revoked), "{}", fleet.name);
            }
            if done.propagation.acknowledged.len() == 2 && !done.propagation.outlasted {
                break;
            }
            // A busy machine may stop a node for a lease, but not each time.
            late.push(done.propagation);
            assert!(late.len() < TRIES, "{}: {late:?}", fleet.name);
        }
    }
}

/// V-04.
#[actix_web::test]
async fn v04_a_rotated_key_works_at_once_everywhere_and_the_old_one_dies_on_time() {
    const GRACE: Duration = Duration::from_millis(700);
    for fleet in Fleet::every(LEASE).await {
        let here = manager_on(fleet.store()).await;
        let there = manager_on(fleet.store()).await;
        let old = here.create("a").await.unwrap();
        assert!(is_accepted(&there, &old).await, "{}", fleet.name);

        let new = soon(here.rotate(old.id()).confirmed()).await.unwrap().value;
        assert!(!is_accepted(&there, &old).await, "{}: grace 0", fleet.name);
        assert!(is_accepted(&there, &new).await, "{}", fleet.name);

        let began = Instant::now();
        let newer = here.rotate(old.id()).grace(GRACE).await.unwrap();
        // The grace time began before this.
        let rotated = Instant::now();
        assert!(is_accepted(&there, &newer).await, "{}: at once", fleet.name);
        let graced = is_accepted(&there, &new).await;
        assert!(graced || began.elapsed() > GRACE / 2, "{}", fleet.name);
        let end = GRACE + Duration::from_millis(20);
        tokio::time::sleep(end.saturating_sub(rotated.elapsed())).await;
        assert!(
            !is_accepted(&there, &new).await,
            "{}: the grace period is over",
            fleet.name
        );
    }
}

/// A grant takes effect at once: before a denial, the manager polls.
#[actix_web::test]
async fn a_scope_that_is_granted_on_one_node_counts_on_the_others_at_once() {
    static NEEDS: Policy = Policy::new().scopes(ScopeExpr::One("orders:read"));
    for fleet in Fleet::every(LONG).await {
        let here = manager_on(fleet.store()).await;
        let there = manager_on(fleet.store()).await;
        let key = here.create("a").await.unwrap();
        let refused = soon(there.verify_for(key.expose_secret(), &NEEDS)).await;
        assert_eq!(refused.unwrap_err().reason(), DenyReason::InsufficientScope);
        here.update(key.id()).scopes(["orders:read"]).await.unwrap();
        let granted = soon(there.verify_for(key.expose_secret(), &NEEDS)).await;
        assert!(granted.is_ok(), "{}", fleet.name);
    }
}

/// V-05, V-07.
#[actix_web::test]
async fn v05_a_read_that_races_a_revocation_is_not_kept_and_not_joined() {
    for fleet in Fleet::every(LONG).await {
        let key = manager_on(fleet.store()).await.create("a").await.unwrap();
        let store = GateStore::around(fleet.store());
        let manager = patient_manager(store.clone()).await;
        let read = store.gate_after(Call::Find);
        let racing = tokio::spawn({
            let (manager, secret) = (manager.clone(), key.expose_secret().to_owned());
            async move { manager.verify(&secret).await.is_ok() }
        });
        read.arrived().await;
        store.heal();
        assert!(manager.revoke(key.id()).await.unwrap());
        assert_eq!(
            refusal(&manager, &key).await,
            Some(DenyReason::Revoked),
            "{}",
            fleet.name
        );
        read.open();
        // It began earlier, so either answer is right.
        let _ = soon(racing).await.unwrap();
        assert_eq!(
            refusal(&manager, &key).await,
            Some(DenyReason::Revoked),
            "{}",
            fleet.name
        );
    }
}

/// V-10: at each step of a revocation.
#[actix_web::test]
async fn v10_an_error_at_any_step_is_never_ok() {
    for fleet in Fleet::every(LEASE).await {
        let store = GateStore::around(fleet.store());
        let manager = patient_manager(store.clone()).await;
        // A call that hangs ends soon. All others have the time that a busy server needs.
        let config = Config::builder().store_timeout(Duration::from_millis(300));
        let impatient = ApiKeyManager::builder()
            .config(config.build().unwrap())
            .shared_store(store.clone())
            .start()
            .await
            .unwrap();
        for fault in [
            Fault::Unavailable,
            Fault::Backend,
            Fault::AnswerLost,
            Fault::Hangs,
        ] {
            let revoking = match fault {
                Fault::Hangs => &impatient,
                _ => &manager,
            };
            let key = manager.create("a").owner("42").await.unwrap();
            assert!(is_accepted(&manager, &key).await);
            store.fail(Call::Revoke, fault);
            store.fail(Call::RevokeAll, fault);
            store.fail(Call::RevokeOwnerKeys, fault);
            assert!(
                soon(revoking.revoke(key.id())).await.is_err(),
                "{} {fault:?}",
                fleet.name
            );
            assert!(soon(revoking.revoke(key.id()).confirmed()).await.is_err());
            assert!(soon(revoking.revoke_all("42").confirmed()).await.is_err());
            store.heal();
            // If the answer was lost, the revocation may hold; the cache does not contradict it.
            let state = manager.get(key.id()).await.unwrap().revoked.is_some();
            assert_eq!(
                state,
                !is_accepted(&manager, &key).await,
                "{} {fault:?}",
                fleet.name
            );
        }
    }
}

/// V-12.
#[actix_web::test]
async fn v12_a_late_writer_does_not_bring_a_revoked_key_back() {
    for fleet in Fleet::every(LEASE).await {
        let manager = manager_on(fleet.store()).await;
        let writer = fleet.store();
        writer.start().await.unwrap();
        let key = manager.create("a").await.unwrap();
        let mut late = KeyPatch::new();
        late.enabled = Some(true);
        late.label = Some("late".to_owned());
        manager.revoke(key.id()).await.unwrap();
        let _ = writer.update(&key.id(), &late, &WriteOptions::new()).await;
        assert_eq!(
            refusal(&manager, &key).await,
            Some(DenyReason::Revoked),
            "{}",
            fleet.name
        );
        assert!(manager.enable(key.id()).await.is_err(), "{}", fleet.name);
        let page = manager.list().state(KeyState::Revoked).await.unwrap();
        assert_eq!(page.keys.len(), 1, "{}", fleet.name);
    }
}

///
#[actix_web::test]
async fn x02_with_the_store_down_cached_keys_live_until_the_lease_ends_and_others_are_503() {
    for fleet in Fleet::every(LEASE).await {
        let store = GateStore::around(fleet.store());
        let manager = manager_on(store.clone()).await;
        let known = manager.create("known").await.unwrap();
        let unread = manager.create("unread").await.unwrap();
        store.polled().await;
        let began = Instant::now();
        assert!(is_accepted(&manager, &known).await);
        store.go_down();
        let unavailable = Some(DenyReason::StoreUnavailable);
        assert_eq!(
            refusal(&manager, &unread).await,
            unavailable,
            "{}",
            fleet.name
        );
        let still = is_accepted(&manager, &known).await;
        assert!(still || began.elapsed() > LEASE / 2, "{}", fleet.name);
        let ended = within(PATIENCE, async || {
            refusal(&manager, &known).await == unavailable
        })
        .await;
        assert!(ended.is_some(), "{}", fleet.name);
        // The key may have been evicted before the lease ended.
        let unready = within(PATIENCE, async || !manager.health().is_ready()).await;
        assert!(unready.is_some(), "{}", fleet.name);
        assert!(
            manager.revoke(known.id()).await.is_ok(),
            "only reads are down"
        );
        store.heal();
        let healed = within(PATIENCE, async || is_accepted(&manager, &unread).await).await;
        assert!(healed.is_some(), "{}", fleet.name);
        assert_eq!(
            refusal(&manager, &known).await,
            Some(DenyReason::Revoked),
            "{}",
            fleet.name
        );
    }
}

/// S-01, O-01, T-05: everything that a store was sent, answers, and prints of itself.
#[actix_web::test]
async fn s01_no_secret_reaches_any_store() {
    for fleet in Fleet::every(LEASE).await {
        let store = GateStore::around(fleet.store());
        let manager = manager_on(store.clone()).await;
        let key = manager.create("a").owner("42").await.unwrap();
        let new = manager.rotate(key.id()).grace(LONG).await.unwrap();
        assert!(is_accepted(&manager, &key).await && is_accepted(&manager, &new).await);
        manager.revoke_all("42").await.unwrap();
        let page = manager.list().await.unwrap();
        let seen = format!("{}{store:?}{manager:?}{page:?}", store.transcript());
        assert!(
            seen.contains(key.id().as_str()),
            "{}: the control",
            fleet.name
        );
        for secret in [&key, &new] {
            let (_, secret) = secret.expose_secret().split_at(30);
            assert!(!seen.contains(secret), "{}", fleet.name);
        }
    }
}

/// Adds `count` records of the owner `acme`, with several writers.
async fn add_records(fleet: &Fleet, count: u128) {
    const WRITERS: u128 = 4;
    let store = fleet.store();
    store.start().await.unwrap();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for number in (1..=count).filter(|number| number % WRITERS == writer) {
                    let (id, at) = (KeyId::from_u128(number), Timestamp::from_millis(1_000));
                    let mut record = KeyRecord::new(id, "my_api", "a", "sha256$00", at);
                    record.owner = Some("acme".to_owned());
                    store.insert(&record, &WriteOptions::new()).await.unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
}

/// A change of many keys costs another node their entries only, even if it learns of all of them at
/// once.
#[actix_web::test]
async fn a_bulk_change_evicts_only_its_own_keys_from_another_node() {
    const KEYS: u128 = 3_000;
    for fleet in Fleet::every(LONG).await {
        let here = patient_manager(fleet.store()).await;
        let far_store = GateStore::around(fleet.store());
        let far = patient_manager(far_store.clone()).await;
        let (mut kept, mut gone) = (Vec::new(), Vec::new());
        for _ in 0..10 {
            kept.push(here.create("kept").await.unwrap());
            gone.push(here.create("gone").owner("acme").await.unwrap());
        }
        add_records(&fleet, KEYS).await;
        for purge in [false, true] {
            // It has followed everything so far, and caches all 20.
            assert_eq!(soon(far.purge(Timestamp::MIN)).await.unwrap(), 0);
            for key in kept.iter().chain(&gone) {
                refusal(&far, key).await;
            }
            let before = far.health();
            assert_eq!(before.cached_keys, 20, "{}", fleet.name);
            let poll = far_store.gate_before(Call::Changes);
            let following = tokio::spawn({
                let far = far.clone();
                async move { far.purge(Timestamp::MIN).await }
            });
            poll.arrived().await;
            match purge {
                false => assert!(here.revoke_all("acme").await.unwrap()),
                true => {
                    let removed = here.purge(later(&here).await).await.unwrap();
                    assert_eq!(removed, KEYS as u64 + 10, "{}", fleet.name);
                }
            }
            far_store.heal();
            poll.open();
            soon(following).await.unwrap().unwrap();
            if purge {
                assert_eq!(far.health().cached_keys, 10, "{}", fleet.name);
            }
            for key in &kept {
                assert!(is_accepted(&far, key).await, "{}", fleet.name);
            }
            let misses = far.health().cache_misses;
            assert_eq!(misses, before.cache_misses, "{}", fleet.name);
            let reason = match purge {
                false => DenyReason::Revoked,
                true => DenyReason::InvalidKey,
            };
            for key in &gone {
                assert_eq!(refusal(&far, key).await, Some(reason), "{}", fleet.name);
            }
        }
    }
}
