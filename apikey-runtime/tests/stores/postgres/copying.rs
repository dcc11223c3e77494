//! Copies to and from a file.

use std::sync::Arc;

use apikey_runtime::{KeyStore, PostgresStore, conformance};

use super::{Place, server};
use crate::copying::in_file;

#[tokio::test]
async fn a_database_is_copied_to_a_file_and_back() {
    let Some(server) = server() else { return };
    let files = crate::Place::new();
    let in_database = || async {
        let place = Place::on(server).await;
        Arc::new(PostgresStore::new(place.url())) as Arc<dyn KeyStore>
    };
    conformance::copy_between(in_database, || async { in_file(&files) }).await;
    conformance::copy_between(|| async { in_file(&files) }, in_database).await;
}
