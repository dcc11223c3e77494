//! Bulk changes: steps whose size does not grow with the data, and the log that they leave.

use std::sync::Arc;
use std::time::Duration;

use apikey_runtime::audit::ChangeOrigin;
use apikey_runtime::store::{
    ChangeLog, ChangeSet, KeyPatch, ListQuery, ListRange, Membership, NodeId, OwnerStore,
    WriteOptions,
};
use apikey_runtime::{KeyStore, PostgresStore};
use apikey_test_support::{SLACK, within};
use sqlx::PgConnection;
use tokio::time::{sleep, timeout};

use super::{changed, cursor, for_reason, history, number, place, run};
use crate::many_keys::{LEASE, OF_ACME, OVER, disturb_no_other_key};
use crate::{at, id, owned, record};

/// Adds keys by hand: their numbers, and the rest of their columns.
pub(super) async fn add(tool: &mut PgConnection, from: u64, to: u64, owner: &str, expires: &str) {
    let sql = format!(
        "INSERT INTO api_keys (id, prefix, label, owner, digest, scopes, metadata, created_at, expires_at, enabled, version) \
         SELECT lpad(i::text, 22, '0'), 'p', 'l', {owner}, 'd', '', '{{}}', 0, {expires}, TRUE, 1 \
         FROM generate_series({from}, {to}) AS i"
    );
    run(tool, &sql).await.unwrap();
}

#[tokio::test]
async fn bulk_changes_of_twenty_thousand_keys_disturb_no_other_key() {
    let place = place!();
    let started = place.started().await;
    let mut tool = place.tool().await;
    add(&mut tool, 1, OF_ACME, "'acme'", "NULL").await;
    add(&mut tool, 100_001, 100_000 + OVER, "NULL", "1000").await;
    started.stop().await;
    let store = || Arc::new(place.store().lease(LEASE)) as Arc<dyn KeyStore>;
    disturb_no_other_key([store(), store()], async || {
        run(&mut tool, "SELECT api_key_append_change('', 'all')")
            .await
            .unwrap();
    })
    .await;
}

/// Statistics that say that the owner has a single key must not lead to a plan that reads all of them in each step.
#[tokio::test]
async fn a_step_marks_a_bounded_number_of_keys_and_the_next_one_continues() {
    let place = place!();
    let store = place.started().await;
    let mut tool = place.tool().await;
    add(&mut tool, 1, 30, "'acme' || i", "NULL").await;
    run(&mut tool, "ANALYZE api_keys").await.unwrap();
    // Owners with the same beginning stand beside one another in the index.
    let long = "a".repeat(100);
    let (owner, sibling) = (format!("{long}b"), format!("{long}c"));
    add(&mut tool, 101, 1_700, &format!("'{owner}'"), "NULL").await;
    add(&mut tool, 1_701, 2_000, &format!("'{sibling}'"), "NULL").await;
    let left = for_reason(3_000, "left");
    store
        .revoke_owner_keys(&owner, &left, &ChangeOrigin::new())
        .await
        .unwrap();
    let since = cursor(&store).await;
    let marked = "SELECT count(*) FROM api_keys WHERE revoked_at = 3000 AND revoked_reason = 'left' AND version = 1";
    let mut sizes = Vec::new();
    loop {
        let is_more = store.mark_revoked_keys().await.unwrap();
        sizes.push(number(&mut tool, marked).await);
        if !is_more {
            break;
        }
    }
    // The last step reads the sibling's keys.
    assert_eq!(sizes, [500, 1_000, 1_500, 1_600]);
    let live = "SELECT count(*) FROM api_keys WHERE revoked_at IS NULL";
    assert_eq!(number(&mut tool, live).await, 330);
    assert_eq!(cursor(&store).await, since, "marking takes no epoch");
    assert!(!store.mark_revoked_keys().await.unwrap());
}

#[tokio::test]
async fn a_purge_passes_over_the_keys_that_stay() {
    let place = place!();
    let store = place.started().await;
    let mut tool = place.tool().await;
    add(
        &mut tool,
        1,
        1_200,
        "NULL",
        "CASE WHEN i % 3 = 0 THEN i END",
    )
    .await;
    // A key that cannot be removed: it is met once.
    run(
        &mut tool,
        "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
            IF OLD.expires_at = 3 THEN RETURN NULL; END IF; RETURN OLD; END $$; \
         CREATE TRIGGER keep BEFORE DELETE ON api_keys FOR EACH ROW EXECUTE FUNCTION keep()",
    )
    .await
    .unwrap();
    let mut after = None;
    let mut sizes = Vec::new();
    loop {
        let step = store
            .purge(at(1_000), after.as_ref(), &ChangeOrigin::new())
            .await
            .unwrap();
        sizes.push(step.keys.len());
        after = step.next;
        if after.is_none() {
            break;
        }
    }
    // 500, 500 and 200 keys were read.
    assert_eq!(sizes, [165, 167, 0]);
    assert_eq!(
        number(&mut tool, "SELECT count(*) FROM api_keys").await,
        868
    );
}

