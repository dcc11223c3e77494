//! Copies between stores of several kinds, and what SQLite's triggers do in them.

use std::sync::Arc;

use apikey_runtime::store::{CopyItems, CopySection, StoreCopy, WriteOptions};
use apikey_runtime::{KeyStore, MemoryStore, SqliteStore, conformance};

use sqlx::{AssertSqlSafe, SqliteConnection};

use crate::{Place, id, record, run};

fn in_memory() -> Arc<dyn KeyStore> {
    Arc::new(MemoryStore::new())
}

/// Creates a store in a new file within `place`.
pub(crate) fn in_file(place: &Place) -> Arc<dyn KeyStore> {
    let file = tempfile::NamedTempFile::new_in(place.0.path()).unwrap();
    let path = file.into_temp_path();
    let kept = path.to_path_buf();
    path.close().unwrap();
    Arc::new(SqliteStore::new(kept))
}

#[tokio::test]
async fn a_file_is_copied_to_memory_and_back() {
    let place = Place::new();
    conformance::copy_between(|| async { in_file(&place) }, || async { in_memory() }).await;
    conformance::copy_between(|| async { in_memory() }, || async { in_file(&place) }).await;
}

async fn run_text(tool: &mut SqliteConnection, sql: String) {
    let run = sqlx::raw_sql(AssertSqlSafe(sql)).execute(tool).await;
    run.unwrap();
}

async fn entries(store: &SqliteStore) -> usize {
    let page = store.read_copy(CopySection::Audit, None, 10).await;
    page.unwrap().items.len()
}

/// With the trigger dropped, the same copy writes an entry of the audit log: the negative control.
#[tokio::test]
async fn the_trigger_keeps_copies_out_of_the_audit_log() {
    let place = Place::new();
    let store = place.store().await;
    let keys = |number| CopyItems::Keys(vec![record(number)]);
    store.write_copy(&keys(1)).await.unwrap();
    assert_eq!(entries(&store).await, 0);
    let mut tool = place.tool().await;
    run(&mut tool, "DROP TRIGGER api_key_audit_copied")
        .await
        .unwrap();
    store.write_copy(&keys(2)).await.unwrap();
    assert_eq!(entries(&store).await, 1);
}

/// What a statement by hand broke is named, and does not end the copy.
#[tokio::test]
async fn what_cannot_be_read_is_named_and_the_rest_is_copied() {
    let place = Place::new();
    let store = place.store().await;
    for number in 1..=3 {
        let options = WriteOptions::new();
        store.insert(&record(number), &options).await.unwrap();
    }
    let mut tool = place.tool().await;
    let broken = id(2);
    run_text(
        &mut tool,
        format!("UPDATE api_keys SET limits = '[7]' WHERE id = '{broken}'"),
    )
    .await;
    run_text(
        &mut tool,
        format!("INSERT INTO api_key_usage VALUES ('{broken}', '/', 1, 'later', 1, 0)"),
    )
    .await;
    let page = store.read_copy(CopySection::Keys, None, 10).await.unwrap();
    assert_eq!(page.items.len(), 2);
    assert_eq!(page.unreadable, [broken.to_string()]);
    let page = store.read_copy(CopySection::Usage, None, 10).await.unwrap();
    assert_eq!(page.items.len(), 0);
    assert_eq!(page.unreadable, [format!("{broken} 1 / later")]);
}

/// What is left of a removed key is not copied.
#[tokio::test]
async fn usage_of_a_removed_key_is_passed_over() {
    let place = Place::new();
    let store = place.store().await;
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    let mut tool = place.tool().await;
    for number in [1, 2] {
        let key = id(number);
        run_text(
            &mut tool,
            format!("INSERT INTO api_key_usage VALUES ('{key}', '/', 1, 'allowed', 1, 0)"),
        )
        .await;
    }
    let page = store.read_copy(CopySection::Usage, None, 1).await.unwrap();
    assert_eq!(page.items.len(), 1);
    let next = page.next.unwrap();
    let last = store.read_copy(CopySection::Usage, Some(&next), 1);
    let last = last.await.unwrap();
    assert!(last.items.is_empty() && last.next.is_none(), "{last:?}");
}

/// A row of an older release, and one that a batch left: the key was rotated since.
#[tokio::test]
async fn uses_of_former_secrets_are_passed_over() {
    let place = Place::new();
    let store = place.store().await;
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    let (mut tool, key) = (place.tool().await, id(1));
    let former = format!("INSERT INTO api_key_last_used (key, at) VALUES ('{key}', 5)");
    run_text(&mut tool, former).await;
    for rotations in [1, 2, 3] {
        let used = format!(
            "INSERT INTO api_key_secret_uses (key, rotations, at) VALUES ('{key}', {rotations}, 7)"
        );
        run_text(&mut tool, used).await;
    }
    for limit in [1, 10] {
        let (mut after, mut found) = (None, Vec::new());
        loop {
            let read = store.read_copy(CopySection::SecretUses, after.as_deref(), limit);
            let page = read.await.unwrap();
            let CopyItems::SecretUses(uses) = page.items else {
                panic!("a page of another section");
            };
            found.extend(uses.iter().map(|used| used.rotations));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(found, [2, 3]);
    }
}
