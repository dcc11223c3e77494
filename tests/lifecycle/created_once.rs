//! Calls that create a key with an id of the caller's.

use apikey_runtime::{ApiKeyManager, Error, KeyId};
use apikey_test_support::store::{Call, GateStore};
use apikey_test_support::{later, patient_manager, soon};

use crate::{fleets, managers};

fn id() -> KeyId {
    KeyId::from_u128(0x6f0d_8b3c_55e1_4a97_9e02_c1d4_7a36_b8f5)
}

/// Returns how many keys the store has.
async fn count(manager: &ApiKeyManager) -> usize {
    manager.list().await.unwrap().keys.len()
}

#[actix_web::test]
async fn a_repeated_call_is_a_conflict_and_changes_nothing() {
    for (fleet, manager) in managers().await {
        let name = fleet.name;
        let key = manager.create("a").owner("acme").id(id()).await.unwrap();
        assert_eq!(key.id(), id(), "{name}");
        assert!(manager.verify(key.expose_secret()).await.is_ok(), "{name}");
        let before = manager.get(id()).await.unwrap();
        for revoked in [false, true] {
            let again = manager.create("b").owner("globex").id(id()).await;
            assert!(
                matches!(again, Err(Error::Conflict(found)) if found == id()),
                "{name}, revoked: {revoked}"
            );
            let state = manager.owner_state("globex").await.unwrap();
            assert_eq!(state, None, "{name}, revoked: {revoked}");
            if !revoked {
                assert_eq!(manager.get(id()).await.unwrap(), before, "{name}");
                assert!(manager.verify(key.expose_secret()).await.is_ok(), "{name}");
                assert!(manager.revoke(id()).await.unwrap(), "{name}");
            }
        }
        assert!(manager.verify(key.expose_secret()).await.is_err(), "{name}");
        assert_eq!(count(&manager).await, 1, "{name}");
        let entries = manager.audit().await.unwrap().entries;
        assert_eq!(entries.len(), 2, "{name}: created and revoked");
    }
}

/// Negative control: without an id, a repeated call creates a second key.
#[actix_web::test]
async fn a_repeated_call_without_an_id_creates_another_key() {
    for (fleet, manager) in managers().await {
        for _ in 0..2 {
            manager.create("a").await.unwrap();
        }
        assert_eq!(count(&manager).await, 2, "{}", fleet.name);
    }
}

#[actix_web::test]
async fn of_two_nodes_that_create_the_same_key_at_once_one_does() {
    for fleet in fleets().await {
        let stores = [fleet.store(), fleet.store()].map(GateStore::around);
        let gates = stores
            .each_ref()
            .map(|store| store.gate_before(Call::Insert));
        let [one, other] = stores;
        let (one, other) = (patient_manager(one).await, patient_manager(other).await);
        let open = async {
            for gate in &gates {
                gate.arrived().await;
            }
            gates.iter().for_each(|gate| gate.open());
        };
        let race = async {
            let (one, other) = (one.create("a").id(id()), other.create("b").id(id()));
            tokio::join!(one, other, open)
        };
        let (created, refused, ()) = soon(race).await;
        let (created, refused) = match created.is_ok() {
            true => (created, refused),
            false => (refused, created),
        };
        assert!(created.is_ok(), "{}: {created:?}", fleet.name);
        assert!(
            matches!(refused, Err(Error::Conflict(found)) if found == id()),
            "{}: {refused:?}",
            fleet.name
        );
        let secret = created.unwrap();
        assert!(
            one.verify(secret.expose_secret()).await.is_ok(),
            "{}",
            fleet.name
        );
        assert_eq!(count(&one).await, 1, "{}", fleet.name);
    }
}

#[actix_web::test]
async fn the_id_of_a_purged_key_is_free_and_its_old_secret_is_not_valid() {
    for (fleet, manager) in managers().await {
        let name = fleet.name;
        let old = manager.create("a").id(id()).await.unwrap();
        manager.revoke(id()).await.unwrap();
        let ended = later(&manager).await;
        assert_eq!(manager.purge(ended).await.unwrap(), 1, "{name}");
        let new = manager.create("b").id(id()).await.unwrap();
        assert!(manager.verify(new.expose_secret()).await.is_ok(), "{name}");
        assert!(manager.verify(old.expose_secret()).await.is_err(), "{name}");
    }
}
