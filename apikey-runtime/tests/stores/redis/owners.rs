//! Owners: one script for all keys of an owner, and records that carry its state.

use std::sync::Arc;

use apikey_runtime::audit::ChangeOrigin;
use apikey_runtime::store::{
    ChangeSet, ChangedItem, KeyPatch, ListQuery, ListRange, OwnerRevocation, OwnerState,
    OwnerStore, StoreError, WriteOptions,
};
use apikey_runtime::{KeyId, KeyRecord, KeyStore, RedisStore};

use super::{ask, changed, cursor, redis_server, started};
use crate::{InSteps, at, because, id, owned, record};

pub(super) const OWNERS: &str = "{apikey}:owners";
pub(super) const REVOCATIONS: &str = "{apikey}:owner_revocations";
pub(super) const QUEUE: &str = "{apikey}:unmarked_owners";

pub(super) fn left(millis: i64, reason: &str) -> OwnerRevocation {
    OwnerRevocation::new(at(millis))
        .with_reason(Some(reason.to_owned()))
        .with_actor(Some("7 8 admin".to_owned()))
}

pub(super) async fn found(store: &RedisStore, number: u128) -> KeyRecord {
    store.find(&id(number)).await.unwrap().unwrap()
}

/// Returns the id of a record that [`add`](super::bulk::add) has added.
pub(super) fn added(number: u128) -> KeyId {
    format!("{number:022}").parse().unwrap()
}

/// Returns when and why the key was revoked.
pub(super) async fn revoked(store: &RedisStore, id: KeyId) -> Option<(i64, Option<String>)> {
    let revoked = store.find(&id).await.unwrap().unwrap().revoked;
    revoked.map(|revocation| (revocation.at.as_millis(), revocation.reason))
}

pub(super) fn because_of(millis: i64, reason: &str) -> Option<(i64, Option<String>)> {
    Some((millis, Some(reason.to_owned())))
}

pub(super) async fn mark_all(store: &RedisStore) {
    while store.mark_revoked_keys().await.unwrap() {}
}

pub(super) async fn change_owner(store: &RedisStore, number: u128, owner: Option<&str>) {
    let mut patch = KeyPatch::new();
    patch.owner = Some(owner.map(str::to_owned));
    store
        .update(&id(number), &patch, &WriteOptions::new())
        .await
        .unwrap();
}

#[tokio::test]
async fn an_owner_is_revoked_by_one_epoch_and_reads_so_before_it_is_marked() {
    let server = redis_server!();
    let store = started(&server).await;
    store
        .insert(&owned(1, "acme"), &WriteOptions::new())
        .await
        .unwrap();
    store
        .insert(&owned(2, "other"), &WriteOptions::new())
        .await
        .unwrap();
    let since = cursor(&store).await;
    let state = store
        .revoke_owner_keys("acme", &left(3_000, "first"), &ChangeOrigin::new())
        .await;
    let state = state.unwrap();
    assert_eq!(state, OwnerState::new().with_version(2).with_revocations(1));
    store
        .insert(&owned(3, "acme"), &WriteOptions::new())
        .await
        .unwrap();
    store
        .revoke_owner_keys("acme", &left(4_000, "second"), &ChangeOrigin::new())
        .await
        .unwrap();
    store
        .insert(&owned(4, "acme"), &WriteOptions::new())
        .await
        .unwrap();
    let owner = |state| ChangedItem::Owner {
        owner: "acme".to_owned(),
        state,
    };
    let now = store.find_owner("acme").await.unwrap().unwrap();
    assert_eq!(now, OwnerState::new().with_version(3).with_revocations(2));
    let log = ChangeSet::Entries(vec![
        owner(now),
        ChangedItem::Key(id(3)),
        owner(now),
        ChangedItem::Key(id(4)),
    ]);
    assert_eq!(
        ask(&store, Some(&since)).await.set,
        log,
        "the present state"
    );
    for marked in [false, true] {
        if marked {
            let before = cursor(&store).await;
            mark_all(&store).await;
            assert_eq!(cursor(&store).await, before);
        }
        assert_eq!(revoked(&store, id(1)).await, because_of(3_000, "first"));
        assert_eq!(revoked(&store, id(3)).await, because_of(4_000, "second"));
        assert_eq!(revoked(&store, id(2)).await, None);
        assert_eq!(revoked(&store, id(4)).await, None);
        let numbers = async |number| found(&store, number).await.owner_revocations;
        assert_eq!((numbers(1).await, numbers(3).await), (0, 1));
        assert_eq!((numbers(2).await, numbers(4).await), (0, 2));
        let record = found(&store, 1).await;
        assert_eq!((record.version, record.owner_state), (1, Some(now)));
        let listed = store.list(&ListQuery::first(9)).await.unwrap().records;
        for record in listed {
            assert_eq!(
                Some(&record),
                store.find(&record.id).await.unwrap().as_ref()
            );
        }
        // Not revoked a second time, and not with another reason.
        assert!(
            !store
                .revoke(&id(1), &because("again"), &WriteOptions::new())
                .await
                .unwrap()
        );
    }
    assert_eq!(server.command(&["HLEN", REVOCATIONS]).text(), "0");
    let unknown = store
        .revoke_owner_keys("unknown", &left(1, ""), &ChangeOrigin::new())
        .await;
    assert!(matches!(unknown, Err(StoreError::NotFound)));
    let unknown = store
        .set_owner_suspended("unknown", true, &ChangeOrigin::new())
        .await;
    assert!(matches!(unknown, Err(StoreError::NotFound)));
    assert_eq!(store.find_owner("unknown").await.unwrap(), None);
}

