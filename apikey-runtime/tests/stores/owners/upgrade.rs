//! Files of another time.

use std::process::Command;

use apikey_runtime::audit::ChangeOrigin;
use apikey_runtime::store::{
    ChangeLog, ChangeSet, Cursor, ListQuery, Membership, NodeId, OwnerState, OwnerStore,
    WriteOptions,
};
use apikey_runtime::{KeyStore, SqliteStore};
use sqlx::SqliteConnection;

use super::by_hand::INSERTS;
use super::{cursor, found, leaving, mark_all, state, stocked};
use crate::{Place, at, connection, number, owned, run};

/// A process of an older build is listed as such.
#[tokio::test]
async fn a_node_tells_its_protocol_when_it_joins() {
    let (_place, store, mut tool) = stocked().await;
    let older = "INSERT INTO api_key_nodes (id, acknowledged, heartbeat, suspected) VALUES ('0000000000000000000001', 0, 1, 0)";
    run(&mut tool, older).await.unwrap();
    store.join(&NodeId::from_u128(2)).await.unwrap();
    let protocols = async || {
        let mut nodes = store.members().await.unwrap().nodes;
        nodes.sort_unstable_by_key(|node| node.id);
        nodes.iter().map(|node| node.protocol).collect::<Vec<_>>()
    };
    assert_eq!(protocols().await, [1, 2]);
    store.join(&NodeId::from_u128(1)).await.unwrap();
    assert_eq!(protocols().await, [2, 2]);
    assert_eq!(
        store.changes(None, None).await.unwrap().required_protocol,
        2
    );
}

/// With keys of owners, one of which is longer than is permitted now, and a process of the older release that
/// still writes.
#[tokio::test]
async fn a_file_of_the_release_before_is_upgraded_with_its_owners() {
    let place = Place::new();
    std::fs::File::create_new(place.file()).unwrap();
    let mut tool = connection(&place.file()).await;
    run(&mut tool, "PRAGMA journal_mode = WAL").await.unwrap();
    run(
        &mut tool,
        include_str!("../../../src/store/sqlite/migrations/0100_initial.sql"),
    )
    .await
    .unwrap();
    run(
        &mut tool,
        include_str!("../../../src/store/sqlite/migrations/0102_change_log.sql"),
    )
    .await
    .unwrap();
    run(
        &mut tool,
        "UPDATE api_key_meta SET schema_version = 102; \
         WITH n (id, owner, revoked) AS (VALUES ('1', 'a', NULL), ('2', 'a', 5), ('3', 'b', NULL), ('4', NULL, NULL), \
         ('5', printf('%0300d', 0), NULL)) \
         INSERT INTO api_keys (id, prefix, label, owner, digest, scopes, metadata, created_at, revoked_at, enabled, version) \
         SELECT '000000000000000000000' || id, 'my_api', 'a label', owner, 'sha256$00', '', '{}', 1000, revoked, 1, 1 FROM n",
    )
    .await
    .unwrap();
    let old = cursor_of(&mut tool).await;
    let store = place.store().await;
    assert_eq!(
        number(&mut tool, "SELECT schema_version FROM api_key_meta").await,
        108
    );
    assert_eq!(cursor(&store).await, old, "the history goes on");
    let new = Some(OwnerState::new());
    for (number, expected, revoked) in [
        (1, new, false),
        (2, new, true),
        (3, new, false),
        (4, None, false),
        (5, new, false),
    ] {
        let key = found(&store, number).await;
        assert_eq!(
            (
                key.owner_revocations,
                key.owner_state,
                key.revoked.is_some()
            ),
            (0, expected, revoked)
        );
    }
    store
        .revoke_owner_keys("a", &leaving(6_000, "left"), &ChangeOrigin::new())
        .await
        .unwrap();
    assert_eq!(
        found(&store, 1).await.revoked,
        Some(leaving(6_000, "left").of_key())
    );
    assert_eq!(found(&store, 2).await.revoked.unwrap().at, at(5));
    // The statement of the older release.
    run(&mut tool, INSERTS[0]).await.unwrap();
    let key = found(&store, 7).await;
    assert_eq!((key.owner_revocations, key.revoked), (1, None));
    mark_all(&store).await;
    store.stop().await;
    place.store().await;
}

