//! A file of the release before.

use super::*;
use apikey_runtime::store::{ListQuery, ListRange};

use crate::connection;

/// Makes a file with the tables of the release before, and three keys.
async fn old_file(place: &Place) -> SqliteConnection {
    std::fs::File::create_new(place.file()).unwrap();
    let mut tool = connection(&place.file()).await;
    run(&mut tool, "PRAGMA journal_mode = WAL").await.unwrap();
    for migration in [
        include_str!("../../../src/store/sqlite/migrations/0100_initial.sql"),
        include_str!("../../../src/store/sqlite/migrations/0102_change_log.sql"),
        include_str!("../../../src/store/sqlite/migrations/0103_owners.sql"),
        "UPDATE api_key_meta SET schema_version = 103",
    ] {
        run(&mut tool, migration).await.unwrap();
    }
    let keys = "WITH n (id, owner, label, revoked) AS (VALUES ('1', 'a', 'Zo' || char(203), NULL), ('2', 'a', 'B', 5), \
        ('3', NULL, printf('%0300d', 0), NULL)) \
        INSERT INTO api_keys (id, prefix, label, owner, digest, scopes, metadata, created_at, revoked_at, enabled, version) \
        SELECT '000000000000000000000' || id, 'my_api', label, owner, 'sha256$00', '', '{}', 1000, revoked, 1, 1 FROM n";
    run(&mut tool, keys).await.unwrap();
    tool
}

#[tokio::test]
async fn a_file_of_the_release_before_is_upgraded() {
    let place = Place::new();
    let mut tool = old_file(&place).await;
    let epoch = "SELECT max(epoch) FROM api_key_changes";
    let before = number(&mut tool, epoch).await;
    let store = place.store().await;
    let version = "SELECT schema_version FROM api_key_meta";
    assert!(number(&mut tool, version).await >= 104);
    assert_eq!(number(&mut tool, epoch).await, before, "it changes no key");
    assert_eq!(count(&store).await, 0);
    let listed = async |range| {
        let page = store.list(&ListQuery::of(range, 10)).await.unwrap();
        page.records.iter().map(|key| key.id).collect::<Vec<_>>()
    };
    assert_eq!(listed(ListRange::All).await, [id(3), id(2), id(1)]);
    assert_eq!(listed(ListRange::Label("b".to_owned())).await, [id(2)]);
    // Of a row that was there, only ASCII is in lower case.
    assert_eq!(listed(ListRange::Label("zo".to_owned())).await, [id(1)]);
    assert_eq!(store.count_live_keys("a", 10).await.unwrap(), 1);
    let found = store.find(&id(1)).await.unwrap().unwrap();
    assert_eq!((found.rotations, found.version), (0, 1));
    assert_eq!((found.description, found.created_by), (None, None));

    // The statements of the release before, which may still run on the file.
    for (sql, action) in [
        (
            "INSERT INTO api_keys (id, prefix, label, owner, digest, previous_digest, previous_until, scopes, metadata, \
             environment, networks, methods, limits, created_at, expires_at, not_before, revoked_at, revoked_reason, \
             enabled, version) VALUES ('0000000000000000000007', 'p', 'Old', 'a', 'd', NULL, NULL, '', '{}', NULL, '', '', \
             '[]', 5, NULL, NULL, NULL, NULL, 1, 1)",
            AuditAction::Created,
        ),
        (
            "UPDATE api_keys SET version = version + 1, label = 'NEW', digest = 'e' WHERE id LIKE '%7'",
            AuditAction::Rotated,
        ),
        (
            "UPDATE api_keys SET revoked_at = 5, version = version + 1 WHERE id LIKE '%7'",
            AuditAction::Revoked,
        ),
    ] {
        run(&mut tool, sql).await.unwrap();
        let entry = newest(&store).await;
        assert_eq!((entry.action, entry.key), (action, Some(id(7))));
        assert_eq!(entry.origin.channel, ChangeChannel::Sql);
    }
    assert_eq!(listed(ListRange::Label("new".to_owned())).await, [id(7)]);
    let found = store.find(&id(7)).await.unwrap().unwrap();
    assert_eq!((found.rotations, found.version), (1, 3));
    assert_eq!(count(&store).await, 3);
    store.stop().await;
    place.store().await;
}