#[tokio::test]
async fn an_owner_is_suspended_once() {
    let server = redis_server!();
    let store = started(&server).await;
    store
        .insert(&owned(1, "acme"), &WriteOptions::new())
        .await
        .unwrap();
    let suspended = OwnerState::new().with_version(2).with_suspended(true);
    let call = async |suspended| {
        store
            .set_owner_suspended("acme", suspended, &ChangeOrigin::new())
            .await
            .unwrap()
    };
    assert_eq!(call(true).await, (suspended, true));
    let since = cursor(&store).await;
    assert_eq!(call(true).await, (suspended, false));
    assert_eq!(changed(&store, &since).await, []);
    assert_eq!(cursor(&store).await, since);
    assert_eq!(found(&store, 1).await.owner_state, Some(suspended));
    assert_eq!(call(false).await, (OwnerState::new().with_version(3), true));
}

/// The record and its owner's state are of one moment, and so is what a key that is inserted gets.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn keys_that_race_with_revocations_are_older_or_newer() {
    const ROUNDS: u64 = 100;
    let server = redis_server!();
    let store = Arc::new(started(&server).await);
    store
        .insert(&owned(1, "a"), &WriteOptions::new())
        .await
        .unwrap();
    store
        .insert(&owned(2, "b"), &WriteOptions::new())
        .await
        .unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..4_u64 {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            for round in 0..ROUNDS {
                let number = u128::from(100 + task * ROUNDS + round);
                let revocations = async |owner| {
                    let state = store.find_owner(owner).await.unwrap();
                    state.unwrap().revocations
                };
                let before = revocations("a").await;
                store
                    .insert(&owned(number, "a"), &WriteOptions::new())
                    .await
                    .unwrap();
                let read = found(&store, number).await;
                assert!((before..=revocations("a").await).contains(&read.owner_revocations));
                let state = read.owner_state.unwrap();
                let is_over = read.owner_revocations < state.revocations;
                assert_eq!(read.revoked.is_some(), is_over, "{read:?}");
                change_owner(&store, number, Some("b")).await;
                let moved = found(&store, number).await;
                let has_stayed = moved.owner.as_deref() == Some("a");
                assert_eq!(has_stayed, moved.revoked.is_some(), "{moved:?}");
                assert!(has_stayed || !is_over, "{moved:?}");
            }
        });
    }
    for _ in 0..ROUNDS {
        store
            .revoke_owner_keys("a", &left(1, "x"), &ChangeOrigin::new())
            .await
            .unwrap();
        store.mark_revoked_keys().await.unwrap();
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let state = store.find_owner("a").await.unwrap().unwrap();
    assert_eq!(state.revocations, ROUNDS);
    assert_eq!(state.version, ROUNDS + 1);
    mark_all(&store).await;
    assert_eq!(server.command(&["HLEN", REVOCATIONS]).text(), "0");
}

