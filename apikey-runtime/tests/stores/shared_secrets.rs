//! Shared secrets that were changed by hand.

use apikey_runtime::store::{SharedSecretStore, StoreError};

use crate::{Place, run};

/// Checks that a secret of 5 bytes is an error, which names the secret and does not show it.
pub(crate) async fn ensure_corrupt(store: &impl SharedSecretStore, name: &str) {
    let error = store.shared_secret(name, [7; 32]).await.unwrap_err();
    let said = format!("{error} {error:?}");
    assert!(matches!(error, StoreError::Corrupt { .. }), "{said}");
    assert!(said.contains(name) && said.contains("5 bytes"), "{said}");
    assert!(!said.contains("12345"), "{said}");
}

#[tokio::test]
async fn a_secret_of_another_length_is_corrupt() {
    let place = Place::new();
    let store = place.store().await;
    store.shared_secret("forms", [1; 32]).await.unwrap();
    let mut tool = place.tool().await;
    let short =
        "UPDATE api_key_shared_secrets SET secret = CAST('12345' AS BLOB) WHERE name = 'forms'";
    assert!(run(&mut tool, short).await.is_err(), "the table rejects it");
    run(&mut tool, "PRAGMA ignore_check_constraints = ON")
        .await
        .unwrap();
    assert_eq!(run(&mut tool, short).await.unwrap(), 1);
    ensure_corrupt(&store, "forms").await;
    // Others are as they were.
    assert_eq!(
        store.shared_secret("other", [2; 32]).await.unwrap(),
        [2; 32]
    );
}
