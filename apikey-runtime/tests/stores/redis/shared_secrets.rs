//! Shared secrets that were changed by hand.

use apikey_runtime::store::SharedSecretStore;

use super::{redis_server, started};
use crate::shared_secrets::ensure_corrupt;

#[tokio::test]
async fn a_secret_of_another_length_is_corrupt() {
    let server = redis_server!();
    let store = started(&server).await;
    store.shared_secret("forms", [1; 32]).await.unwrap();
    server.command(&["HSET", "{apikey}:shared_secrets", "forms", "12345"]);
    ensure_corrupt(&store, "forms").await;
}