#[tokio::test]
async fn a_change_of_owner_takes_the_new_number_or_revokes_the_key() {
    let server = redis_server!();
    let store = started(&server).await;
    for number in 1..=4 {
        store
            .insert(&owned(number, "a"), &WriteOptions::new())
            .await
            .unwrap();
    }
    store
        .insert(&owned(5, "b"), &WriteOptions::new())
        .await
        .unwrap();
    store
        .insert(&record(6), &WriteOptions::new())
        .await
        .unwrap();
    for time in [3_000, 4_000] {
        store
            .revoke_owner_keys("b", &left(time, "b"), &ChangeOrigin::new())
            .await
            .unwrap();
    }
    change_owner(&store, 1, Some("b")).await;
    change_owner(&store, 6, Some("b")).await;
    for number in [1, 6] {
        let moved = found(&store, number).await;
        assert_eq!((moved.owner_revocations, moved.revoked), (2, None));
    }
    change_owner(&store, 6, None).await;
    let moved = found(&store, 6).await;
    assert_eq!((moved.owner_revocations, moved.owner_state), (0, None));
    let name = |number| format!("{{apikey}}:key:{}", id(number));
    let left_behind = server.command(&["HEXISTS", &name(6), "owner_revocations"]);
    assert_eq!(left_behind.text(), "0");

    store
        .revoke_owner_keys("a", &left(5_000, "a"), &ChangeOrigin::new())
        .await
        .unwrap();
    let since = cursor(&store).await;
    change_owner(&store, 2, Some("b")).await;
    change_owner(&store, 3, None).await;
    let mut same = KeyPatch::new();
    same.owner = Some(Some("a".to_owned()));
    same.label = Some("new".to_owned());
    store
        .update(&id(4), &same, &WriteOptions::new())
        .await
        .unwrap();
    assert_eq!(changed(&store, &since).await, [id(2), id(3), id(4)]);
    for number in 2..=4 {
        let stays = found(&store, number).await;
        assert_eq!((stays.owner.as_deref(), stays.version), (Some("a"), 2));
        assert_eq!(revoked(&store, id(number)).await, because_of(5_000, "a"));
    }
    let in_record = |number| {
        server
            .command(&["HGET", &name(number), "revoked_at"])
            .text()
    };
    assert_eq!([2, 3, 4].map(in_record), ["5000", "5000", ""]);
    // The index follows the owner that it kept.
    let query = ListQuery::of(ListRange::Owner("a".to_owned()), 9);
    assert_eq!(store.list(&query).await.unwrap().records.len(), 3);
    assert_eq!(store.purge_all(at(5_001)).await.unwrap().len(), 4);
}

#[tokio::test]
async fn a_purge_removes_what_an_owners_revocation_ended_marked_or_not() {
    let server = redis_server!();
    let store = started(&server).await;
    for number in 1..=250 {
        store
            .insert(&owned(number, "a"), &WriteOptions::new())
            .await
            .unwrap();
    }
    store
        .revoke_owner_keys("a", &left(3_000, "a"), &ChangeOrigin::new())
        .await
        .unwrap();
    store
        .insert(&owned(300, "a"), &WriteOptions::new())
        .await
        .unwrap();
    assert_eq!(store.purge_all(at(3_000)).await.unwrap(), []);
    assert_eq!(store.purge_all(at(3_001)).await.unwrap().len(), 250);
    assert_eq!(revoked(&store, id(300)).await, None);
    let state = store.find_owner("a").await.unwrap().unwrap();
    assert_eq!(state.revocations, 1, "the owner outlives its keys");
}

