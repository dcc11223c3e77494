//! Shared secrets that were changed by hand.

use apikey_runtime::store::SharedSecretStore;

use super::{place, run};
use crate::shared_secrets::ensure_corrupt;

#[tokio::test]
async fn a_secret_of_another_length_is_corrupt() {
    let place = place!();
    let store = place.started().await;
    store.shared_secret("forms", [1; 32]).await.unwrap();
    let mut tool = place.tool().await;
    let short = "UPDATE api_key_shared_secrets SET secret = '12345' WHERE name = 'forms'";
    assert!(run(&mut tool, short).await.is_err(), "the table rejects it");
    let unchecked =
        "ALTER TABLE api_key_shared_secrets DROP CONSTRAINT api_key_shared_secrets_secret_check";
    run(&mut tool, unchecked).await.unwrap();
    assert_eq!(run(&mut tool, short).await.unwrap(), 1);
    ensure_corrupt(&store, "forms").await;
}
