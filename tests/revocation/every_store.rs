//! Owners on every store, with several nodes on it.

use std::time::{Duration, Instant};

use actix_web::get;
use apikey_runtime::events::EventKind;
use apikey_runtime::{
    ApiKeyManager, DenyReason, Error, KeyState, NewKey, Timestamp, api_key_required,
};
use apikey_test_support::fleet::Fleet;
use apikey_test_support::http::Server;
use apikey_test_support::store::{Call, GateStore};
use apikey_test_support::{manager_on, patient_manager, soon};

/// Long enough for every node to acknowledge on a busy machine.
const LEASE: Duration = Duration::from_millis(500);

/// Outlasts every test.
const LONG: Duration = Duration::from_secs(60);

async fn refusal(manager: &ApiKeyManager, key: &NewKey) -> Option<DenyReason> {
    let answer = soon(manager.verify(key.expose_secret())).await;
    answer.err().map(|denied| denied.reason())
}

async fn owned(manager: &ApiKeyManager, owner: &str) -> NewKey {
    soon(manager.create("a").owner(owner)).await.unwrap()
}

/// Returns the stores that keep owners. The conformance suite fails for a store of this crate that
/// does not.
async fn every(lease: Duration) -> Vec<Fleet> {
    let mut fleets = Fleet::every(lease).await;
    fleets.retain(|fleet| fleet.store().owners().is_some());
    fleets
}

#[actix_web::test]
async fn v01_all_keys_of_an_owner_die_at_once_and_read_as_revoked() {
    for fleet in every(LONG).await {
        let (manager, name) = (manager_on(fleet.store()).await, fleet.name);
        let (cached, cold) = (owned(&manager, "acme").await, owned(&manager, "acme").await);
        let other = owned(&manager, "other").await;
        for key in [&cached, &other] {
            assert_eq!(refusal(&manager, key).await, None, "{name}");
        }
        let mut events = manager.events();
        let before = Timestamp::from(std::time::SystemTime::now());
        let revoke = manager.revoke_all("acme").reason("left").actor("ann");
        assert!(soon(revoke).await.unwrap(), "{name}");
        for key in [&cached, &cold] {
            let refused = refusal(&manager, key).await;
            assert_eq!(refused, Some(DenyReason::Revoked), "{name}");
            let record = manager.get(key.id()).await.unwrap();
            let revocation = record.revoked.clone().unwrap();
            assert_eq!(revocation.reason.as_deref(), Some("left"), "{name}");
            assert!(revocation.at >= before, "{name}");
            assert!(!manager.revoke(key.id()).await.unwrap(), "{name}");
            for outcome in [
                manager.rotate(key.id()).await.map(drop),
                manager.enable(key.id()).await,
                manager.disable(key.id()).await,
            ] {
                assert!(matches!(outcome, Err(Error::Revoked(id)) if id == key.id()));
            }
        }
        assert_eq!(refusal(&manager, &other).await, None, "{name}");
        let event = soon(events.next()).await.unwrap();
        assert!(matches!(event.kind, EventKind::OwnerRevoked { .. }));
        assert_eq!(event.owner.as_deref(), Some("acme"), "{name}");

        // A key that the owner gets later is not revoked by that.
        let later = owned(&manager, "acme").await;
        assert_eq!(refusal(&manager, &later).await, None, "{name}");
        let in_state = async |state| {
            let page = manager.list().owner("acme").state(state).await.unwrap();
            page.keys.len()
        };
        assert_eq!(in_state(KeyState::Revoked).await, 2, "{name}");
        assert_eq!(in_state(KeyState::Active).await, 1, "{name}");
        let state = manager.owner_state("acme").await.unwrap().unwrap();
        assert_eq!((state.revocations, state.suspended), (1, false), "{name}");
        assert!(!manager.revoke_all("nobody").await.unwrap(), "{name}");
        assert_eq!(manager.owner_state("nobody").await.unwrap(), None);
        let ended = apikey_test_support::later(&manager).await;
        assert_eq!(manager.purge(ended).await.unwrap(), 2, "{name}");
    }
}

