//! Owners: races of a change of all keys with a change of one, and marking.

use std::sync::Arc;
use std::time::Duration;

use apikey_runtime::audit::ChangeOrigin;
use apikey_runtime::store::{KeyPatch, OwnerState, OwnerStore, WriteOptions};
use apikey_runtime::{KeyRecord, KeyStore, PostgresStore};
use apikey_test_support::PATIENCE;
use tokio::time::{sleep, timeout};

use super::faults::{DEADLINE, is_unavailable};
use super::{Place, for_reason, mark, place, run, until_waiting};
use crate::{id, owned};

pub(super) async fn read(store: &PostgresStore, key: u128) -> KeyRecord {
    store.find(&id(key)).await.unwrap().unwrap()
}

/// Returns when and why a key was revoked.
pub(super) async fn revoked(store: &PostgresStore, key: u128) -> Option<(i64, Option<String>)> {
    let revoked = read(store, key).await.revoked;
    revoked.map(|revocation| (revocation.at.as_millis(), revocation.reason))
}

pub(super) fn because_of(millis: i64, reason: &str) -> Option<(i64, Option<String>)> {
    Some((millis, Some(reason.to_owned())))
}

pub(super) fn to_owner(owner: &str) -> KeyPatch {
    let mut patch = KeyPatch::new();
    patch.owner = Some(Some(owner.to_owned()));
    patch
}

const OPEN_INSERT: &str = "BEGIN; INSERT INTO api_keys (id, prefix, label, owner, digest, scopes, metadata, created_at, \
    enabled, version) VALUES ('0000000000000000000002', 'p', 'l', 'a', 'd', '', '{}', 0, TRUE, 1)";
const OPEN_REVOCATION: &str = "BEGIN; \
    UPDATE api_key_owners SET revocations = revocations + 1 WHERE owner = 'a'; \
    UPDATE api_key_owner_revocations SET at = 7000, reason = 'by hand'";

/// Two transactions of a new key and a revocation of all, of which the first one waits with its commit. Returns whether
/// the second one waited, and how the new key reads after both.
async fn race(
    insert_first: bool,
    spoil: Option<&str>,
) -> Option<(bool, Option<(i64, Option<String>)>)> {
    let server = super::server()?;
    let place = Place::on(server).await;
    let store = Arc::new(place.started().await);
    store
        .insert(&owned(1, "a"), &WriteOptions::new())
        .await
        .unwrap();
    let mut tool = place.tool().await;
    if let Some(spoil) = spoil {
        run(&mut tool, spoil).await.unwrap();
    }
    let first = if insert_first {
        OPEN_INSERT
    } else {
        OPEN_REVOCATION
    };
    run(&mut tool, first).await.unwrap();
    let second = tokio::spawn({
        let store = Arc::clone(&store);
        async move {
            if insert_first {
                let lost = for_reason(3_000, "lost");
                store
                    .revoke_owner_keys("a", &lost, &ChangeOrigin::new())
                    .await
                    .unwrap();
                mark(&store).await;
            } else {
                store
                    .insert(&owned(2, "a"), &WriteOptions::new())
                    .await
                    .unwrap();
            }
        }
    });
    let waits = match spoil {
        None => {
            until_waiting(&place, &mut tool, 1).await;
            true
        }
        Some(_) => {
            while !second.is_finished() {
                sleep(Duration::from_millis(5)).await;
            }
            false
        }
    };
    run(&mut tool, "COMMIT").await.unwrap();
    second.await.unwrap();
    Some((waits, revoked(&store, 2).await))
}

#[tokio::test]
async fn a_key_that_is_inserted_before_a_revocation_of_all_is_revoked_by_it() {
    let Some(outcome) = race(true, None).await else {
        return;
    };
    assert_eq!(outcome, (true, because_of(3_000, "lost")));
}

#[tokio::test]
async fn a_key_that_is_inserted_after_a_revocation_of_all_is_live() {
    let Some(outcome) = race(false, None).await else {
        return;
    };
    assert_eq!(outcome, (true, None));
}

/// The function that admits a key, without its lock; and an insert without its turn, which the revocation would wait for.
const WITHOUT_LOCK: &str = "CREATE OR REPLACE FUNCTION api_key_admit(name text) RETURNS bigint LANGUAGE plpgsql AS $$ \
        BEGIN RETURN coalesce((SELECT revocations FROM api_key_owners WHERE owner = name), 0); END $$; \
    CREATE OR REPLACE FUNCTION api_key_owner_turn(name text) RETURNS bigint LANGUAGE sql VOLATILE AS $$ \
        SELECT (random() * 1000000000)::bigint $$";

