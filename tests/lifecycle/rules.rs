//! The rules for issuing keys, on every store.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::SystemTime;

use apikey_runtime::manager::{IssuePolicy, PolicyViolation};
use apikey_runtime::{ApiKeyManager, Config, Error, KeyId, KeyStore, MemoryStore, Scopes};
use apikey_test_support::store::{Call, Capability, Forward, Forwarding, GateStore};
use apikey_test_support::{patient_manager, soon};

use crate::{HOUR, fleets};

async fn ruled(store: Arc<dyn KeyStore>, config: Config) -> ApiKeyManager {
    let builder = ApiKeyManager::builder().config(config).shared_store(store);
    builder.start().await.unwrap()
}

fn at_most(keys: u32) -> Config {
    let builder = Config::builder().max_keys_per_owner(keys);
    builder.build().unwrap()
}

/// Returns the rule that a call broke; `None` if it broke none.
#[track_caller]
fn broken<T>(outcome: Result<T, Error>) -> Option<PolicyViolation> {
    match outcome {
        Ok(_) => None,
        Err(Error::Policy(violation)) => Some(violation),
        Err(other) => panic!("{other:?}"),
    }
}

const FULL: Option<PolicyViolation> = Some(PolicyViolation::TooManyKeys { max: 3 });

async fn create(manager: &ApiKeyManager, owner: &str) -> Result<KeyId, Error> {
    manager.create("a").owner(owner).await.map(|key| key.id())
}

#[actix_web::test]
async fn an_owner_has_as_many_live_keys_as_permitted_and_never_one_more() {
    for fleet in fleets().await {
        let manager = ruled(fleet.store(), at_most(3)).await;
        let mut ids = Vec::new();
        for _ in 0..3 {
            ids.push(create(&manager, "acme").await.unwrap());
        }
        assert_eq!(
            broken(create(&manager, "acme").await),
            FULL,
            "{}",
            fleet.name
        );
        // Others, and keys without an owner, have counts of their own.
        let other = create(&manager, "globex").await.unwrap();
        for _ in 0..4 {
            manager.create("a").await.unwrap();
        }
        // Disabled and suspended keys count.
        manager.disable(ids[0]).await.unwrap();
        manager.suspend_owner("acme").await.unwrap();
        assert_eq!(broken(create(&manager, "acme").await), FULL);
        manager.resume_owner("acme").await.unwrap();
        // A change of owner makes a key live for the owner.
        let given = manager.update(other).owner("acme").await;
        assert_eq!(broken(given), FULL, "{}", fleet.name);
        assert_eq!(
            manager.get(other).await.unwrap().owner.as_deref(),
            Some("globex")
        );
        // Neither revoked nor expired keys count.
        manager.revoke(ids[0]).await.unwrap();
        ids[0] = create(&manager, "acme").await.unwrap();
        let past = SystemTime::now() - HOUR;
        manager.update(ids[1]).expires_at(past).await.unwrap();
        ids.push(create(&manager, "acme").await.unwrap());
        // A later or removed expiry brings a key back.
        let soon = SystemTime::now() + HOUR;
        assert_eq!(broken(manager.update(ids[1]).expires_at(soon).await), FULL);
        assert_eq!(broken(manager.update(ids[1]).never_expires().await), FULL);
        // Other changes of a full owner's keys are permitted.
        manager
            .update(ids[2])
            .label("b")
            .expires_at(soon)
            .await
            .unwrap();
        manager
            .update(ids[2])
            .expires_at(soon + HOUR)
            .await
            .unwrap();
        manager.rotate(ids[2]).await.unwrap();
        manager.update(ids[2]).owner("acme").await.unwrap();
        // Controls: an administrator's call, and a manager without the rule.
        let free = IssuePolicy::unrestricted();
        let key = manager
            .create("a")
            .owner("acme")
            .policy(free)
            .await
            .unwrap();
        manager.revoke(key.id()).await.unwrap();
        let without = ruled(fleet.store(), Config::default()).await;
        assert_eq!(broken(create(&without, "acme").await), None);
        // The keys of a revoked owner are not live.
        manager.revoke_all("acme").await.unwrap();
        for _ in 0..3 {
            create(&manager, "acme").await.unwrap();
        }
        assert_eq!(
            broken(create(&manager, "acme").await),
            FULL,
            "{}",
            fleet.name
        );
    }
}

