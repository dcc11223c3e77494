//! Starts that create nothing and change nothing.

use apikey_runtime::store::{FoundSchema, StoreError, WriteOptions};
use apikey_runtime::{KeyStore, PostgresStore};

use super::{number, place, run};
use crate::as_it_is::found;
use crate::record;

fn as_it_is(url: &str) -> PostgresStore {
    PostgresStore::new(url).must_exist(true).migrate(false)
}

#[tokio::test]
async fn each_reason_is_told_from_the_others() {
    let place = place!();
    let url = place.url();
    assert_eq!(found(&as_it_is(&url)).await, FoundSchema::Missing);
    let mut tool = place.tool().await;
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = current_schema()";
    assert_eq!(number(&mut tool, tables).await, 0, "nothing was made");
    let elsewhere = place.server.url().replace("/postgres", "/nowhere");
    assert_eq!(found(&as_it_is(&elsewhere)).await, FoundSchema::Missing);
    let control = PostgresStore::new(&elsewhere).start().await;
    assert!(matches!(control, Err(StoreError::Unavailable { .. })));

    place.started().await.stop().await;
    as_it_is(&url).start().await.unwrap();
    let latest = number(&mut tool, "SELECT schema_version FROM api_key_meta").await;
    for (version, expected) in [
        (latest - 1, FoundSchema::Older(latest - 1)),
        (latest + 1, FoundSchema::Newer(latest + 1)),
        (99, FoundSchema::Foreign),
    ] {
        let set = format!("UPDATE api_key_meta SET schema_version = {version}");
        run(&mut tool, &set).await.unwrap();
        assert_eq!(found(&as_it_is(&url)).await, expected);
        let now = number(&mut tool, "SELECT schema_version FROM api_key_meta").await;
        assert_eq!(now, version, "left as it is");
    }
    let taken = place!();
    let mut tool = taken.tool().await;
    run(&mut tool, "CREATE TABLE api_key_meta (mine text)")
        .await
        .unwrap();
    assert_eq!(found(&as_it_is(&taken.url())).await, FoundSchema::Foreign);
}

/// While another process makes tables, under the lock.
#[tokio::test]
async fn a_store_that_is_there_is_opened_without_a_write() {
    let place = place!();
    place.started().await;
    let mut tool = place.tool().await;
    let lock = "SELECT 1::bigint FROM pg_advisory_lock(x'6170696b65797331'::bigint)";
    number(&mut tool, lock).await;
    let store = as_it_is(&place.url());
    store.start().await.unwrap();
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
}
