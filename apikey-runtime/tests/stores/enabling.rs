//! When a key was enabled: statements by hand, and of the release before.

use apikey_runtime::audit::AuditAction;
use apikey_runtime::store::{AuditQuery, AuditStore, KeyPatch, WriteOptions};
use apikey_runtime::{KeyStore, SqliteStore, Timestamp};

use crate::{Place, at, id, record, run};

async fn enabled_at(store: &SqliteStore) -> Option<Timestamp> {
    store.find(&id(1)).await.unwrap().unwrap().enabled_at
}

/// Returns the action of the newest entry, and the fields that it shows.
async fn newest(store: &SqliteStore) -> (AuditAction, Vec<String>) {
    let page = store.read_audit(&AuditQuery::newest(1)).await.unwrap();
    let entry = page.entries.into_iter().next().unwrap();
    let fields = entry.fields.into_iter();
    (entry.action, fields.map(|change| change.field).collect())
}

#[tokio::test]
async fn a_key_that_is_enabled_by_hand_was_enabled_now() {
    let place = Place::new();
    let store = place.store().await;
    let mut tool = place.tool().await;
    let options = WriteOptions::new();
    store.insert(&record(1), &options).await.unwrap();
    assert_eq!(enabled_at(&store).await, None);
    run(&mut tool, "UPDATE api_keys SET enabled = 0")
        .await
        .unwrap();
    assert_eq!(enabled_at(&store).await, None);
    let now = Timestamp::from(std::time::SystemTime::now());
    run(&mut tool, "UPDATE api_keys SET enabled = 1, label = 'x'")
        .await
        .unwrap();
    let set = enabled_at(&store).await.unwrap();
    // The clock of SQLite counts in another unit.
    assert!(set.as_millis() >= now.as_millis() - 1, "{set} {now}");
    assert_eq!(newest(&store).await.0, AuditAction::Updated);
    run(&mut tool, "UPDATE api_keys SET enabled = 1")
        .await
        .unwrap();
    assert_eq!(
        enabled_at(&store).await,
        Some(set),
        "it was enabled already"
    );
    let sql = "UPDATE api_keys SET enabled = 0; UPDATE api_keys SET enabled = 1, enabled_at = 5";
    run(&mut tool, sql).await.unwrap();
    assert_eq!(enabled_at(&store).await, Some(at(5)));
    let both = ["enabled", "enabled_at"].map(str::to_owned);
    assert_eq!(newest(&store).await, (AuditAction::Enabled, both.to_vec()));

    // The store writes what its caller says.
    let mut patch = KeyPatch::new();
    patch.enabled = Some(false);
    store.update(&id(1), &patch, &options).await.unwrap();
    let before = store.find(&id(1)).await.unwrap().unwrap();
    patch.enabled = Some(true);
    store.update(&id(1), &patch, &options).await.unwrap();
    assert_eq!(enabled_at(&store).await, Some(at(5)));
    assert_eq!(
        newest(&store).await,
        (AuditAction::Enabled, both[..1].to_vec())
    );
    patch.enabled_at = Some(at(8));
    store.update(&id(1), &patch, &options).await.unwrap();
    assert_eq!(
        newest(&store).await,
        (AuditAction::Enabled, both[1..].to_vec())
    );
    let after = store.find(&id(1)).await.unwrap().unwrap();
    assert_eq!(after.enabled_at, Some(at(8)));
    assert_eq!(after.version, before.version + 2, "each was a change");
}

/// A change as the release before makes it, later than the other entries of the audit log.
macro_rules! change {
    ($set:literal at $time:literal) => {
        concat!(
            "BEGIN IMMEDIATE; INSERT OR REPLACE INTO api_key_origin \
            (only_row, actor, channel, address, request_id, reason, at, is_library) \
            VALUES (1, 'anna', 'http', NULL, NULL, NULL, ",
            $time,
            ", 1); UPDATE api_keys SET ",
            $set,
            ", version = version + 1, updated_by = 'anna'; DELETE FROM api_key_origin; COMMIT"
        )
    };
}

/// A process of it runs on. It says that its statements set all columns, and does not know this one.
#[tokio::test]
async fn a_key_that_the_release_before_enables_was_enabled_then() {
    let place = Place::new();
    let store = place.store().await;
    let mut tool = place.tool().await;
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    let fields = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    run(&mut tool, change!("enabled = 0" at 4000000000006))
        .await
        .unwrap();
    assert_eq!(enabled_at(&store).await, None);
    let before = store.find(&id(1)).await.unwrap().unwrap();
    run(&mut tool, change!("enabled = 1" at 4000000000007))
        .await
        .unwrap();
    assert_eq!(enabled_at(&store).await, Some(at(4_000_000_000_007)));
    assert_eq!(
        newest(&store).await,
        (AuditAction::Enabled, fields(&["enabled", "enabled_at"]))
    );
    let after = store.find(&id(1)).await.unwrap().unwrap();
    assert_eq!(after.version, before.version + 1, "it was one change");
    run(
        &mut tool,
        change!("label = 'x', enabled = 1" at 4000000000008),
    )
    .await
    .unwrap();
    assert_eq!(enabled_at(&store).await, Some(at(4_000_000_000_007)));
    assert_eq!(
        newest(&store).await,
        (AuditAction::Updated, fields(&["label"]))
    );
}