/// 9 managers try 27 times to create 5 keys, give 3 others, and bring 3 more back.
#[actix_web::test]
async fn nine_managers_at_the_edge_make_exactly_as_many_keys_as_permitted() {
    const MAX: usize = 5;
    for fleet in fleets().await {
        let mut managers = Vec::new();
        for _ in 0..9 {
            managers.push(ruled(fleet.store(), at_most(MAX as u32)).await);
        }
        let past = SystemTime::now() - HOUR;
        let (mut given, mut expired) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            given.push(create(&managers[0], "globex").await.unwrap());
            let id = create(&managers[0], "acme").await.unwrap();
            managers[0].update(id).expires_at(past).await.unwrap();
            expired.push(id);
        }
        let made = Arc::new(AtomicUsize::new(0));
        let tries = managers.iter().enumerate().map(|(number, manager)| {
            let (manager, made) = (manager.clone(), Arc::clone(&made));
            let id = given.iter().chain(&expired).nth(number).copied();
            tokio::spawn(async move {
                let note = |outcome: Option<PolicyViolation>| match outcome {
                    None => drop(made.fetch_add(1, SeqCst)),
                    Some(violation) => {
                        let full = PolicyViolation::TooManyKeys { max: MAX as u32 };
                        assert_eq!(violation, full);
                    }
                };
                match (id, number) {
                    (Some(id), 0..3) => note(broken(manager.update(id).owner("acme").await)),
                    (Some(id), _) => note(broken(manager.update(id).never_expires().await)),
                    (None, _) => {}
                }
                for _ in 0..3 {
                    note(broken(create(&manager, "acme").await));
                }
            })
        });
        for attempt in tries.collect::<Vec<_>>() {
            soon(attempt).await.unwrap();
        }
        assert_eq!(made.load(SeqCst), MAX, "{}", fleet.name);
        let page = managers[0].list().owner("acme").with_usage().await.unwrap();
        assert_eq!(page.live_keys, Some(MAX as u32), "{}", fleet.name);
    }
}

#[actix_web::test]
async fn nobody_grants_more_than_they_hold_and_a_key_keeps_what_it_has() {
    for fleet in fleets().await {
        let config = Config::builder().allowed_scopes(["a", "b", "p:{id}"]);
        let manager = ruled(fleet.store(), config.build().unwrap()).await;
        let held = Scopes::new(["a", "p:1"]).unwrap();
        let not_held = |scope: &str| {
            let scopes = vec![scope.to_owned()];
            Some(PolicyViolation::ScopesNotHeld { scopes })
        };
        let not_allowed = |scope: &str| {
            let scopes = vec![scope.to_owned()];
            Some(PolicyViolation::ScopesNotAllowed { scopes })
        };
        let create = |scopes: &'static [&str]| manager.create("k").scopes(scopes);
        assert_eq!(
            broken(create(&["a", "b"]).granted_by(&held).await),
            not_held("b")
        );
        assert_eq!(
            broken(create(&["a", "c"]).granted_by(&held).await),
            not_allowed("c")
        );
        assert_eq!(broken(create(&["p:1:x"]).await), not_allowed("p:1:x"));
        assert_eq!(
            broken(create(&["p:2"]).granted_by(&held).await),
            not_held("p:2")
        );
        let key = create(&["a", "p:1"]).granted_by(&held).await.unwrap();
        assert_eq!(key.record().scopes, held);

        // An administrator gives scopes that neither the rules nor the grantor have.
        let free = IssuePolicy::unrestricted;
        let update = |scopes: &'static [&str]| manager.update(key.id()).scopes(scopes);
        update(&["a", "b", "c"]).policy(free()).await.unwrap();
        // They stay, and others are not added.
        update(&["b", "c"]).granted_by(&held).await.unwrap();
        let added = update(&["b", "c", "d"]).granted_by(&held).await;
        assert_eq!(broken(added), not_allowed("d"));
        let added = update(&["b", "c", "p:2"]).granted_by(&held).await;
        assert_eq!(broken(added), not_held("p:2"));
        // What was taken away is not given back.
        update(&["b"]).granted_by(&held).await.unwrap();
        assert_eq!(broken(update(&["b", "c"]).await), not_allowed("c"));
        let record = manager.get(key.id()).await.unwrap();
        assert_eq!(record.scopes.to_string(), "b", "{}", fleet.name);
        // Other changes are not judged by scopes.
        manager
            .update(key.id())
            .label("l")
            .granted_by(&held)
            .await
            .unwrap();
        // Control: without the rules, each is permitted.
        update(&["x"]).policy(free()).await.unwrap();
    }
}

/// Calls that give out or prolong a key, on behalf of one who holds `held`.
const HOLDERS_CALLS: [&str; 4] = ["rotate", "enable", "later", "never"];

async fn on_behalf(
    manager: &ApiKeyManager,
    name: &str,
    id: KeyId,
    held: &Scopes,
) -> Result<(), Error> {
    let later = SystemTime::now() + HOUR * 9;
    match name {
        "rotate" => manager.rotate(id).granted_by(held).await.map(drop),
        "enable" => manager.enable(id).granted_by(held).await,
        "later" => {
            let update = manager.update(id).expires_at(later);
            update.granted_by(held).await.map(drop)
        }
        "never" => {
            let update = manager.update(id).never_expires();
            update.granted_by(held).await.map(drop)
        }
        other => panic!("{other}"),
    }
}

