//! Calls on behalf of an owner, and of a reader of a version.

use std::sync::Arc;
use std::time::Duration;

use apikey_runtime::manager::ConfirmedCall;
use apikey_runtime::store::StoreError;
use apikey_runtime::{ApiKeyManager, Error, KeyId, KeyRecord, KeyStore, MemoryStore, Scopes};
use apikey_test_support::store::{Call, Forward, Forwarding, GateStore};
use apikey_test_support::{patient_manager, soon};

use crate::managers;

/// The conditions of a call.
#[derive(Debug, Clone, Copy, Default)]
struct Conditions {
    owner: Option<&'static str>,
    version: Option<u64>,
}

/// Sets the conditions of a call.
macro_rules! under {
    ($call:expr, $conditions:expr) => {{
        let mut call = $call;
        if let Some(owner) = $conditions.owner {
            call = call.owned_by(owner);
        }
        if let Some(version) = $conditions.version {
            call = call.if_version(version);
        }
        call.await.map(drop)
    }};
}

/// The calls that change a key.
const CALLS: [&str; 10] = [
    "label",
    "nothing",
    "expiry",
    "scopes",
    "owner",
    "rotate",
    "end_grace",
    "enable",
    "disable",
    "revoke",
];

async fn call(
    manager: &ApiKeyManager,
    name: &str,
    id: KeyId,
    conditions: Conditions,
) -> Result<(), Error> {
    let update = manager.update(id);
    match name {
        "label" => under!(update.label("b"), conditions),
        "nothing" => under!(update, conditions),
        "expiry" => under!(update.never_expires(), conditions),
        "scopes" => {
            let held = Scopes::new(["a"]).unwrap();
            under!(update.scopes(["a"]).granted_by(&held), conditions)
        }
        "owner" => under!(update.owner("acme"), conditions),
        "rotate" => under!(manager.rotate(id), conditions),
        "end_grace" => under!(manager.end_grace(id), conditions),
        "enable" => under!(manager.enable(id), conditions),
        "disable" => under!(manager.disable(id), conditions),
        "revoke" => under!(manager.revoke(id), conditions),
        other => panic!("{other}"),
    }
}

/// Returns the text of an error without the id.
fn said(outcome: Result<(), Error>, id: KeyId) -> String {
    let error = outcome.unwrap_err();
    format!("{error:?} {error}").replace(id.as_str(), "ID")
}

#[actix_web::test]
async fn another_owners_key_cannot_be_told_from_a_missing_one() {
    for (fleet, manager) in managers().await {
        let acme = Conditions {
            owner: Some("acme"),
            version: None,
        };
        let missing = KeyId::from_u128(9);
        let own = manager.create("a").owner("acme").await.unwrap().id();
        let foreign = manager.create("a").owner("globex").await.unwrap().id();
        let ownerless = manager.create("a").await.unwrap().id();
        let revoked = manager.create("a").owner("globex").await.unwrap().id();
        manager.revoke(revoked).await.unwrap();
        let ended = manager.create("a").owner("umbrella").await.unwrap().id();
        manager.revoke_all("umbrella").await.unwrap();
        for name in CALLS {
            let expected = said(call(&manager, name, missing, acme).await, missing);
            assert!(expected.starts_with("NotFound"), "{expected}");
            for id in [foreign, ownerless, revoked, ended] {
                let before = manager.get(id).await.unwrap();
                // Whatever the version is.
                for version in [None, Some(1), Some(7)] {
                    let conditions = Conditions { version, ..acme };
                    let outcome = call(&manager, name, id, conditions).await;
                    assert_eq!(said(outcome, id), expected, "{} {name}", fleet.name);
                }
                assert_eq!(manager.get(id).await.unwrap(), before, "{name}");
            }
        }
        let read = async |id| manager.get(id).owned_by("acme").await.map(drop);
        let expected = said(read(missing).await, missing);
        for id in [foreign, ownerless, revoked, ended] {
            assert_eq!(said(read(id).await, id), expected);
        }
        // Controls: without the condition, a revoked key is told; and the owner's own key is changed.
        let told = call(&manager, "rotate", revoked, Conditions::default()).await;
        assert!(matches!(told, Err(Error::Revoked(_))), "{told:?}");
        for name in CALLS {
            call(&manager, name, own, acme).await.unwrap();
        }
        assert_eq!(manager.get(own).owned_by("acme").await.unwrap().label, "b");
        let told = call(&manager, "rotate", own, acme).await;
        assert!(matches!(told, Err(Error::Revoked(_))), "{told:?}");
    }
}