/// Negative control.
#[tokio::test]
async fn without_the_lock_a_new_key_is_dead_for_no_reason_or_from_its_birth() {
    let Some(before) = race(true, Some(WITHOUT_LOCK)).await else {
        return;
    };
    assert_eq!(before, (false, Some((0, None))), "marking has missed it");
    let after = race(false, Some(WITHOUT_LOCK)).await.unwrap();
    assert_eq!(after, (false, because_of(7_000, "by hand")));
}

/// Inserts do not wait for one another, and those that come after a change of the owner wait for it: otherwise it would
/// wait for as long as others come.
#[tokio::test]
async fn open_inserts_share_the_owner_and_do_not_hold_a_change_of_it_off() {
    let place = place!();
    let store = Arc::new(place.started().await);
    let (mut tool, mut other) = (place.tool().await, place.tool().await);
    let insert = |key: u128| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.insert(&owned(key, "a"), &WriteOptions::new()).await })
    };
    for round in 0..2 {
        let key = 10 * (round + 1);
        insert(key).await.unwrap().unwrap();
        run(&mut tool, OPEN_INSERT).await.unwrap();
        insert(key + 1).await.unwrap().unwrap();
        let revoking = tokio::spawn({
            let store = Arc::clone(&store);
            async move {
                store
                    .revoke_owner_keys("a", &for_reason(3_000, "lost"), &ChangeOrigin::new())
                    .await
            }
        });
        until_waiting(&place, &mut tool, 1).await;
        let late = insert(key + 2);
        match round {
            0 => until_waiting(&place, &mut tool, 2).await,
            // Negative control: without turns it passes.
            _ => {
                let passed = timeout(PATIENCE, late).await.unwrap();
                passed.unwrap().unwrap();
                run(&mut tool, "ROLLBACK").await.unwrap();
                revoking.await.unwrap().unwrap();
                return;
            }
        }
        run(&mut tool, "ROLLBACK").await.unwrap();
        assert_eq!(revoking.await.unwrap().unwrap().revocations, 1);
        late.await.unwrap().unwrap();
        assert_eq!(revoked(&store, key + 1).await, because_of(3_000, "lost"));
        assert_eq!(revoked(&store, key + 2).await, None);
        let no_turns = "CREATE OR REPLACE FUNCTION api_key_owner_turn(name text) RETURNS bigint LANGUAGE sql VOLATILE \
            AS $$ SELECT (random() * 1000000000)::bigint $$";
        run(&mut other, no_turns).await.unwrap();
    }
}

/// A transaction that stays open makes a change of its owner fail at the deadline, and of no other.
#[tokio::test]
async fn a_change_that_waits_for_an_open_insert_ends_at_the_deadline() {
    let place = place!();
    let store = place.store().timeout(DEADLINE).max_connections(1);
    store.start().await.unwrap();
    store
        .insert(&owned(1, "a"), &WriteOptions::new())
        .await
        .unwrap();
    store
        .insert(&owned(3, "b"), &WriteOptions::new())
        .await
        .unwrap();
    let mut tool = place.tool().await;
    run(&mut tool, OPEN_INSERT).await.unwrap();
    let lost = for_reason(3_000, "lost");
    for _ in 0..2 {
        let revoking = timeout(
            PATIENCE,
            store.revoke_owner_keys("a", &lost, &ChangeOrigin::new()),
        )
        .await;
        let revoking = revoking.unwrap();
        assert!(is_unavailable(&revoking), "{revoking:?}");
        let suspending = store
            .set_owner_suspended("a", true, &ChangeOrigin::new())
            .await;
        assert!(is_unavailable(&suspending), "{suspending:?}");
        let state = OwnerState::new();
        assert_eq!(store.find_owner("a").await.unwrap(), Some(state));
    }
    store
        .revoke_owner_keys("b", &lost, &ChangeOrigin::new())
        .await
        .unwrap();
    run(&mut tool, "COMMIT").await.unwrap();
    store
        .revoke_owner_keys("a", &lost, &ChangeOrigin::new())
        .await
        .unwrap();
    assert_eq!(revoked(&store, 2).await, because_of(3_000, "lost"));
}

