//! S-02: the conformance suite.

use std::sync::Arc;

use apikey_runtime::{KeyStore, PostgresStore, conformance};

use super::{Place, server};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s02_the_store_in_postgres_passes_on_many_threads() {
    passes().await;
}

#[tokio::test]
async fn s02_the_store_in_postgres_passes_on_one_thread() {
    passes().await;
}

async fn passes() {
    let Some(server) = server() else { return };
    let make = || async {
        let place = Place::on(server).await;
        Arc::new(PostgresStore::new(place.url())) as Arc<dyn KeyStore>
    };
    crate::suite::passed_all(&conformance::run(make).await);
}
