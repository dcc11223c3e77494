//! What an operator does with owners.

use apikey_runtime::audit::ChangeOrigin;
use apikey_runtime::store::{ChangedItem, OwnerState, OwnerStore, Revocation, WriteOptions};
use apikey_runtime::{KeyStore, Timestamp};

use super::{changed, cursor, found, give, leaving, logged, mark_all, state, stocked};
use crate::{id, number, owned, record, run};

/// Inserts a key by hand, with the default number and with one that is written.
pub(super) const INSERTS: [&str; 4] = [
    "INSERT INTO api_keys (id, prefix, label, owner, digest, scopes, metadata, created_at, enabled, version) \
     VALUES ('0000000000000000000007', 'p', 'l', 'a', 'd', '', '{}', 0, 1, 1)",
    "INSERT INTO api_keys (id, prefix, label, owner, digest, scopes, metadata, created_at, enabled, version, owner_revocations) \
     VALUES ('0000000000000000000007', 'p', 'l', 'a', 'd', '', '{}', 0, 1, 1, 99)",
    "INSERT OR REPLACE INTO api_keys (id, prefix, label, owner, digest, scopes, metadata, created_at, enabled, version, owner_revocations) \
     VALUES ('0000000000000000000007', 'p', 'l', 'a', 'd', '', '{}', 0, 1, 1, -1)",
    "INSERT OR IGNORE INTO api_keys (id, prefix, label, owner, digest, scopes, metadata, created_at, enabled, version) \
     VALUES ('0000000000000000000007', 'p', 'l', 'a', 'd', '', '{}', 0, 1, 1)",
];

#[tokio::test]
async fn an_insert_by_hand_takes_the_number_of_its_owner_whatever_it_writes() {
    let (_place, store, mut tool) = stocked().await;
    for recursive in [
        "PRAGMA recursive_triggers = OFF",
        "PRAGMA recursive_triggers = ON",
    ] {
        run(&mut tool, recursive).await.unwrap();
        for insert in INSERTS {
            store
                .revoke_owner_keys("a", &leaving(5_000, "left"), &ChangeOrigin::new())
                .await
                .unwrap();
            let since = cursor(&store).await;
            let present = state(&store, "a").await;
            run(&mut tool, insert).await.unwrap();
            let key = found(&store, 7).await;
            assert_eq!(key.owner_revocations, present.revocations, "{insert}");
            assert_eq!((key.owner_state, key.revoked), (Some(present), None));
            assert_eq!((key.version, state(&store, "a").await), (1, present));
            assert_eq!(logged(&store, &since).await, [ChangedItem::Key(id(7))]);
            // Of a live key, a REPLACE is an insert too.
            let again = "INSERT OR REPLACE INTO api_keys SELECT * FROM api_keys WHERE id LIKE '%7'";
            run(&mut tool, again).await.unwrap();
            assert_eq!(
                found(&store, 7).await.owner_revocations,
                present.revocations
            );
            assert_eq!(state(&store, "a").await, present);
            run(&mut tool, "DELETE FROM api_keys WHERE id LIKE '%7'")
                .await
                .unwrap();
        }
    }
    assert_eq!(
        number(&mut tool, "SELECT count(*) FROM api_key_numbering").await,
        0
    );
}

