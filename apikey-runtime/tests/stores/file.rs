//! Opening, sharing and closing the file.

use std::sync::Arc;
use std::time::Duration;

use apikey_runtime::audit::ChangeOrigin;
use apikey_runtime::store::{
    ChangeLog, ChangeSet, Changes, KeyPatch, ListQuery, OwnerRevocation, OwnerStore, StoreError,
    WriteOptions,
};
use apikey_runtime::{KeyStore, Metadata, SqliteStore};
use tokio::task::JoinSet;

use crate::{InSteps, Place, at, because, id, number, record, run};

#[tokio::test]
async fn before_start_and_after_stop_every_call_says_what_to_do() {
    let place = Place::new();
    let store = SqliteStore::new(place.file());
    let refused = |result: Result<(), StoreError>| match result {
        Err(StoreError::Unavailable { reason, .. }) => {
            assert!(reason.contains("`start`"), "{reason}")
        }
        other => panic!("{other:?}"),
    };
    for _ in 0..2 {
        refused(store.insert(&record(1), &WriteOptions::new()).await);
        refused(store.find(&id(1)).await.map(drop));
        refused(store.list(&ListQuery::first(1)).await.map(drop));
        refused(
            store
                .update(&id(1), &KeyPatch::new(), &WriteOptions::new())
                .await,
        );
        refused(
            store
                .revoke(&id(1), &because("lost"), &WriteOptions::new())
                .await
                .map(drop),
        );
        let lost = OwnerRevocation::new(at(0));
        refused(
            store
                .revoke_owner_keys("a", &lost, &ChangeOrigin::new())
                .await
                .map(drop),
        );
        refused(store.mark_revoked_keys().await.map(drop));
        refused(store.purge_all(at(0)).await.map(drop));
        refused(store.changes(None, None).await.map(drop));
        store.start().await.unwrap();
        store.start().await.unwrap();
        store.find(&id(1)).await.unwrap();
        store.stop().await;
        store.stop().await;
    }
}

#[tokio::test]
async fn what_was_written_is_there_after_a_restart_in_one_file() {
    let place = Place::new();
    let store = place.store().await;
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    store.stop().await;
    let names: Vec<_> = std::fs::read_dir(place.0.path()).unwrap().collect();
    assert_eq!(
        names.len(),
        1,
        "the last store to stop removes the log beside the file: {names:?}"
    );
    let found = place.store().await.find(&id(1)).await.unwrap();
    assert_eq!(found, Some(record(1)));
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_can_read_the_file() {
    use std::os::unix::fs::PermissionsExt;

    let place = Place::new();
    let store = place.store().await;
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    for file in std::fs::read_dir(place.0.path()).unwrap() {
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", file.path());
    }
}

/// POSIX drops a process's locks on a file when *any* descriptor of it is closed. If the start of a
/// second store did that, an operator's `sqlite3` would assume that it is alone, and remove the log
/// from under both.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_second_store_does_not_give_up_the_lock_of_the_first() {
    use std::os::unix::fs::MetadataExt;

    let place = Place::new();
    let _first = place.store().await;
    let inode = std::fs::metadata(place.file()).unwrap().ino();
    // Reads this process's descriptors, not `/proc/locks`, which may skip lines while other tests
    // lock files.
    let locks = || {
        let own = format!(":{inode} ");
        let infos = std::fs::read_dir("/proc/self/fdinfo").unwrap();
        infos
            .filter_map(|info| std::fs::read_to_string(info.ok()?.path()).ok())
            .flat_map(|info| info.lines().map(str::to_owned).collect::<Vec<_>>())
            .filter(|line| line.starts_with("lock:") && line.contains(&own))
            .count()
    };
    assert_eq!(locks(), 1);
    let _second = place.store().await;
    assert_eq!(locks(), 1);
}

/// A process that kept the old file would not learn of revocations in the new one.
#[cfg(unix)]
#[tokio::test]
async fn a_store_whose_file_was_replaced_answers_nothing() {
    let place = Place::new();
    let store = place.store().await;
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    let other = Place::new();
    other.store().await.stop().await;
    std::fs::rename(other.file(), place.file()).unwrap();
    let error = store.changes(None, None).await.unwrap_err();
    assert!(error.to_string().contains("replaced"), "{error}");
    assert!(store.find(&id(1)).await.is_err());

    let removed = Place::new();
    let store = removed.store().await;
    std::fs::remove_file(removed.file()).unwrap();
    assert!(store.changes(None, None).await.is_err());
    assert!(
        !removed.file().exists(),
        "an empty store must not take its place"
    );
}