#[actix_web::test]
async fn a_change_of_another_version_is_a_conflict() {
    for (fleet, manager) in managers().await {
        for name in CALLS {
            let id = manager.create("a").owner("acme").await.unwrap().id();
            manager
                .update(id)
                .metadata(Default::default())
                .await
                .unwrap();
            let before = manager.get(id).await.unwrap();
            let version = before.version;
            for stale in [version - 1, version + 1] {
                let conditions = Conditions {
                    version: Some(stale),
                    ..Conditions::default()
                };
                let outcome = call(&manager, name, id, conditions).await;
                let conflict = matches!(outcome, Err(Error::Conflict(other)) if other == id);
                assert!(conflict, "{} {name}: {outcome:?}", fleet.name);
            }
            assert_eq!(manager.get(id).await.unwrap(), before);
            // Control.
            let conditions = Conditions {
                owner: Some("acme"),
                version: Some(version),
            };
            call(&manager, name, id, conditions).await.unwrap();
        }
    }
}

/// A change that was decided by a version is not made to another one.
#[actix_web::test]
async fn a_change_of_a_version_is_not_tried_again() {
    for with_version in [true, false] {
        let store = GateStore::around(Arc::new(MemoryStore::new()));
        let manager = patient_manager(store.clone()).await;
        let id = manager.create("a").await.unwrap().id();
        let gate = store.gate_before(Call::Update);
        let changing = tokio::spawn({
            let manager = manager.clone();
            async move {
                let update = manager.update(id).never_expires();
                match with_version {
                    true => update.if_version(1).await,
                    false => update.await,
                }
            }
        });
        gate.arrived().await;
        // Another writer, whose change the gate does not stop.
        store.heal();
        manager.update(id).label("b").await.unwrap();
        gate.open();
        let outcome = soon(changing).await.unwrap();
        match with_version {
            true => assert!(matches!(outcome, Err(Error::Conflict(_))), "{outcome:?}"),
            // Control: it is judged again for the new version.
            false => assert_eq!(outcome.unwrap().version, 3),
        }
    }
}

/// A store whose records cannot be read.
#[derive(Debug)]
struct Unreadable(MemoryStore);

impl Forward for Unreadable {
    fn inner(&self) -> &dyn KeyStore {
        &self.0
    }

    async fn find(&self, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> {
        Err(StoreError::Corrupt {
            id: id.to_string(),
            reason: "the test says so".to_owned(),
        })
    }
}

/// A person who calls for the keys of others does not make their checks read the store.
#[actix_web::test]
async fn a_foreign_key_stays_in_the_cache() {
    // A lease that does not end meanwhile on a busy machine.
    let lease = Duration::from_secs(60);
    let store = GateStore::around(Arc::new(MemoryStore::new().with_lease(lease)));
    // The push of the manager's own change would cause a poll, which evicts the key once more.
    store.cut_push();
    let manager = patient_manager(store.clone()).await;
    let key = manager.create("a").owner("globex").await.unwrap();
    let reads = async || {
        soon(manager.verify(key.expose_secret())).await.unwrap();
        store.count(Call::Find)
    };
    let before = reads().await;
    for name in ["label", "revoke"] {
        let acme = Conditions {
            owner: Some("acme"),
            version: None,
        };
        let outcome = call(&manager, name, key.id(), acme).await;
        assert!(matches!(outcome, Err(Error::NotFound(_))), "{outcome:?}");
        assert_eq!(reads().await, before, "{name}");
    }
    // Controls: a call of the owner, and one without an owner.
    for owner in [Some("globex"), None] {
        let before = reads().await;
        let conditions = Conditions {
            owner,
            version: None,
        };
        call(&manager, "label", key.id(), conditions).await.unwrap();
        assert!(reads().await > before + 1, "{owner:?}");
    }
}

/// Whose key an unreadable record is cannot be read either.
#[actix_web::test]
async fn an_unreadable_key_does_not_exist_for_an_owner() {
    let store = Arc::new(Forwarding(Unreadable(MemoryStore::new())));
    let manager = patient_manager(store).await;
    let id = manager.create("a").owner("acme").await.unwrap().id();
    for owner in ["acme", "globex"] {
        let read = manager.get(id).owned_by(owner).await;
        assert!(matches!(read, Err(Error::NotFound(_))), "{read:?}");
    }
    // Control: for the application, it exists.
    let read = manager.get(id).await;
    assert!(
        matches!(read, Err(Error::Store(StoreError::Corrupt { .. }))),
        "{read:?}"
    );
}

/// Each call with conditions can be confirmed too.
#[actix_web::test]
async fn a_condition_holds_for_a_confirmed_call() {
    for (_fleet, manager) in managers().await {
        let id = manager.create("a").owner("acme").await.unwrap().id();
        let call: ConfirmedCall<_> = manager.revoke(id).owned_by("globex").confirmed();
        assert!(matches!(soon(call).await, Err(Error::NotFound(_))));
        let call = manager.revoke(id).owned_by("acme").confirmed();
        assert!(soon(call).await.unwrap().value);
    }
}
