//! Secrets that all managers on a store share.

use std::sync::Arc;
use std::time::Duration;

use apikey_runtime::store::StoreError;
use apikey_runtime::{ApiKeyManager, Error, KeyStore, MemoryStore};
use apikey_test_support::fleet::Fleet;
use apikey_test_support::store::{Call, Forward, Forwarding, GateStore, RecordsOnly};
use apikey_test_support::{manager, manager_on, patient_manager, soon};

const LEASE: Duration = Duration::from_millis(500);

/// Lets two managers ask for a secret at once, and returns what both get.
async fn race(stores: [Arc<dyn KeyStore>; 2], name: &str) -> [[u8; 32]; 2] {
    let stores = stores.map(GateStore::around);
    let gates = stores
        .each_ref()
        .map(|store| store.gate_before(Call::SharedSecret));
    let [one, other] = stores;
    let managers = [patient_manager(one).await, patient_manager(other).await];
    let open = async {
        for gate in &gates {
            gate.arrived().await;
        }
        gates.iter().for_each(|gate| gate.open());
    };
    let [one, other] = &managers;
    let race = async { tokio::join!(one.shared_secret(name), other.shared_secret(name), open) };
    let (one, other, ()) = soon(race).await;
    for manager in managers {
        manager.shutdown().await.unwrap();
    }
    [one.unwrap(), other.unwrap()]
}

#[actix_web::test]
async fn managers_that_race_get_the_same_secret_and_so_does_a_later_one() {
    for fleet in Fleet::every(LEASE).await {
        let [one, other] = race([fleet.store(), fleet.store()], "portal:forms").await;
        assert_eq!(one, other, "{}", fleet.name);
        assert_ne!(one, [0; 32], "{}", fleet.name);
        let later = manager_on(fleet.store()).await;
        let again = later.shared_secret("portal:forms").await.unwrap();
        assert_eq!(again, one, "{}", fleet.name);
        let different = later.shared_secret("portal:cookies").await.unwrap();
        assert_ne!(different, one, "{}", fleet.name);
        assert!(
            later.audit().await.unwrap().entries.is_empty(),
            "{}",
            fleet.name
        );
    }
}

/// Keeps the proposal that comes last.
#[derive(Debug, Default)]
struct LastStays(MemoryStore);

impl Forward for LastStays {
    fn inner(&self) -> &dyn KeyStore {
        &self.0
    }

    async fn shared_secret(&self, _name: &str, proposed: [u8; 32]) -> Result<[u8; 32], StoreError> {
        Ok(proposed)
    }
}

/// Negative control.
#[actix_web::test]
async fn on_a_store_that_keeps_the_last_proposal_the_secrets_of_a_race_differ() {
    let store: Arc<dyn KeyStore> = Arc::new(Forwarding(LastStays::default()));
    let [one, other] = race([Arc::clone(&store), store], "portal:forms").await;
    assert_ne!(one, other);
}

#[actix_web::test]
async fn a_secret_is_random() {
    let name = "portal:forms";
    let [one, other] = [manager().await, manager().await];
    let secrets = [
        one.shared_secret(name).await.unwrap(),
        other.shared_secret(name).await.unwrap(),
    ];
    assert_ne!(secrets[0], secrets[1]);
}

#[actix_web::test]
async fn a_name_is_checked_and_a_store_without_secrets_is_told() {
    let manager = manager().await;
    let longest = "x".repeat(64);
    for name in ["a", "Z-9_.:", &longest] {
        assert!(manager.shared_secret(name).await.is_ok(), "{name}");
    }
    for name in ["", "a b", "a/b", "ü", "a\0", &(longest + "x")] {
        let refused = manager.shared_secret(name).await;
        assert!(
            matches!(refused, Err(Error::InvalidArgument(_))),
            "{name:?}: {}",
            refused.is_ok()
        );
    }
    let poor: ApiKeyManager = manager_on(Arc::new(RecordsOnly::default())).await;
    let error = poor.shared_secret("a").await.unwrap_err();
    assert!(matches!(error, Error::Unsupported(_)), "{error}");
    assert!(
        error.to_string().contains("KeyStore::shared_secrets"),
        "{error}"
    );
}