/// A key that is older than its owner's revocation is revoked by the change of its owner, and stays; other keys take the
/// number of their new owner.
#[tokio::test]
async fn a_change_of_owner_and_a_revocation_of_all_exclude_each_other() {
    let place = place!();
    let store = Arc::new(place.started().await);
    let mut tool = place.tool().await;
    for (key, owner) in [(1, "a"), (3, "b"), (4, "a"), (5, "c")] {
        store
            .insert(&owned(key, owner), &WriteOptions::new())
            .await
            .unwrap();
    }
    let update = |key: u128, owner: &'static str| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            store
                .update(&id(key), &to_owner(owner), &WriteOptions::new())
                .await
        })
    };
    // The revocation comes first: from its owner, and to it.
    run(&mut tool, OPEN_REVOCATION).await.unwrap();
    let (leaving, coming) = (update(1, "b"), update(3, "a"));
    until_waiting(&place, &mut tool, 2).await;
    run(&mut tool, "COMMIT").await.unwrap();
    leaving.await.unwrap().unwrap();
    coming.await.unwrap().unwrap();
    let left = read(&store, 1).await;
    assert_eq!(left.owner.as_deref(), Some("a"));
    assert_eq!(revoked(&store, 1).await, because_of(7_000, "by hand"));
    assert_eq!((left.version, left.owner_revocations), (2, 0));
    let came = read(&store, 3).await;
    assert_eq!((came.revoked, came.owner_revocations), (None, 1));

    // The change of owner comes first: from the owner, and to it.
    for (key, revoked_owner, expected) in [(3, "a", None), (5, "b", because_of(3_000, "lost"))] {
        let moved = format!("BEGIN; UPDATE api_keys SET owner = 'b' WHERE id LIKE '%{key}'");
        run(&mut tool, &moved).await.unwrap();
        let revoking = tokio::spawn({
            let store = Arc::clone(&store);
            let lost = for_reason(3_000, "lost");
            async move {
                store
                    .revoke_owner_keys(revoked_owner, &lost, &ChangeOrigin::new())
                    .await
            }
        });
        until_waiting(&place, &mut tool, 1).await;
        run(&mut tool, "COMMIT").await.unwrap();
        revoking.await.unwrap().unwrap();
        assert_eq!(revoked(&store, key).await, expected);
    }
    // It is marked already, and stays too.
    store
        .update(&id(1), &to_owner("c"), &WriteOptions::new())
        .await
        .unwrap();
    let stayed = read(&store, 1).await;
    assert_eq!(stayed.owner.as_deref(), Some("a"));
    assert_eq!(revoked(&store, 1).await, because_of(7_000, "by hand"));
    assert_eq!(store.find_owner("d").await.unwrap(), None);
    store
        .update(&id(4), &to_owner("d"), &WriteOptions::new())
        .await
        .unwrap();
    assert_eq!(
        store.find_owner("d").await.unwrap(),
        None,
        "it stays with its owner"
    );
}

/// A key of `b` comes to `a`, while a transaction changes `a` and then `b`. Returns whether it can, or waits.
async fn changes_both(spoil: bool) -> Option<bool> {
    let server = super::server()?;
    let place = Place::on(server).await;
    let store = Arc::new(place.started().await);
    let mut tool = place.tool().await;
    store
        .insert(&owned(1, "a"), &WriteOptions::new())
        .await
        .unwrap();
    store
        .insert(&owned(2, "b"), &WriteOptions::new())
        .await
        .unwrap();
    if spoil {
        let source = "SELECT replace(pg_get_functiondef('api_keys_check_update'::regproc), \
            'ORDER BY known.owner FOR SHARE', 'ORDER BY known.owner DESC FOR SHARE')";
        let source: String = sqlx::query_scalar(source)
            .fetch_one(&mut tool)
            .await
            .unwrap();
        assert!(source.contains("DESC FOR SHARE"));
        run(&mut tool, &source).await.unwrap();
    }
    let suspend =
        |owner: &str| format!("UPDATE api_key_owners SET suspended = TRUE WHERE owner = '{owner}'");
    run(&mut tool, &format!("BEGIN; {}", suspend("a")))
        .await
        .unwrap();
    let moving = tokio::spawn({
        let store = Arc::clone(&store);
        async move {
            store
                .update(&id(2), &to_owner("a"), &WriteOptions::new())
                .await
        }
    });
    until_waiting(&place, &mut tool, 1).await;
    run(&mut tool, "SET lock_timeout = '50ms'").await.unwrap();
    let both = run(&mut tool, &suspend("b")).await;
    run(&mut tool, "COMMIT").await.unwrap();
    moving.await.unwrap().unwrap();
    Some(both.is_ok())
}

#[tokio::test]
async fn owners_are_locked_in_the_order_of_their_names() {
    let Some(can) = changes_both(false).await else {
        return;
    };
    assert!(can);
    // Negative control.
    assert_eq!(changes_both(true).await, Some(false));
}