/// SQLite does not wait by itself for a file that it has to put into WAL mode.
#[tokio::test]
async fn a_start_waits_for_a_file_that_someone_writes_to() {
    let place = Place::new();
    let mut tool = sqlite_new(&place).await;
    run(
        &mut tool,
        "CREATE TABLE users (id); BEGIN IMMEDIATE; DELETE FROM users",
    )
    .await
    .unwrap();
    let mut starting = tokio::spawn({
        let store = SqliteStore::new(place.file());
        async move { store.start().await.map(|()| store) }
    });
    let early = tokio::time::timeout(Duration::from_millis(300), &mut starting).await;
    assert!(early.is_err(), "it gave up, or did not wait: {early:?}");
    run(&mut tool, "COMMIT").await.unwrap();
    let store = starting.await.unwrap().unwrap();
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_stores_on_one_file_see_each_others_changes() {
    let place = Place::new();
    let (first, second) = (place.store().await, place.store().await);
    let Changes { cursor, .. } = second.changes(None, None).await.unwrap();
    first
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    assert_eq!(second.find(&id(1)).await.unwrap(), Some(record(1)));
    assert!(matches!(
        second.insert(&record(1), &WriteOptions::new()).await,
        Err(StoreError::Conflict)
    ));
    assert!(
        second
            .revoke(&id(1), &because("lost"), &WriteOptions::new())
            .await
            .unwrap()
    );
    assert!(
        !first
            .revoke(&id(1), &because("again"), &WriteOptions::new())
            .await
            .unwrap()
    );
    let history = first.changes(Some(&cursor), None).await.unwrap().set;
    assert_eq!(history, ChangeSet::of_keys([id(1), id(1)]));

    let mut tasks = JoinSet::new();
    for (offset, store) in [(100, first), (200, second)] {
        tasks.spawn(async move {
            for number in offset..offset + 50 {
                store
                    .insert(&record(number), &WriteOptions::new())
                    .await
                    .unwrap();
            }
        });
    }
    tasks.join_all().await;
    let page = place
        .store()
        .await
        .list(&ListQuery::first(1_000))
        .await
        .unwrap();
    assert_eq!(
        page.records.len(),
        101,
        "writers wait for each other, and none fails"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_stores_that_start_at_once_on_a_new_file_make_its_tables_once() {
    for _ in 0..5 {
        let place = Arc::new(Place::new());
        let mut tasks = JoinSet::new();
        for number in 1..=10 {
            let place = Arc::clone(&place);
            tasks.spawn(async move {
                let store = place.store().await;
                store
                    .insert(&record(number), &WriteOptions::new())
                    .await
                    .unwrap();
                store
            });
        }
        let stores = tasks.join_all().await;
        let page = stores[0].list(&ListQuery::first(100)).await.unwrap();
        assert_eq!(page.records.len(), 10);
        let mut tool = place.tool().await;
        assert_eq!(
            number(&mut tool, "SELECT count(*) FROM api_key_changes").await,
            11
        );
    }
}

#[tokio::test]
async fn tables_of_a_newer_release_are_left_alone() {
    let place = Place::new();
    place.store().await.stop().await;
    let mut tool = place.tool().await;
    run(&mut tool, "UPDATE api_key_meta SET schema_version = 999")
        .await
        .unwrap();
    let error = SqliteStore::new(place.file()).start().await.unwrap_err();
    assert!(
        error.to_string().contains("take a newer release"),
        "{error}"
    );
    assert_eq!(
        number(&mut tool, "SELECT schema_version FROM api_key_meta").await,
        999
    );
}

/// The tables of an unreleased build are rejected and left unchanged.
#[tokio::test]
async fn tables_of_an_unreleased_build_are_refused() {
    let place = Place::new();
    let mut tool = sqlite_new(&place).await;
    let tables = "CREATE TABLE api_key_meta (schema_version INTEGER NOT NULL) STRICT; \
         INSERT INTO api_key_meta VALUES (0)";
    run(&mut tool, tables).await.unwrap();
    for version in [0, 1, 3, 99] {
        sqlx::query("UPDATE api_key_meta SET schema_version = ?")
            .bind(version)
            .execute(&mut tool)
            .await
            .unwrap();
        let error = SqliteStore::new(place.file()).start().await.unwrap_err();
        assert!(matches!(error, StoreError::Schema { .. }), "{error:?}");
        assert!(error.to_string().contains("create a new store"), "{error}");
    }
    let made = "SELECT count(*) FROM sqlite_schema WHERE type = 'table'";
    assert_eq!(number(&mut tool, made).await, 1);
}

#[tokio::test]
async fn a_file_with_other_tables_is_shared_and_a_table_of_the_same_name_is_not_touched() {
    let place = Place::new();
    let mut tool = sqlite_new(&place).await;
    run(
        &mut tool,
        "CREATE TABLE users (id); PRAGMA user_version = 7",
    )
    .await
    .unwrap();
    let store = place.store().await;
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    assert_eq!(number(&mut tool, "PRAGMA user_version").await, 7);

    let taken = Place::new();
    let mut tool = sqlite_new(&taken).await;
    run(&mut tool, "CREATE TABLE api_keys (mine)")
        .await
        .unwrap();
    assert!(SqliteStore::new(taken.file()).start().await.is_err());
    let tables = "SELECT count(*) FROM sqlite_schema WHERE type = 'table'";
    assert_eq!(number(&mut tool, tables).await, 1, "all or nothing");
}

pub(crate) async fn sqlite_new(place: &Place) -> sqlx::SqliteConnection {
    std::fs::File::create(place.file()).unwrap();
    place.tool().await
}

#[tokio::test]
async fn a_file_that_cannot_be_is_an_error() {
    let place = Place::new();
    let missing = SqliteStore::new(place.0.path().join("no/such/folder/keys.db"));
    let error = missing.start().await.unwrap_err();
    assert!(
        matches!(
            &error,
            StoreError::Unavailable {
                source: Some(_),
                ..
            }
        ),
        "{error:?}"
    );
    for nameless in ["", ":memory:"] {
        let error = SqliteStore::new(nameless).start().await.unwrap_err();
        assert!(error.to_string().contains("MemoryStore"), "{error}");
    }
    std::fs::write(
        place.file(),
        "this is no database, and long enough to be told apart",
    )
    .unwrap();
    let error = SqliteStore::new(place.file()).start().await.unwrap_err();
    assert!(matches!(error, StoreError::Backend { .. }), "{error:?}");
}

#[tokio::test]
async fn what_could_not_be_read_back_is_not_written() {
    let place = Place::new();
    let store = place.store().await;
    let mut deep = record(1);
    let nested = (0..200).fold(serde_json::Value::Null, |inner, _| vec![inner].into());
    deep.metadata = Metadata::from_iter([("deep".to_owned(), nested)]);
    let mut old = record(2);
    old.version = u64::MAX;
    for refused in [&deep, &old] {
        assert!(matches!(
            store.insert(refused, &WriteOptions::new()).await,
            Err(StoreError::Backend { .. } | StoreError::InvalidArgument(_))
        ));
        assert_eq!(store.find(&refused.id).await.unwrap(), None);
    }
    let mut last = record(3);
    last.version = i64::MAX as u64;
    store.insert(&last, &WriteOptions::new()).await.unwrap();
    store
        .update(&id(3), &KeyPatch::new(), &WriteOptions::new())
        .await
        .unwrap();
    assert!(
        store
            .revoke(&id(3), &because("lost"), &WriteOptions::new())
            .await
            .unwrap(),
        "whatever its version"
    );
}

/// A call that its caller gave up completes, and the connection can be used again.
#[tokio::test]
async fn a_caller_who_goes_away_leaves_a_revocation_running() {
    let place = Place::new();
    let store = place.store().await;
    for number in 1..=2 {
        store
            .insert(&record(number), &WriteOptions::new())
            .await
            .unwrap();
    }
    let mut tool = place.tool().await;
    run(&mut tool, "BEGIN IMMEDIATE").await.unwrap();
    // Long enough to reach SQLite, and shorter than SQLite's own wait.
    let deadline = Duration::from_millis(500);
    let reason = because("lost");
    let key = id(1);
    let given_up =
        tokio::time::timeout(deadline, store.revoke(&key, &reason, &WriteOptions::new())).await;
    assert!(given_up.is_err(), "the file is locked");
    run(&mut tool, "COMMIT").await.unwrap();
    assert!(
        store
            .revoke(&id(2), &because("lost"), &WriteOptions::new())
            .await
            .unwrap()
    );
    assert!(store.find(&id(1)).await.unwrap().unwrap().revoked.is_some());
}

/// O-01.
#[tokio::test]
async fn o01_a_store_shows_no_record() {
    let place = Place::new();
    let store = place.store().await;
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    let shown = format!("{store:?}");
    assert!(
        !shown.contains("sha256") && !shown.contains("a label"),
        "{shown}"
    );
}