async fn expiring(manager: &ApiKeyManager, scopes: &'static [&str]) -> KeyId {
    let key = manager.create("k").scopes(scopes).expires_in(HOUR).await;
    key.unwrap().id()
}

#[actix_web::test]
async fn a_key_of_more_scopes_than_one_holds_is_neither_given_out_nor_prolonged() {
    let held = Scopes::new(["a"]).unwrap();
    let not_held = Some(PolicyViolation::ScopesNotHeld {
        scopes: vec!["b".to_owned()],
    });
    for fleet in fleets().await {
        let manager = ruled(fleet.store(), Config::default()).await;
        let more = expiring(&manager, &["a", "b"]).await;
        let own = expiring(&manager, &["a"]).await;
        let before = manager.get(more).await.unwrap();
        for name in HOLDERS_CALLS {
            let outcome = on_behalf(&manager, name, more, &held).await;
            assert_eq!(broken(outcome), not_held, "{} {name}", fleet.name);
            assert_eq!(manager.get(more).await.unwrap(), before, "{name}");
            // Controls: a key of the held scopes, and a holder of all.
            on_behalf(&manager, name, own, &held).await.unwrap();
        }
        for name in HOLDERS_CALLS {
            on_behalf(&manager, name, more, &before.scopes)
                .await
                .unwrap();
        }
        // What makes the key end is permitted.
        let soon = SystemTime::now() + HOUR / 2;
        let update = || manager.update(more).granted_by(&held);
        update().expires_at(soon).await.unwrap();
        manager.disable(more).granted_by(&held).await.unwrap();
        // The scopes that the key then has are judged.
        let prolonged = update().never_expires().scopes(["b"]).await;
        assert_eq!(broken(prolonged), not_held, "{}", fleet.name);
        update().never_expires().scopes(["a"]).await.unwrap();
    }
}

/// The scopes that count are those of the version that is changed.
#[actix_web::test]
async fn scopes_that_are_added_between_the_judgement_and_the_change_are_judged() {
    let held = Scopes::new(["a"]).unwrap();
    for name in HOLDERS_CALLS {
        for added in [&["a", "b"][..], &["a"]] {
            let store = GateStore::around(Arc::new(MemoryStore::new()));
            let manager = patient_manager(store.clone()).await;
            let id = expiring(&manager, &["a"]).await;
            let gate = store.gate_before(Call::Update);
            let changing = tokio::spawn({
                let (manager, held) = (manager.clone(), held.clone());
                async move { on_behalf(&manager, name, id, &held).await }
            });
            gate.arrived().await;
            // Another writer, whose change the gate does not stop.
            store.heal();
            manager.update(id).label("l").scopes(added).await.unwrap();
            let between = manager.get(id).await.unwrap();
            gate.open();
            let outcome = soon(changing).await.unwrap();
            match added {
                [_] => outcome.unwrap(),
                _ => {
                    let scopes = vec!["b".to_owned()];
                    let expected = Some(PolicyViolation::ScopesNotHeld { scopes });
                    assert_eq!(broken(outcome), expected, "{name}");
                    assert_eq!(manager.get(id).await.unwrap(), between, "{name}");
                }
            }
        }
    }
}

/// A store that does not keep owners cannot count their keys.
#[derive(Debug)]
struct Ownerless(Arc<dyn KeyStore>);

impl Forward for Ownerless {
    fn inner(&self) -> &dyn KeyStore {
        &*self.0
    }

    fn has(&self, capability: Capability) -> bool {
        capability != Capability::Owners
    }
}

#[actix_web::test]
async fn a_maximum_that_the_store_cannot_count_is_an_error_at_the_start_and_in_a_call() {
    for fleet in fleets().await {
        let store: Arc<dyn KeyStore> = Arc::new(Forwarding(Ownerless(fleet.store())));
        let builder = ApiKeyManager::builder().config(at_most(3));
        let started = builder.shared_store(Arc::clone(&store)).start().await;
        assert!(matches!(started, Err(Error::Unsupported(_))), "{started:?}");
        let manager = ruled(store, Config::default()).await;
        let policy = IssuePolicy::unrestricted().with_max_live_keys(3);
        let made = manager.create("a").owner("acme").policy(policy).await;
        let Err(Error::Unsupported(said)) = made else {
            panic!("{made:?}");
        };
        assert!(said.contains("KeyStore::owners"), "{said}");
        // Control.
        manager.create("a").owner("acme").await.unwrap();
    }
}