/// Names that could be taken for something else: a key's id, a field of the hash of revocations, its separators, any bytes.
#[tokio::test]
async fn owners_have_any_name() {
    let server = redis_server!();
    let store = started(&server).await;
    let odd: String = (0..=127).map(char::from).chain("ÿ'\"\n".chars()).collect();
    let long = "ä\0".repeat(85) + "a";
    assert_eq!(long.len(), 256);
    let key = id(1);
    let names = [
        key.as_str(),
        "",
        " ",
        ":",
        "1:a",
        ":a",
        "a",
        "a\0",
        "a\0b",
        "owner",
        "*",
        "{b}",
        "\r\n",
        "1 0 0",
        &odd,
        &long,
    ];
    for (number, name) in (1..).zip(names) {
        store
            .insert(&owned(number, name), &WriteOptions::new())
            .await
            .unwrap();
    }
    for (number, name) in (1..).zip(names) {
        let since = cursor(&store).await;
        let state = store
            .revoke_owner_keys(name, &left(number as i64, name), &ChangeOrigin::new())
            .await
            .unwrap();
        let item = ChangedItem::Owner {
            owner: name.to_owned(),
            state,
        };
        let changes = ask(&store, Some(&since)).await;
        assert_eq!(changes.set, ChangeSet::Entries(vec![item]), "{name:?}");
        assert_eq!(state.revocations, 1, "{name:?}");
    }
    for marked in [false, true] {
        for (number, name) in (1..).zip(names) {
            let expected = because_of(number as i64, name);
            assert_eq!(
                revoked(&store, id(number)).await,
                expected,
                "{name:?}, {marked}"
            );
            assert_eq!(found(&store, number).await.owner.as_deref(), Some(name));
        }
        mark_all(&store).await;
    }
    for key in [REVOCATIONS, QUEUE] {
        assert_eq!(server.command(&["EXISTS", key]).text(), "0", "{key}");
    }
    // Without a reason, and with an empty one.
    for (number, reason) in [(101, None), (102, Some(String::new()))] {
        store
            .insert(&owned(number, "plain"), &WriteOptions::new())
            .await
            .unwrap();
        let revocation = OwnerRevocation::new(at(-5)).with_reason(reason.clone());
        store
            .revoke_owner_keys("plain", &revocation, &ChangeOrigin::new())
            .await
            .unwrap();
        assert_eq!(revoked(&store, id(number)).await, Some((-5, reason)));
    }
}

#[tokio::test]
async fn what_was_written_by_hand_never_makes_a_key_live() {
    let server = redis_server!();
    let store = started(&server).await;
    store
        .insert(&owned(1, "a"), &WriteOptions::new())
        .await
        .unwrap();
    // A number that was raised without a time and a reason.
    server.command(&["HSET", OWNERS, "a", "2 1 0"]).text();
    let (at_read, reason) = revoked(&store, id(1)).await.unwrap();
    assert!(at_read > 1_700_000_000_000 && reason.is_none());
    for bad in [
        "",
        "1",
        "1 0",
        "1 0 2",
        "1 -1 0",
        "1 0 0 ",
        "x 0 0",
        "99999999999999999999 0 0",
        "1 1000000000000000000 0",
        "1 01 0",
        "1 +1 0",
    ] {
        server.command(&["HSET", OWNERS, "a", bad]).text();
        let read = store.find(&id(1)).await;
        assert!(
            matches!(read, Err(StoreError::Corrupt { .. })),
            "{bad:?}: {read:?}"
        );
        let page = store.list(&ListQuery::first(9)).await.unwrap();
        assert_eq!((page.records.len(), page.unreadable.len()), (0, 1));
        let refused = [
            store.insert(&owned(2, "a"), &WriteOptions::new()).await,
            store
                .revoke_owner_keys("a", &left(1, "x"), &ChangeOrigin::new())
                .await
                .map(drop),
            store
                .set_owner_suspended("a", true, &ChangeOrigin::new())
                .await
                .map(drop),
            store.find_owner("a").await.map(drop),
        ];
        for refused in refused {
            assert!(
                matches!(refused, Err(StoreError::Corrupt { .. })),
                "{bad:?}: {refused:?}"
            );
        }
        assert!(!store.mark_revoked_keys().await.unwrap());
    }
    assert!(
        store
            .revoke(&id(1), &because("lost"), &WriteOptions::new())
            .await
            .unwrap()
    );
    // Numbers above 2^53 are exact.
    server
        .command(&["HSET", OWNERS, "b", "9007199254740993 99999999999999999 0"])
        .text();
    store
        .insert(&owned(3, "b"), &WriteOptions::new())
        .await
        .unwrap();
    let state = store
        .revoke_owner_keys("b", &left(1, "x"), &ChangeOrigin::new())
        .await
        .unwrap();
    assert_eq!(
        (state.version, state.revocations),
        (9_007_199_254_740_994, 100_000_000_000_000_000)
    );
    assert_eq!(
        found(&store, 3).await.owner_revocations,
        99_999_999_999_999_999
    );
    assert_eq!(revoked(&store, id(3)).await, because_of(1, "x"));
}