/// The log is read page by page, in order, up to its head.
#[tokio::test]
async fn a_long_log_is_read_page_by_page() {
    let place = place!();
    let store = place.started().await;
    let since = cursor(&store).await;
    let mut tool = place.tool().await;
    add(&mut tool, 1, 2_500, "NULL", "NULL").await;
    let (mut at, mut seen) = (since.clone(), Vec::new());
    let mut sizes = Vec::new();
    loop {
        let page = store.changes(Some(&at), None).await.unwrap();
        assert_eq!(page.head, since.epoch + 2_500);
        let keys = crate::keys_in(page.set);
        assert_eq!(page.cursor.epoch, at.epoch + keys.len() as u64);
        sizes.push(keys.len());
        seen.extend(keys);
        at = page.cursor;
        if at.epoch == page.head {
            break;
        }
    }
    assert_eq!(sizes, [1_000, 1_000, 500]);
    let ids = seen.iter().map(|id| id.as_str().parse::<u32>().unwrap());
    assert!(ids.eq(1..=2_500), "in the order of changing");
}

#[tokio::test]
async fn an_entry_of_an_unknown_kind_is_a_resync() {
    let place = place!();
    let store = place.started().await;
    let mut tool = place.tool().await;
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    for spoilt in [
        "kind = 'owner'",
        "kind = 'owner', owner = 'of no key'",
        "kind = 'plan', owner = 'of no key'",
        "kind = 'all'",
        "key_id = 'no id'",
        "key_id = ''",
    ] {
        let since = cursor(&store).await;
        store
            .update(&id(1), &KeyPatch::new(), &WriteOptions::new())
            .await
            .unwrap();
        assert_eq!(changed(&store, &since).await, [id(1)]);
        let spoil = format!(
            "UPDATE api_key_changes SET {spoilt} WHERE epoch = (SELECT max(epoch) FROM api_key_changes)"
        );
        run(&mut tool, &spoil).await.unwrap();
        assert_eq!(history(&store, &since).await, ChangeSet::Resync, "{spoilt}");
        let newest = store.changes(Some(&since), None).await.unwrap().cursor;
        assert_eq!(newest.epoch, since.epoch + 1);
        assert_eq!(changed(&store, &newest).await, []);
    }
    let required = async || store.changes(None, None).await.unwrap().required_protocol;
    assert_eq!(required().await, 2);
    for (set, read) in [("3", 3), ("-1", u32::MAX)] {
        let set = format!("UPDATE api_key_meta SET required_protocol = {set}");
        run(&mut tool, &set).await.unwrap();
        assert_eq!(required().await, read);
    }
}

/// Acknowledges as a node does with each heartbeat, until the log has this number of entries.
pub(super) async fn until_trimmed(
    store: &PostgresStore,
    tool: &mut PgConnection,
    node: &NodeId,
    entries: i64,
) {
    let trimmed = within(apikey_test_support::PATIENCE, async || {
        let newest = cursor(store).await;
        store.acknowledge(node, &newest).await.unwrap();
        number(tool, "SELECT count(*) FROM api_key_changes").await == entries
    });
    let trimmed = trimmed.await;
    let left = number(tool, "SELECT count(*) FROM api_key_changes").await;
    assert!(trimmed.is_some(), "{left} entries are left, not {entries}");
}

#[tokio::test]
async fn the_log_is_trimmed_to_what_all_nodes_have_acknowledged() {
    let place = place!();
    let store = place.started().await;
    let mut tool = place.tool().await;
    let [quick, slow] = [1, 2].map(NodeId::from_u128);
    store.join(&quick).await.unwrap();
    store.join(&slow).await.unwrap();
    add(&mut tool, 1, 100, "NULL", "NULL").await;
    let behind = cursor(&store).await;
    store.acknowledge(&slow, &behind).await.unwrap();
    add(&mut tool, 101, 2_700, "NULL", "NULL").await;
    until_trimmed(&store, &mut tool, &quick, 2_601).await;
    let kept = "SELECT min(epoch) FROM api_key_changes";
    assert_eq!(number(&mut tool, kept).await, behind.epoch as i64);
    assert_eq!(
        changed(&store, &behind).await.len(),
        1_000,
        "the slow node goes on"
    );
    let roster = store.members().await.unwrap();
    let slow_one = roster.nodes.iter().find(|node| node.id == slow).unwrap();
    assert_eq!(slow_one.acknowledged, behind.epoch, "its row stays");

    store.leave(&slow).await.unwrap();
    until_trimmed(&store, &mut tool, &quick, 1).await;
    assert_eq!(history(&store, &behind).await, ChangeSet::Resync);
    let newest = cursor(&store).await;
    store
        .insert(&owned(1_u128 << 100, "a"), &WriteOptions::new())
        .await
        .unwrap();
    assert_eq!(changed(&store, &newest).await.len(), 1);
}