/// A statement changes all keys, of which one is revoked by its owner.
#[tokio::test]
async fn a_change_of_owner_by_hand_follows_the_rule() {
    let (_place, store, mut tool) = stocked().await;
    store
        .revoke_owner_keys("a", &leaving(5_000, "left"), &ChangeOrigin::new())
        .await
        .unwrap();
    for _ in 0..2 {
        store
            .revoke_owner_keys("b", &leaving(6_000, "also"), &ChangeOrigin::new())
            .await
            .unwrap();
    }
    for (number, owner) in [(4, "a"), (5, "b")] {
        store
            .insert(&owned(number, owner), &WriteOptions::new())
            .await
            .unwrap();
    }
    store
        .insert(&record(6), &WriteOptions::new())
        .await
        .unwrap();
    let owners = [state(&store, "a").await, state(&store, "b").await];
    let since = cursor(&store).await;
    run(
        &mut tool,
        "UPDATE api_keys SET owner = 'b', label = 'moved'",
    )
    .await
    .unwrap();
    let ids = (1..=6).map(|number| ChangedItem::Key(id(number)));
    let mut items = logged(&store, &since).await;
    items.sort_unstable_by_key(|item| item.clone().key());
    assert!(items.into_iter().eq(ids), "one epoch for each");
    let left = |at_millis, reason: &str| Some(leaving(at_millis, reason).of_key());
    for (number, owner, owner_revocations, revoked) in [
        (1, "a", 0, left(5_000, "left")),
        (2, "a", 0, left(5_000, "left")),
        (3, "b", 0, left(6_000, "also")),
        (4, "b", 2, None),
        (5, "b", 2, None),
        (6, "b", 2, None),
    ] {
        let key = found(&store, number).await;
        assert_eq!(key.owner.as_deref(), Some(owner), "{number}");
        assert_eq!(
            (key.owner_revocations, &key.revoked),
            (owner_revocations, &revoked),
            "{number}"
        );
        assert_eq!((key.label.as_str(), key.version), ("moved", 2), "{number}");
    }
    assert_eq!([state(&store, "a").await, state(&store, "b").await], owners);
    // The time is in the row itself, and stays when the revocations are marked.
    let of_row =
        "SELECT count(*) FROM api_keys WHERE revoked_at = 5000 AND revoked_reason = 'left'";
    assert_eq!(number(&mut tool, of_row).await, 2);

    // To a new owner, and to none.
    run(
        &mut tool,
        "UPDATE api_keys SET owner = 'new', owner_revocations = 7 WHERE id LIKE '%4'",
    )
    .await
    .unwrap();
    assert_eq!(found(&store, 4).await.owner_state, Some(OwnerState::new()));
    run(
        &mut tool,
        "UPDATE api_keys SET owner = NULL WHERE id LIKE '%5'",
    )
    .await
    .unwrap();
    let key = found(&store, 5).await;
    assert_eq!(
        (key.owner_revocations, key.owner_state, key.revoked),
        (0, None, None)
    );
    // A key that stays does not create the other owner.
    run(
        &mut tool,
        "UPDATE api_keys SET owner = 'other' WHERE id LIKE '%1'",
    )
    .await
    .unwrap();
    assert_eq!(store.find_owner("other").await.unwrap(), None);
}

/// Negative control: without the trigger, a dead key comes back with another owner.
#[tokio::test]
async fn without_the_trigger_a_change_of_owner_brings_a_dead_key_back() {
    let (_place, store, mut tool) = stocked().await;
    store
        .revoke_owner_keys("a", &leaving(5_000, "left"), &ChangeOrigin::new())
        .await
        .unwrap();
    run(&mut tool, "DROP TRIGGER api_keys_updated")
        .await
        .unwrap();
    give(&store, 1, Some("b")).await;
    let key = found(&store, 1).await;
    assert_eq!((key.owner.as_deref(), key.revoked), (Some("b"), None));
}

