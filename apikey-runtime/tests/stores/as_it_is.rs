//! Starts that create nothing and change nothing.

use std::fs;

use apikey_runtime::store::{FoundSchema, StoreError, WriteOptions};
use apikey_runtime::{KeyStore, SqliteStore};

use crate::{Place, because, id, number, record, run};

/// Returns what the start of a store that must be there as it is found instead.
pub(crate) async fn found(store: &dyn KeyStore) -> FoundSchema {
    match store.start().await {
        Err(StoreError::Schema { found, .. }) => found,
        other => panic!("{other:?}"),
    }
}

fn as_it_is(place: &Place) -> SqliteStore {
    SqliteStore::new(place.file())
        .must_exist(true)
        .migrate(false)
}

#[tokio::test]
async fn each_reason_is_told_from_the_others() {
    let place = Place::new();
    assert_eq!(found(&as_it_is(&place)).await, FoundSchema::Missing);
    assert!(!place.file().exists());
    fs::write(place.file(), "").unwrap();
    assert_eq!(found(&as_it_is(&place)).await, FoundSchema::Missing);
    fs::write(place.file(), "not a database".repeat(100)).unwrap();
    assert_eq!(found(&as_it_is(&place)).await, FoundSchema::Foreign);
    fs::remove_file(place.file()).unwrap();

    place.store().await.stop().await;
    let mut tool = place.tool().await;
    let latest = number(&mut tool, "SELECT schema_version FROM api_key_meta").await;
    for (version, expected) in [
        (latest - 1, FoundSchema::Older(latest - 1)),
        (latest + 1, FoundSchema::Newer(latest + 1)),
        (99, FoundSchema::Foreign),
    ] {
        sqlx::query("UPDATE api_key_meta SET schema_version = ?")
            .bind(version)
            .execute(&mut tool)
            .await
            .unwrap();
        assert_eq!(found(&as_it_is(&place)).await, expected);
        let now = number(&mut tool, "SELECT schema_version FROM api_key_meta").await;
        assert_eq!(now, version, "left as it is");
    }
    let other = Place::new();
    let mut tool = crate::file::sqlite_new(&other).await;
    run(&mut tool, "CREATE TABLE users (id)").await.unwrap();
    assert_eq!(found(&as_it_is(&other)).await, FoundSchema::Foreign);
}

/// While another process writes for longer than a call waits. The control needs the file for itself.
#[tokio::test]
async fn a_store_that_is_there_is_opened_without_a_write() {
    let place = Place::new();
    let server = place.store().await;
    let mut tool = place.tool().await;
    run(&mut tool, "BEGIN IMMEDIATE").await.unwrap();
    let control = SqliteStore::new(place.file()).start().await;
    assert!(matches!(control, Err(StoreError::Unavailable { .. })));
    let store = as_it_is(&place);
    store.start().await.unwrap();
    run(&mut tool, "COMMIT").await.unwrap();

    let options = WriteOptions::new();
    store.insert(&record(1), &options).await.unwrap();
    assert!(server.find(&id(1)).await.unwrap().is_some());
    assert!(
        store
            .revoke(&id(1), &because("lost"), &options)
            .await
            .unwrap()
    );
}

/// What does not exist may be created, even if nothing may be brought up to date.
#[tokio::test]
async fn a_new_store_is_no_older_one() {
    let place = Place::new();
    let store = SqliteStore::new(place.file()).migrate(false);
    store.start().await.unwrap();
    as_it_is(&place).start().await.unwrap();
}