/// V-02, V-04.
#[actix_web::test]
async fn v02_a_change_of_an_owner_reaches_the_other_nodes_within_the_lease_or_is_confirmed() {
    for fleet in every(LEASE).await {
        let name = fleet.name;
        let here = manager_on(fleet.store()).await;
        let there = manager_on(fleet.store()).await;
        for confirmed in [false, true] {
            let owner = format!("owner {confirmed}");
            let key = owned(&here, &owner).await;
            for suspend in [true, false] {
                assert_eq!(refusal(&there, &key).await, None, "{name}");
                let reason = match (suspend, confirmed) {
                    (true, false) => {
                        here.suspend_owner(&owner).await.unwrap();
                        DenyReason::Disabled
                    }
                    (true, true) => {
                        let done = soon(here.suspend_owner(&owner).confirmed()).await;
                        assert!(done.unwrap().value, "{name}");
                        DenyReason::Disabled
                    }
                    (false, false) => {
                        here.revoke_all(&owner).await.unwrap();
                        DenyReason::Revoked
                    }
                    (false, true) => {
                        let done = soon(here.revoke_all(&owner).confirmed()).await;
                        assert!(done.unwrap().value, "{name}");
                        DenyReason::Revoked
                    }
                };
                let returned = Instant::now();
                loop {
                    // What counts is when a check began.
                    let late = returned.elapsed();
                    let refused = refusal(&there, &key).await;
                    if refused.is_some() {
                        assert_eq!(refused, Some(reason), "{name}");
                        break;
                    }
                    assert!(late < LEASE && !confirmed, "{name}");
                }
                if suspend {
                    assert!(here.resume_owner(&owner).await.unwrap(), "{name}");
                }
            }
        }
    }
}

#[get("/")]
#[api_key_required]
async fn guarded() -> &'static str {
    "in"
}

/// A node that does not learn of it from a push finds out before it denies.
#[actix_web::test]
async fn a_suspended_owner_is_denied_as_disabled_and_works_at_once_when_resumed() {
    for fleet in every(LONG).await {
        let name = fleet.name;
        let deaf = GateStore::around(fleet.store());
        deaf.cut_push();
        let here = manager_on(fleet.store()).await;
        let there = manager_on(deaf).await;
        let serve = |manager: &ApiKeyManager| {
            let manager = manager.clone();
            Server::start(move |app| {
                manager.init_app(app);
                app.service(guarded);
            })
        };
        let servers = [serve(&here), serve(&there)];
        let (key, disabled) = (owned(&here, "acme").await, owned(&here, "acme").await);
        here.disable(disabled.id()).await.unwrap();
        assert!(here.suspend_owner("acme").await.unwrap(), "{name}");
        assert!(!here.suspend_owner("acme").await.unwrap(), "{name}");
        let later = owned(&here, "acme").await;
        for server in &servers {
            for key in [&key, &later] {
                let answer = server.get("/", key.expose_secret()).await;
                answer.refused(401, "disabled-key");
            }
        }
        let record = here.get(key.id()).await.unwrap();
        assert!(record.enabled && record.view().owner_suspended, "{name}");
        let suspended = here.list().state(KeyState::Suspended).await.unwrap();
        assert_eq!(suspended.keys.len(), 3, "{name}");

        assert!(here.resume_owner("acme").await.unwrap(), "{name}");
        assert!(!here.resume_owner("acme").await.unwrap(), "{name}");
        for server in &servers {
            for key in [&key, &later] {
                server.get("/", key.expose_secret()).await.says("in");
            }
            let answer = server.get("/", disabled.expose_secret()).await;
            answer.refused(401, "disabled-key");
        }
        for outcome in [
            here.suspend_owner("nobody").await,
            here.resume_owner("nobody").await,
        ] {
            let Err(Error::OwnerNotFound(owner)) = outcome else {
                panic!("{name}: {outcome:?}");
            };
            assert_eq!(owner, "nobody");
        }
    }
}

