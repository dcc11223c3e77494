//! How records read before and after they are marked, and what marking costs.

use std::sync::Arc;
use std::time::Duration;

use apikey_runtime::KeyStore;
use apikey_runtime::audit::ChangeOrigin;
use apikey_runtime::store::{
    ChangeSet, ChangedItem, ListQuery, Membership, NodeId, OwnerState, OwnerStore, StoreError,
    WriteOptions,
};
use tokio::time::sleep;

use super::bulk::add;
use super::owners::{because_of, read, revoked, to_owner};
use super::{changed, cursor, for_reason, history, mark, number, place, run, until_waiting};
use crate::{InSteps, at, because, id, owned};

#[tokio::test]
async fn two_revocations_keep_both_reasons_before_and_after_marking() {
    let place = place!();
    let store = place.started().await;
    let mut tool = place.tool().await;
    store
        .insert(&owned(1, "a"), &WriteOptions::new())
        .await
        .unwrap();
    store
        .insert(&owned(9, "other"), &WriteOptions::new())
        .await
        .unwrap();
    let since = cursor(&store).await;
    let state = |version| OwnerState::new().with_version(version);
    let first = store
        .revoke_owner_keys("a", &for_reason(3_000, "first"), &ChangeOrigin::new())
        .await;
    assert_eq!(first.unwrap(), state(2).with_revocations(1));
    store
        .insert(&owned(2, "a"), &WriteOptions::new())
        .await
        .unwrap();
    store
        .revoke(&id(2), &because("its own"), &WriteOptions::new())
        .await
        .unwrap();
    store
        .insert(&owned(3, "a"), &WriteOptions::new())
        .await
        .unwrap();
    let second = store
        .revoke_owner_keys("a", &for_reason(9_000, "second"), &ChangeOrigin::new())
        .await;
    let last = state(3).with_revocations(2);
    assert_eq!(second.unwrap(), last);
    store
        .insert(&owned(4, "a"), &WriteOptions::new())
        .await
        .unwrap();
    let owner = |state| ChangedItem::Owner {
        owner: "a".to_owned(),
        state,
    };
    let key = |number| ChangedItem::Key(id(number));
    // The log has the present state beside each of its changes.
    let items = [owner(last), key(2), key(2), key(3), owner(last), key(4)];
    let logged = ChangeSet::Entries(items.to_vec());
    assert_eq!(history(&store, &since).await, logged);
    for round in ["before", "after"] {
        let expected = [
            (1, because_of(3_000, "first")),
            (2, because_of(3_000, "its own")),
            (3, because_of(9_000, "second")),
            (4, None),
            (9, None),
        ];
        for (key, expected) in expected {
            let found = read(&store, key).await;
            assert_eq!(revoked(&store, key).await, expected, "{key}, {round}");
            let page = store.list(&ListQuery::first(10)).await.unwrap();
            assert!(page.records.contains(&found), "{key}, {round}");
            let late = because("late");
            assert!(
                expected.is_none()
                    || !store
                        .revoke(&id(key), &late, &WriteOptions::new())
                        .await
                        .unwrap()
            );
        }
        assert_eq!(mark(&store).await, 1);
    }
    assert_eq!(history(&store, &since).await, logged);
    let marked = "SELECT count(*) FROM api_keys WHERE revoked_at IS NOT NULL AND version = 1";
    assert_eq!(number(&mut tool, marked).await, 2);
}

/// A purge counts keys whose own rows are not marked yet.
#[tokio::test]
async fn a_purge_removes_keys_that_are_not_marked_yet() {
    let place = place!();
    let store = place.started().await;
    for (key, owner) in [(1, "a"), (2, "b"), (3, "c")] {
        store
            .insert(&owned(key, owner), &WriteOptions::new())
            .await
            .unwrap();
    }
    for (owner, millis) in [("a", 3_000), ("b", 5_000)] {
        let lost = for_reason(millis, "lost");
        store
            .revoke_owner_keys(owner, &lost, &ChangeOrigin::new())
            .await
            .unwrap();
    }
    assert_eq!(store.purge_all(at(5_000)).await.unwrap(), [id(1)]);
    assert_eq!(store.purge_all(at(5_001)).await.unwrap(), [id(2)]);
    mark(&store).await;
    assert_eq!(store.find(&id(3)).await.unwrap().unwrap().revoked, None);
    assert!(
        store.find_owner("a").await.unwrap().is_some(),
        "an owner stays"
    );
}