#[tokio::test]
async fn a_revocation_and_a_suspension_by_hand_are_those_of_the_calls() {
    let (_place, store, mut tool) = stocked().await;
    let since = cursor(&store).await;
    let before = Timestamp::from_millis(now() - 1_000);
    run(
        &mut tool,
        "UPDATE api_key_owners SET revocations = revocations + 1 WHERE owner = 'a'",
    )
    .await
    .unwrap();
    let once = OwnerState::new().with_version(2).with_revocations(1);
    assert_eq!(logged(&store, &since).await, [changed("a", once)]);
    let key = found(&store, 1).await;
    assert_eq!(key.owner_state, Some(once));
    let Some(Revocation {
        at: when,
        reason: None,
    }) = key.revoked
    else {
        panic!("{key:?}");
    };
    assert!(
        when > before && when <= Timestamp::from_millis(now() + 1_000),
        "{when:?}"
    );
    assert_eq!(
        found(&store, 1).await.revoked.unwrap().at,
        when,
        "the time stays"
    );
    // The version that is written counts, if it is higher.
    run(
        &mut tool,
        "UPDATE api_key_owners SET suspended = 1, version = 40 WHERE owner = 'a'",
    )
    .await
    .unwrap();
    let suspended = once.with_version(40).with_suspended(true);
    assert_eq!(
        logged(&store, &since).await,
        [changed("a", suspended), changed("a", suspended)]
    );
    let since = cursor(&store).await;
    // What changes nothing takes no epoch.
    run(
        &mut tool,
        "UPDATE api_key_owners SET suspended = 1 WHERE owner = 'a'",
    )
    .await
    .unwrap();
    assert_eq!(
        store
            .set_owner_suspended("a", true, &ChangeOrigin::new())
            .await
            .unwrap(),
        (suspended, false)
    );
    assert_eq!(cursor(&store).await, since);
    let resumed = suspended.with_version(41).with_suspended(false);
    assert_eq!(
        store
            .set_owner_suspended("a", false, &ChangeOrigin::new())
            .await
            .unwrap(),
        (resumed, true)
    );
    assert_eq!(logged(&store, &since).await, [changed("a", resumed)]);
}

/// Each key has the first revocation after its number that has a row, and each raise by hand leaves one.
#[tokio::test]
async fn revocations_by_hand_have_a_time_in_each_order_of_statements() {
    let (_place, store, mut tool) = stocked().await;
    // Several at once: all keys up to it have the time of the last.
    store
        .insert(&owned(4, "a"), &WriteOptions::new())
        .await
        .unwrap();
    run(
        &mut tool,
        "UPDATE api_key_owners SET revocations = revocations + 1000 WHERE owner = 'a'",
    )
    .await
    .unwrap();
    assert!(found(&store, 4).await.revoked.is_some());
    mark_all(&store).await;
    let marked = "SELECT count(*) FROM api_keys WHERE owner = 'a' AND revoked_at IS NOT NULL";
    assert_eq!(number(&mut tool, marked).await, 3);

    // The reason is written before, or after.
    store
        .insert(&owned(5, "b"), &WriteOptions::new())
        .await
        .unwrap();
    run(
        &mut tool,
        "INSERT INTO api_key_owner_revocations (owner, number, at, reason) VALUES ('b', 1, 7000, 'by hand'); \
         UPDATE api_key_owners SET revocations = 1 WHERE owner = 'b'",
    )
    .await
    .unwrap();
    assert_eq!(
        found(&store, 5).await.revoked,
        Some(leaving(7_000, "by hand").of_key())
    );
    run(
        &mut tool,
        "UPDATE api_key_owner_revocations SET reason = 'better'",
    )
    .await
    .unwrap();
    assert_eq!(
        found(&store, 5).await.revoked,
        Some(leaving(7_000, "better").of_key())
    );
    // A call replaces one that was written ahead and never counted.
    run(
        &mut tool,
        "INSERT INTO api_key_owner_revocations (owner, number, at, marked_to) VALUES ('b', 2, 7000, '~')",
    )
    .await
    .unwrap();
    store
        .insert(&owned(6, "b"), &WriteOptions::new())
        .await
        .unwrap();
    store
        .revoke_owner_keys("b", &leaving(8_000, "call"), &ChangeOrigin::new())
        .await
        .unwrap();
    mark_all(&store).await;
    assert_eq!(
        found(&store, 6).await.revoked,
        Some(leaving(8_000, "call").of_key())
    );
}

fn now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap().as_millis() as i64
}