#[actix_web::test]
async fn a_key_that_changes_its_owner_follows_the_new_one() {
    for fleet in every(LONG).await {
        let (manager, name) = (manager_on(fleet.store()).await, fleet.name);
        let (moved, kept) = (owned(&manager, "old").await, owned(&manager, "old").await);
        owned(&manager, "new").await;
        assert!(manager.revoke_all("new").await.unwrap(), "{name}");
        for key in [&moved, &kept] {
            assert_eq!(refusal(&manager, key).await, None, "{name}");
        }
        manager.update(moved.id()).owner("new").await.unwrap();
        assert!(manager.revoke_all("old").await.unwrap(), "{name}");
        assert_eq!(refusal(&manager, &moved).await, None, "{name}");
        let refused = refusal(&manager, &kept).await;
        assert_eq!(refused, Some(DenyReason::Revoked), "{name}");
        assert!(manager.suspend_owner("new").await.unwrap(), "{name}");
        let refused = refusal(&manager, &moved).await;
        assert_eq!(refused, Some(DenyReason::Disabled), "{name}");
        // The suspension ends with the owner that it is of.
        manager.update(moved.id()).owner("third").await.unwrap();
        assert_eq!(refusal(&manager, &moved).await, None, "{name}");
        assert!(manager.revoke_all("third").await.unwrap(), "{name}");
        let refused = refusal(&manager, &moved).await;
        assert_eq!(refused, Some(DenyReason::Revoked), "{name}");
    }
}

/// A late writer does not bring it back under another owner.
#[actix_web::test]
async fn v12_a_key_that_its_owner_revoked_is_not_given_to_another() {
    for fleet in every(LONG).await {
        let name = fleet.name;
        let store = GateStore::around(fleet.store());
        let manager = patient_manager(store.clone()).await;
        let key = owned(&manager, "acme").await;
        let update = store.gate_before(Call::Update);
        let giving = tokio::spawn({
            let (manager, id) = (manager.clone(), key.id());
            async move { manager.update(id).owner("other").await }
        });
        update.arrived().await;
        assert!(manager.revoke_all("acme").reason("left").await.unwrap());
        update.open();
        let raced = soon(giving).await.unwrap();
        let late = manager.update(key.id()).owner::<String>(None).await;
        for outcome in [raced, late] {
            let refused = matches!(outcome, Err(Error::Revoked(id)) if id == key.id());
            assert!(refused, "{name}: {outcome:?}");
        }
        let labelled = manager.update(key.id()).label("b").await.unwrap();
        assert_eq!(labelled.owner.as_deref(), Some("acme"), "{name}");
        let reason = labelled.revoked.unwrap().reason;
        assert_eq!(reason.as_deref(), Some("left"), "{name}");
        let refused = refusal(&manager, &key).await;
        assert_eq!(refused, Some(DenyReason::Revoked), "{name}");
    }
}

/// V-05, V-07: no entry of that owner need be in memory.
#[actix_web::test]
async fn v05_a_read_that_races_a_change_of_its_owner_is_not_kept_and_not_joined() {
    for fleet in every(LONG).await {
        let name = fleet.name;
        for suspend in [false, true] {
            let key = owned(&manager_on(fleet.store()).await, "acme").await;
            let store = GateStore::around(fleet.store());
            let manager = patient_manager(store.clone()).await;
            let read = store.gate_after(Call::Find);
            let racing = tokio::spawn({
                let (manager, secret) = (manager.clone(), key.expose_secret().to_owned());
                async move { manager.verify(&secret).await.is_ok() }
            });
            read.arrived().await;
            store.heal();
            let expected = if suspend {
                assert!(manager.suspend_owner("acme").await.unwrap(), "{name}");
                DenyReason::Disabled
            } else {
                assert!(manager.revoke_all("acme").await.unwrap(), "{name}");
                DenyReason::Revoked
            };
            assert_eq!(refusal(&manager, &key).await, Some(expected), "{name}");
            read.open();
            // It began earlier, so either answer is right.
            let _ = soon(racing).await.unwrap();
            assert_eq!(refusal(&manager, &key).await, Some(expected), "{name}");
        }
    }
}