/// Two nodes mark at once; steps are abandoned, and sessions ended, in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn marking_survives_what_is_abandoned_and_is_no_change() {
    let place = place!();
    let stores = [place.started().await, place.started().await].map(Arc::new);
    let mut tool = place.tool().await;
    add(&mut tool, 1, 5_000, "'a'", "NULL").await;
    let first = for_reason(3_000, "first");
    stores[0]
        .revoke_owner_keys("a", &first, &ChangeOrigin::new())
        .await
        .unwrap();
    add(&mut tool, 5_001, 8_000, "'a'", "NULL").await;
    add(&mut tool, 8_001, 8_100, "'other'", "NULL").await;
    // Of an abandoned step nothing holds: it waits for the last key of its page.
    let hold = "BEGIN; SELECT FROM api_keys WHERE id LIKE '%0500' FOR UPDATE";
    run(&mut tool, hold).await.unwrap();
    for _ in 0..2 {
        let marking = tokio::spawn({
            let store = Arc::clone(&stores[0]);
            async move { store.mark_revoked_keys().await }
        });
        until_waiting(&place, &mut tool, 1).await;
        marking.abort();
        assert!(marking.await.unwrap_err().is_cancelled());
        run(
            &mut tool,
            "SELECT pg_terminate_backend(pid) FROM pg_locks \
                WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))",
        )
        .await
        .unwrap();
    }
    run(&mut tool, "COMMIT").await.unwrap();
    let unmarked = "SELECT count(*) FROM api_keys WHERE revoked_at IS NULL";
    assert_eq!(number(&mut tool, unmarked).await, 8_100);
    assert!(stores[0].mark_revoked_keys().await.unwrap());
    // The walk that has begun goes on, and the next one marks what it did not know of.
    let second = for_reason(9_000, "second");
    stores[1]
        .revoke_owner_keys("a", &second, &ChangeOrigin::new())
        .await
        .unwrap();
    let since = cursor(&*stores[0]).await;
    let nodes = stores.each_ref().map(|store| {
        let store = Arc::clone(store);
        tokio::spawn(async move { mark(&store).await })
    });
    for node in nodes {
        node.await.unwrap();
    }
    for (millis, count) in [(3_000, 5_000), (9_000, 3_000)] {
        let marked =
            format!("SELECT count(*) FROM api_keys WHERE revoked_at = {millis} AND version = 1");
        assert_eq!(number(&mut tool, &marked).await, count);
    }
    assert_eq!(number(&mut tool, unmarked).await, 100);
    assert_eq!(cursor(&*stores[0]).await, since);
    assert_eq!(
        number(&mut tool, "SELECT count(*) FROM api_key_owner_revocations").await,
        0
    );
}

