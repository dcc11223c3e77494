//! The order of locks that `migrations/0103_owners.sql` and `0104_audit.sql` state, and rows of revocations that came before
//! their owners' changes.

use std::sync::Arc;

use apikey_runtime::KeyStore;
use apikey_runtime::audit::ChangeOrigin;
use apikey_runtime::store::{OwnerStore, WriteOptions};
use apikey_test_support::PATIENCE;
use tokio::time::timeout;

use super::owners::{because_of, revoked, to_owner};
use super::{for_reason, mark, number, place, run, until_waiting};
use crate::{id, owned};

/// Locks each row of these tables by hand, which fails if a call holds one.
const ALL_KEYS: &str = "BEGIN; SELECT FROM api_keys FOR UPDATE NOWAIT; ROLLBACK";
const ALL_OWNERS: &str = "BEGIN; SELECT FROM api_key_owners FOR UPDATE NOWAIT; ROLLBACK";

/// A call that waits for a turn holds no lock yet, whether it counts live keys or not.
#[tokio::test]
async fn a_call_takes_the_turn_before_any_other_lock() {
    let place = place!();
    let store = Arc::new(place.started().await);
    let (mut holder, mut tool) = (place.tool().await, place.tool().await);
    for (key, owner) in [(1, "a"), (2, "b")] {
        let added = owned(key, owner);
        store.insert(&added, &WriteOptions::new()).await.unwrap();
    }
    for step in 0..5_u8 {
        run(
            &mut holder,
            "BEGIN; SELECT pg_advisory_xact_lock(api_key_owner_turn('a'))",
        )
        .await
        .unwrap();
        let call = tokio::spawn({
            let store = Arc::clone(&store);
            async move {
                let counted = WriteOptions::new().with_max_live_keys(Some(100));
                let (origin, lost) = (ChangeOrigin::new(), for_reason(3_000, "lost"));
                match step {
                    0 => store.insert(&owned(3, "a"), &WriteOptions::new()).await,
                    1 => store.insert(&owned(4, "a"), &counted).await,
                    2 => store.update(&id(2), &to_owner("a"), &counted).await,
                    3 => store
                        .set_owner_suspended("a", true, &origin)
                        .await
                        .map(drop),
                    _ => store.revoke_owner_keys("a", &lost, &origin).await.map(drop),
                }
            }
        });
        until_waiting(&place, &mut holder, 1).await;
        for locked in [ALL_KEYS, ALL_OWNERS] {
            let outcome = run(&mut tool, locked).await;
            assert!(outcome.is_ok(), "{step}: {outcome:?}");
        }
        run(&mut holder, "COMMIT").await.unwrap();
        call.await.unwrap().unwrap();
    }
    // Negative control: what a write holds is noticed.
    run(&mut holder, "BEGIN; UPDATE api_keys SET label = 'x'")
        .await
        .unwrap();
    assert!(run(&mut tool, ALL_KEYS).await.is_err());
}

/// A change of an owner locks no key, and marking locks neither the owner nor its turn.
#[tokio::test]
async fn a_change_of_an_owner_and_marking_pass_what_they_do_not_lock() {
    let place = place!();
    let store = place.started().await;
    let mut holder = place.tool().await;
    store
        .insert(&owned(1, "a"), &WriteOptions::new())
        .await
        .unwrap();
    let origin = ChangeOrigin::new();
    run(&mut holder, "BEGIN; SELECT FROM api_keys FOR UPDATE")
        .await
        .unwrap();
    let passing = async {
        store.set_owner_suspended("a", true, &origin).await.unwrap();
        let lost = for_reason(3_000, "lost");
        store.revoke_owner_keys("a", &lost, &origin).await.unwrap();
    };
    timeout(PATIENCE, passing).await.unwrap();
    run(&mut holder, "COMMIT").await.unwrap();
    let hold = "BEGIN; SELECT pg_advisory_xact_lock(api_key_owner_turn('a')); \
        SELECT FROM api_key_owners FOR UPDATE; SELECT FROM api_key_meta FOR UPDATE";
    run(&mut holder, hold).await.unwrap();
    timeout(PATIENCE, mark(&store)).await.unwrap();
    let marked = "SELECT count(*) FROM api_keys WHERE revoked_at = 3000";
    assert_eq!(number(&mut holder, marked).await, 1);
}

/// Such a row was written by hand: its number is higher than its owner's.
#[tokio::test]
async fn a_revocation_that_is_ahead_of_its_owner_revokes_nothing() {
    const AHEAD: &str = "INSERT INTO api_key_owner_revocations (owner, number, at, reason, marked_to) \
        VALUES ('a', 1, 5, 'ahead', '')";
    let place = place!();
    let store = place.started().await;
    let mut tool = place.tool().await;
    store
        .insert(&owned(1, "a"), &WriteOptions::new())
        .await
        .unwrap();
    run(&mut tool, AHEAD).await.unwrap();
    mark(&store).await;
    assert_eq!(revoked(&store, 1).await, None);
    let marked = "SELECT count(*) FROM api_keys WHERE revoked_at IS NOT NULL";
    assert_eq!(number(&mut tool, marked).await, 0);
    // Negative control.
    let without = "DO $$ BEGIN EXECUTE replace(pg_get_functiondef('api_key_mark_revoked(bigint)'::regprocedure), \
        'AND known.owner = walk.owner AND revocation.number <= known.revocations', 'AND known.owner = walk.owner'); END $$";
    run(&mut tool, without).await.unwrap();
    run(&mut tool, AHEAD).await.unwrap();
    mark(&store).await;
    assert_eq!(number(&mut tool, marked).await, 1);
}

/// The revocation that comes takes the place of such a row, whose walk seems to be over already.
#[tokio::test]
async fn a_revocation_takes_the_place_of_a_row_that_is_ahead() {
    let place = place!();
    let store = place.started().await;
    let mut tool = place.tool().await;
    store
        .insert(&owned(1, "a"), &WriteOptions::new())
        .await
        .unwrap();
    let ahead = "INSERT INTO api_key_owner_revocations (owner, number, at, reason, actor, marked_to) \
        VALUES ('a', 1, 5, 'ahead', 'someone', '7n42DGM5Tflk9n8mt7Fhc7')";
    run(&mut tool, ahead).await.unwrap();
    let lost = for_reason(3_000, "lost");
    store
        .revoke_owner_keys("a", &lost, &ChangeOrigin::new())
        .await
        .unwrap();
    assert_eq!(revoked(&store, 1).await, because_of(3_000, "lost"));
    let kept =
        "SELECT count(*) FROM api_key_owner_revocations WHERE actor IS NULL AND marked_to = ''";
    assert_eq!(number(&mut tool, kept).await, 1);
    mark(&store).await;
    let marked = "SELECT count(*) FROM api_keys WHERE revoked_at = 3000";
    assert_eq!(number(&mut tool, marked).await, 1);
}