/// A trim does not wait long for a lock, and the next one removes what it left.
#[tokio::test]
async fn a_trim_does_not_wait_for_a_lock_and_passes_over_no_entry() {
    let place = place!();
    let store = place.started().await;
    let (mut tool, mut holder) = (place.tool().await, place.tool().await);
    let node = NodeId::from_u128(1);
    store.join(&node).await.unwrap();
    for (from, lock) in [
        (1, "api_key_changes WHERE epoch = 5"),
        (101, "api_key_meta"),
    ] {
        add(&mut tool, from, from + 20, "NULL", "NULL").await;
        let hold = format!("BEGIN; SELECT FROM {lock} FOR UPDATE");
        run(&mut holder, &hold).await.unwrap();
        let newest = cursor(&store).await;
        for _ in 0..3 {
            let sent = timeout(SLACK, store.acknowledge(&node, &newest)).await;
            sent.unwrap().unwrap();
            // A trim is due again.
            sleep(Duration::from_millis(250)).await;
        }
        run(&mut holder, "COMMIT").await.unwrap();
        until_trimmed(&store, &mut tool, &node, 1).await;
    }
}

/// A node that does not acknowledge does not make the log grow for ever, and neither do changes without any node.
#[tokio::test]
async fn the_log_has_a_million_entries_at_most() {
    let place = place!();
    let store = place.started().await;
    let mut tool = place.tool().await;
    const FILL: &str = "DELETE FROM api_key_changes; \
        INSERT INTO api_key_changes (epoch, key_id) SELECT i, '' FROM generate_series(1, 10) AS i; \
        INSERT INTO api_key_changes (epoch, key_id) SELECT i, '' FROM generate_series(1000000, 1000995) AS i";
    const OLD: &str = "SELECT count(*) FROM api_key_changes WHERE epoch < 1000";
    run(&mut tool, FILL).await.unwrap();
    add(&mut tool, 1, 4, "NULL", "NULL").await;
    assert_eq!(number(&mut tool, OLD).await, 10);
    add(&mut tool, 5, 5, "NULL", "NULL").await;
    assert_eq!(number(&mut tool, OLD).await, 0, "a writer removes them");

    run(&mut tool, FILL).await.unwrap();
    let [one, silent] = [1, 2].map(NodeId::from_u128);
    store.join(&silent).await.unwrap();
    store.join(&one).await.unwrap();
    until_trimmed(&store, &mut tool, &one, 998).await;
    assert_eq!(number(&mut tool, OLD).await, 0, "a heartbeat removes them");
}

#[tokio::test]
async fn a_list_with_a_filter_reads_bounded_parts_and_says_where_to_go_on() {
    let place = place!();
    let store = place.started().await;
    let mut tool = place.tool().await;
    run(
        &mut tool,
        "ALTER TABLE api_keys DISABLE TRIGGER api_keys_changed",
    )
    .await
    .unwrap();
    add(&mut tool, 1, 101_000, "NULL", "NULL").await;
    for (number, label) in [(7, "rare"), (15_000, "rare"), (100_999, "rare")] {
        let sql = format!(
            "UPDATE api_keys SET label = '{label}', owner = 'a' WHERE id = lpad('{number}', 22, '0')"
        );
        run(&mut tool, &sql).await.unwrap();
    }
    let range = ListRange::Owner("a".to_owned());
    let page = store.list(&ListQuery::of(range.clone(), 10)).await.unwrap();
    assert_eq!((page.records.len(), page.next), (3, None));
    let mut query = ListQuery::of(range, 2);
    let page = store.list(&query).await.unwrap();
    let next = query.range.cursor_of(&page.records[1]);
    assert_eq!((page.records.len(), page.next), (2, Some(next.clone())));
    query.after = Some(next);
    let page = store.list(&query).await.unwrap();
    assert_eq!((page.records.len(), page.next), (1, None));
}