/// Whatever the number of the owner's keys and of owners: the server counts the rows that it reads for each call.
#[tokio::test]
async fn no_call_reads_more_rows_if_an_owner_has_more_keys() {
    const KEYS: u64 = 12_000;
    let place = place!();
    let mut tool = place.tool().await;
    let store = place.started().await;
    store
        .insert(&owned(1 << 100, "a"), &WriteOptions::new())
        .await
        .unwrap();
    // Statistics of tables with a row each.
    run(&mut tool, "ANALYZE").await.unwrap();
    let since = cursor(&store).await;
    store.stop().await;
    add(&mut tool, 1, KEYS, "'a'", "NULL").await;
    add(&mut tool, KEYS + 1, 2 * KEYS, "'a' || i", "NULL").await;
    let names = [
        "insert",
        "move",
        "find",
        "list",
        "poll",
        "suspend",
        "revoke all",
        "revoke",
        "mark",
        "purge",
        "all",
    ];
    for (step, name) in names.into_iter().enumerate() {
        let before = rows_read(&mut tool).await;
        let store = place.started().await;
        match step {
            0 => store
                .insert(&owned(1 << 101, "a"), &WriteOptions::new())
                .await
                .unwrap(),
            1 => store
                .update(&id(1 << 101), &to_owner("a7"), &WriteOptions::new())
                .await
                .unwrap(),
            2 => drop(read(&store, 1 << 101).await),
            // To find a page's end it reads 10,000.
            3 => drop(store.list(&ListQuery::first(1_000)).await.unwrap()),
            4 => assert_eq!(changed(&store, &since).await.len(), 1_000),
            5 => drop(
                store
                    .set_owner_suspended("a", true, &ChangeOrigin::new())
                    .await
                    .unwrap(),
            ),
            6 => drop(
                store
                    .revoke_owner_keys("a", &for_reason(1, "lost"), &ChangeOrigin::new())
                    .await
                    .unwrap(),
            ),
            7 => assert!(
                !store
                    .revoke(&id(1 << 100), &because("lost"), &WriteOptions::new())
                    .await
                    .unwrap()
            ),
            8 => assert!(store.mark_revoked_keys().await.unwrap()),
            9 => drop(
                store
                    .purge(at(0), None, &ChangeOrigin::new())
                    .await
                    .unwrap(),
            ),
            // Negative control.
            _ => drop(
                run(
                    &mut tool,
                    "SET enable_indexscan = off; SELECT count(label) FROM api_keys",
                )
                .await
                .unwrap(),
            ),
        }
        store.stop().await;
        let count = rows_read(&mut tool).await - before;
        assert_eq!(count < 15_000, name != "all", "{name} reads {count} rows");
    }
}

/// Returns how many rows of these tables the server has read, once it has counted all of a session that has ended.
pub(super) async fn rows_read(tool: &mut sqlx::PgConnection) -> i64 {
    const READ: &str = "SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0))::bigint FROM pg_stat_user_tables \
        WHERE schemaname = current_schema()";
    run(tool, "SELECT pg_stat_force_next_flush()")
        .await
        .unwrap();
    // A session that has ended may still be counted, and later if the machine is busy.
    let (mut last, mut equal) = (number(tool, READ).await, 0);
    while equal < 3 {
        sleep(Duration::from_millis(250)).await;
        let now = number(tool, READ).await;
        equal = if now == last { equal + 1 } else { 0 };
        last = now;
    }
    last
}

/// A node says which protocol it speaks when it joins; an older build does not.
#[tokio::test]
async fn the_list_of_nodes_tells_an_older_build() {
    let place = place!();
    let store = place.started().await;
    let mut tool = place.tool().await;
    store.join(&NodeId::from_u128(1)).await.unwrap();
    let older = "INSERT INTO api_key_nodes AS node (id) VALUES ('0000000000000000000002'), ('0000000000000000000003')";
    run(&mut tool, older).await.unwrap();
    store.join(&NodeId::from_u128(3)).await.unwrap();
    let odd = "INSERT INTO api_key_nodes (id, protocol) VALUES ('0000000000000000000004', -1)";
    run(&mut tool, odd).await.unwrap();
    let mut nodes = store.members().await.unwrap().nodes;
    nodes.sort_unstable_by_key(|node| node.id);
    let protocols: Vec<_> = nodes.iter().map(|node| node.protocol).collect();
    assert_eq!(protocols, [2, 1, 2, 0]);
    assert!(matches!(
        store
            .revoke_owner_keys("nobody", &for_reason(1, "lost"), &ChangeOrigin::new())
            .await,
        Err(StoreError::NotFound)
    ));
}