async fn cursor_of(tool: &mut SqliteConnection) -> Cursor {
    let newest = "SELECT epoch, tag FROM api_key_changes ORDER BY epoch DESC LIMIT 1";
    let (epoch, tag): (i64, Vec<u8>) = sqlx::query_as(newest).fetch_one(tool).await.unwrap();
    Cursor {
        epoch: epoch as u64,
        tag,
    }
}

/// A copy that was made between two calls: the versions go back, and the cursor is unknown.
#[tokio::test]
async fn an_older_copy_has_older_owners_and_does_not_know_the_cursor() {
    let (place, store, tool) = stocked().await;
    drop(tool);
    let once = store
        .revoke_owner_keys("a", &leaving(5_000, "first"), &ChangeOrigin::new())
        .await
        .unwrap();
    store.stop().await;
    let copy = place.0.path().join("copy.db");
    std::fs::copy(place.file(), &copy).unwrap();
    store.start().await.unwrap();
    store
        .insert(&owned(4, "a"), &WriteOptions::new())
        .await
        .unwrap();
    store
        .revoke_owner_keys("a", &leaving(6_000, "second"), &ChangeOrigin::new())
        .await
        .unwrap();
    store
        .set_owner_suspended("b", true, &ChangeOrigin::new())
        .await
        .unwrap();
    let newer = cursor(&store).await;
    store.stop().await;
    std::fs::copy(&copy, place.file()).unwrap();
    store.start().await.unwrap();
    let ask = async || store.changes(Some(&newer), None).await.unwrap().set;
    assert_eq!(ask().await, ChangeSet::Resync);
    assert_eq!(
        [state(&store, "a").await, state(&store, "b").await],
        [once, OwnerState::new()]
    );
    for _ in 0..2 {
        store
            .set_owner_suspended("b", true, &ChangeOrigin::new())
            .await
            .unwrap();
        store
            .set_owner_suspended("b", false, &ChangeOrigin::new())
            .await
            .unwrap();
    }
    assert_eq!(
        ask().await,
        ChangeSet::Resync,
        "an equal number of changes, but others"
    );
    mark_all(&store).await;
    assert_eq!(
        found(&store, 1).await.revoked,
        Some(leaving(5_000, "first").of_key())
    );
}

/// A backup between two calls, as a file and as statements, has what was not marked yet.
#[tokio::test]
async fn a_copy_between_a_revocation_and_its_marks_reads_the_same() {
    let (place, store, mut tool) = stocked().await;
    store
        .revoke_owner_keys("a", &leaving(5_000, "left"), &ChangeOrigin::new())
        .await
        .unwrap();
    store
        .insert(&owned(4, "a"), &WriteOptions::new())
        .await
        .unwrap();
    store
        .set_owner_suspended("b", true, &ChangeOrigin::new())
        .await
        .unwrap();
    let path = |name| place.0.path().join(name);
    let vacuum = format!("VACUUM INTO '{}'", path("vacuum.db").display());
    sqlx::raw_sql(sqlx::AssertSqlSafe(vacuum))
        .execute(&mut tool)
        .await
        .unwrap();
    let mut copies = vec![path("vacuum.db")];
    let mut sqlite3 = Command::new("sqlite3");
    if let Ok(dump) = sqlite3.arg(place.file()).arg(".dump").output() {
        assert!(dump.status.success(), "{dump:?}");
        std::fs::File::create_new(path("dump.db")).unwrap();
        let sql = String::from_utf8(dump.stdout).unwrap();
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
            .execute(&mut connection(&path("dump.db")).await)
            .await
            .unwrap();
        copies.push(path("dump.db"));
    }
    let all = ListQuery::first(10);
    let page = store.list(&all).await.unwrap();
    for file in copies {
        let copy = SqliteStore::new(file).must_exist(true);
        copy.start().await.unwrap();
        assert_eq!(cursor(&copy).await, cursor(&store).await);
        assert_eq!(copy.list(&all).await.unwrap(), page);
        mark_all(&copy).await;
        assert_eq!(copy.list(&all).await.unwrap(), page);
    }
}
