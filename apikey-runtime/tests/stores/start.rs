//! A start that must not begin a new file, and copies that are started.

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use apikey_runtime::store::{ChangeLog, StoreError, WriteOptions};
use apikey_runtime::{ApiKeyManager, Config, KeyStore, SqliteStore};
use apikey_test_support::{PATIENCE, soon, within};

use crate::{Place, because, id, number, record, run};

async fn refusal(store: &SqliteStore) -> String {
    match store.start().await {
        Err(StoreError::Schema { reason, .. } | StoreError::InvalidArgument(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_typo_in_a_path_makes_no_new_store_if_it_must_exist() {
    let place = Place::new();
    place.store().await.stop().await;
    let right = SqliteStore::new(place.file()).must_exist(true);
    right.start().await.unwrap();
    let working_directory = std::env::current_dir().unwrap();
    let typo = place.0.path().join("kyes.db");
    for wrong in [
        typo.clone(),
        "kyes.db".into(),
        place.0.path().join("no/keys.db"),
    ] {
        let said = refusal(&SqliteStore::new(&wrong).must_exist(true)).await;
        let absolute = std::path::absolute(&wrong).unwrap();
        for part in [&absolute, &working_directory] {
            assert!(said.contains(part.to_str().unwrap()), "{said}");
        }
        assert!(!wrong.exists(), "{wrong:?} was created");
    }
    SqliteStore::new(&typo).start().await.unwrap();
    assert!(typo.exists());
}

/// As is an empty file, or that of another application, which is left as it is.
#[tokio::test]
async fn a_file_without_the_tables_is_no_store_that_must_exist() {
    let place = Place::new();
    let mut tool = crate::file::sqlite_new(&place).await;
    let store = SqliteStore::new(place.file()).must_exist(true);
    let said = refusal(&store).await;
    assert!(said.contains(place.file().to_str().unwrap()), "{said}");
    assert_eq!(fs::metadata(place.file()).unwrap().len(), 0);
    run(&mut tool, "CREATE TABLE users (id)").await.unwrap();
    refusal(&store).await;
    let made = "SELECT count(*) FROM sqlite_schema WHERE type = 'table'";
    assert_eq!(number(&mut tool, made).await, 1);
    let mode: String = sqlx::query_scalar("PRAGMA journal_mode")
        .fetch_one(&mut tool)
        .await
        .unwrap();
    assert_eq!(mode, "delete");
}

/// Another process may have the file locked for longer than a call waits, as `VACUUM` does.
#[tokio::test]
async fn a_manager_starts_once_another_process_has_released_the_file() {
    let place = Place::new();
    place.store().await.stop().await;
    let mut tool = place.tool().await;
    run(&mut tool, "BEGIN IMMEDIATE").await.unwrap();
    let start = ApiKeyManager::builder().store(SqliteStore::new(place.file()));
    let release = async {
        // Longer than the 5 seconds of a call.
        tokio::time::sleep(std::time::Duration::from_millis(6_500)).await;
        run(&mut tool, "COMMIT").await.unwrap();
    };
    let (started, ()) = tokio::join!(async { start.start().await }, release);
    started.unwrap().shutdown().await.unwrap();
}

/// It takes longer than a start may, and no shorter one is waited for. The control is a file that is up to date.
#[tokio::test]
async fn a_manager_starts_once_another_process_has_brought_the_file_up_to_date() {
    for is_older in [true, false] {
        let place = Place::new();
        place.store().await.stop().await;
        let mut tool = place.tool().await;
        if is_older {
            let older = "UPDATE api_key_meta SET schema_version = schema_version - 1";
            run(&mut tool, older).await.unwrap();
        }
        run(&mut tool, "BEGIN IMMEDIATE").await.unwrap();
        let config = Config::builder().start_timeout(Duration::from_secs(1));
        let store = Arc::new(SqliteStore::new(place.file()));
        let manager = ApiKeyManager::builder().config(config.build().unwrap());
        let manager = manager.shared_store(Arc::clone(&store) as Arc<dyn KeyStore>);
        let starting = tokio::spawn(async move { manager.start().await });
        if !is_older {
            let refused = soon(starting).await.unwrap();
            assert!(refused.is_err());
            continue;
        }
        let waits = within(PATIENCE, async || store.is_upgrading()).await;
        assert!(waits.is_some(), "the start waits for the other process");
        // The first call has waited for longer than the start may take.
        assert!(!starting.is_finished());
        let done = "UPDATE api_key_meta SET schema_version = schema_version + 1; COMMIT";
        run(&mut tool, done).await.unwrap();
        let started = soon(starting).await.unwrap();
        started.unwrap().shutdown().await.unwrap();
        assert!(!store.is_upgrading());
    }
}

/// SQLite would delete the log, and with it the only copy of the last changes.
#[tokio::test]
async fn a_log_without_its_file_is_not_deleted() {
    let lost = Place::new();
    let store = lost.store().await;
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    store
        .revoke(&id(1), &because("lost"), &WriteOptions::new())
        .await
        .unwrap();
    let copy = Place::new();
    let beside = |place: &Place| place.0.path().join("keys.db-wal");
    fs::copy(beside(&lost), beside(&copy)).unwrap();
    let log = fs::read(beside(&copy)).unwrap();
    assert!(!log.is_empty());
    for must_exist in [false, true] {
        let again = SqliteStore::new(copy.file()).must_exist(must_exist);
        let missing = refusal(&again).await;
        fs::write(copy.file(), "").unwrap();
        let empty = refusal(&again).await;
        fs::remove_file(copy.file()).unwrap();
        for said in [missing, empty] {
            assert!(said.contains(copy.file().to_str().unwrap()), "{said}");
        }
        assert_eq!(fs::read(beside(&copy)).unwrap(), log);
    }

    fs::copy(lost.file(), copy.file()).unwrap();
    let found = copy.store().await.find(&id(1)).await.unwrap();
    assert!(found.is_some_and(|record| record.revoked.is_some()));
    // An empty log has nothing that could be lost.
    let fresh = Place::new();
    fs::write(beside(&fresh), "").unwrap();
    fresh.store().await;
}

#[tokio::test]
async fn a_store_that_another_manager_ended_says_so() {
    let place = Place::new();
    let store = Arc::new(SqliteStore::new(place.file()));
    let [first, second] = [(); 2].map(|()| ApiKeyManager::builder().shared_store(store.clone()));
    let first = first.start().await.unwrap();
    let second = second.start().await.unwrap();
    first.shutdown().await.unwrap();
    let error = second.create("a").await.unwrap_err();
    assert!(
        error.to_string().contains("a manager that was shut down"),
        "{error}"
    );
}

/// The commands of the guide's page on backups.
#[tokio::test]
async fn a_copy_that_was_made_while_the_store_was_open_is_complete() {
    let place = Place::new();
    let store = place.store().await;
    for number in 1..=20 {
        store
            .insert(&record(number), &WriteOptions::new())
            .await
            .unwrap();
    }
    store
        .revoke(&id(1), &because("lost"), &WriteOptions::new())
        .await
        .unwrap();
    let mut tool = place.tool().await;
    let copy = |name| place.0.path().join(name);
    let sql = format!("VACUUM INTO '{}'", copy("vacuum.db").display());
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
        .execute(&mut tool)
        .await
        .unwrap();
    let mut copies = vec![copy("vacuum.db")];
    let mut sqlite3 = Command::new("sqlite3");
    let backup = sqlite3
        .arg(place.file())
        .arg(".backup backup.db")
        .current_dir(place.0.path());
    if backup.status().is_ok_and(|status| status.success()) {
        copies.push(copy("backup.db"));
    }
    for file in copies {
        let copy = SqliteStore::new(file).must_exist(true);
        copy.start().await.unwrap();
        assert!(copy.find(&id(20)).await.unwrap().is_some());
        let revoked = copy.find(&id(1)).await.unwrap();
        assert!(revoked.is_some_and(|record| record.revoked.is_some()));
        let (old, new) = (
            store.changes(None, None).await,
            copy.changes(None, None).await,
        );
        assert_eq!(old.unwrap().cursor, new.unwrap().cursor);
    }
}
