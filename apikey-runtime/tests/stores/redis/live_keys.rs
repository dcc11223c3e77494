//! The maximum number of live keys of an owner, and the other conditions of a write.

use std::sync::Arc;

use apikey_runtime::audit::ChangeOrigin;
use apikey_runtime::store::{KeyPatch, OwnerStore, StoreError, WriteOptions};
use apikey_runtime::{KeyStore, RedisStore, Timestamp};
use apikey_test_support::servers::redis::RedisServer;

use super::owners::left;
use super::{redis_server, started};
use crate::{at, because, id, owned, record};

const MAX: u32 = 10;

fn at_most(max: u32) -> WriteOptions {
    WriteOptions::new().with_max_live_keys(Some(max))
}

/// Runs `attempt` with numbers from nine connections at once. Returns how many succeeded.
async fn succeeded<F>(server: &RedisServer, attempt: impl Fn(Arc<RedisStore>, u128) -> F) -> usize
where
    F: Future<Output = bool> + Send + 'static,
{
    let mut tasks = tokio::task::JoinSet::new();
    for connection in 0..9_u128 {
        let store = Arc::new(started(server).await);
        for number in 0..20 {
            tasks.spawn(attempt(Arc::clone(&store), connection * 100 + number));
        }
    }
    tasks
        .join_all()
        .await
        .into_iter()
        .filter(|done| *done)
        .count()
}

fn is_refused(result: Result<(), StoreError>) -> bool {
    match result {
        Ok(()) => false,
        Err(StoreError::TooManyKeys { max: MAX }) => true,
        Err(error) => panic!("{error:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nine_connections_insert_exactly_as_many_keys_as_an_owner_may_have() {
    let server = redis_server!();
    let inserted = succeeded(&server, |store, number| async move {
        !is_refused(store.insert(&owned(number, "a"), &at_most(MAX)).await)
    });
    assert_eq!(inserted.await, MAX as usize);
    assert_eq!(
        started(&server)
            .await
            .count_live_keys("a", 1_000)
            .await
            .unwrap(),
        MAX
    );
}

/// Negative control: to count and then to insert is found out.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_count_before_the_insert_is_found_out() {
    let server = redis_server!();
    let inserted = succeeded(&server, |store, number| async move {
        if store.count_live_keys("a", MAX).await.unwrap() >= MAX {
            return false;
        }
        store
            .insert(&owned(number, "a"), &WriteOptions::new())
            .await
            .unwrap();
        true
    });
    assert!(inserted.await > MAX as usize);
}

/// A change of owner, and a later expiry, make keys live too.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nine_connections_make_exactly_as_many_keys_live_by_updates() {
    let server = redis_server!();
    let store = started(&server).await;
    for number in 0..900_u128 {
        let mut record = owned(number, if number % 2 == 0 { "a" } else { "b" });
        if number % 2 == 0 {
            record.expires = Some(at(1_000));
        }
        store.insert(&record, &WriteOptions::new()).await.unwrap();
    }
    assert_eq!(store.count_live_keys("a", 9).await.unwrap(), 0);
    let updated = succeeded(&server, |store, number| async move {
        let mut patch = KeyPatch::new();
        if number % 2 == 0 {
            patch.expires = Some(None);
        } else {
            patch.owner = Some(Some("a".to_owned()));
        }
        !is_refused(store.update(&id(number), &patch, &at_most(MAX)).await)
    });
    assert_eq!(updated.await, MAX as usize);
    assert_eq!(store.count_live_keys("a", 1_000).await.unwrap(), MAX);
}

#[tokio::test]
async fn keys_that_are_neither_revoked_nor_expired_are_counted() {
    let server = redis_server!();
    let store = started(&server).await;
    let insert = async |number| {
        let record = owned(number, "a");
        store.insert(&record, &at_most(2)).await
    };
    let count = async || store.count_live_keys("a", 100).await.unwrap();
    let mut expired = owned(1, "a");
    expired.expires = Some(at(1_000));
    store.insert(&expired, &at_most(0)).await.unwrap();
    store.insert(&record(2), &at_most(0)).await.unwrap();
    let mut disabled = owned(3, "a");
    disabled.enabled = false;
    store.insert(&disabled, &at_most(1)).await.unwrap();
    insert(4).await.unwrap();
    assert!(matches!(
        insert(5).await,
        Err(StoreError::TooManyKeys { max: 2 })
    ));
    assert_eq!(store.find(&id(5)).await.unwrap(), None);
    assert_eq!(
        (count().await, store.count_live_keys("a", 1).await.unwrap()),
        (2, 1)
    );
    // An owner that is suspended has as many. A key that is live stays so, whatever else is changed.
    store
        .set_owner_suspended("a", true, &ChangeOrigin::new())
        .await
        .unwrap();
    let mut patch = KeyPatch::new();
    patch.expires = Some(Some(Timestamp::MAX));
    store.update(&id(4), &patch, &at_most(0)).await.unwrap();
    assert_eq!(count().await, 2);
    store
        .revoke(&id(4), &because("lost"), &WriteOptions::new())
        .await
        .unwrap();
    assert_eq!(count().await, 1);
    patch.expires = Some(None);
    store.update(&id(4), &patch, &at_most(0)).await.unwrap();
    insert(5).await.unwrap();
    store
        .revoke_owner_keys("a", &left(3_000, "left"), &ChangeOrigin::new())
        .await
        .unwrap();
    assert_eq!(count().await, 0, "before they are marked");
    insert(6).await.unwrap();
    while store.mark_revoked_keys().await.unwrap() {}
    insert(7).await.unwrap();
    assert_eq!(count().await, 2, "after they are marked");
    assert!(matches!(
        insert(8).await,
        Err(StoreError::TooManyKeys { max: 2 })
    ));
}

/// What was ended by hand, or by a process of an older release, is counted until it would make a difference.
#[tokio::test]
async fn a_key_that_was_revoked_by_hand_does_not_count_against_the_next() {
    let server = redis_server!();
    let store = started(&server).await;
    for number in 1..=2 {
        store
            .insert(&owned(number, "a"), &at_most(2))
            .await
            .unwrap();
    }
    let name = format!("{{apikey}}:key:{}", id(1));
    server.command(&["HSET", &name, "revoked_at", "3000"]);
    store.insert(&owned(3, "a"), &at_most(2)).await.unwrap();
    let fourth = store.insert(&owned(4, "a"), &at_most(2)).await;
    assert!(matches!(fourth, Err(StoreError::TooManyKeys { max: 2 })));
    assert_eq!(store.count_live_keys("a", 9).await.unwrap(), 2);
}

#[tokio::test]
async fn the_expected_owner_is_compared_before_the_version() {
    let server = redis_server!();
    let store = started(&server).await;
    store
        .insert(&owned(1, "a"), &WriteOptions::new())
        .await
        .unwrap();
    store
        .insert(&record(2), &WriteOptions::new())
        .await
        .unwrap();
    let options = |owner: &str, version| {
        WriteOptions::new()
            .with_expected_owner(Some(owner.to_owned()))
            .with_expected_version(Some(version))
    };
    let mut patch = KeyPatch::new();
    patch.label = Some("other".to_owned());
    for (number, owner, version, is_conflict) in [
        (1, "b", 9, false),
        (2, "a", 9, false),
        (2, "", 1, false),
        (1, "a", 2, true),
    ] {
        for result in [
            store
                .update(&id(number), &patch, &options(owner, version))
                .await,
            store
                .revoke(&id(number), &because("x"), &options(owner, version))
                .await
                .map(drop),
        ] {
            let error = result.unwrap_err();
            let expected = if is_conflict {
                StoreError::Conflict
            } else {
                StoreError::NotFound
            };
            assert_eq!(
                error.to_string(),
                expected.to_string(),
                "{number} {owner} {version}"
            );
        }
    }
    let found = store.find(&id(1)).await.unwrap().unwrap();
    assert_eq!((found.version, found.label.as_str()), (1, "a label"));
    store
        .update(&id(1), &patch, &options("a", 1))
        .await
        .unwrap();
    assert!(
        store
            .revoke(&id(1), &because("x"), &options("a", 2))
            .await
            .unwrap()
    );
    // Compared before it is told that the key was revoked.
    let again = store.revoke(&id(1), &because("x"), &options("a", 2)).await;
    assert!(matches!(again, Err(StoreError::Conflict)));
}

/// Names stay of the last change, and the number of secrets goes up with each.
#[tokio::test]
async fn a_change_leaves_its_actor_and_counts_secrets() {
    let server = redis_server!();
    let store = started(&server).await;
    let by = |actor: &str| WriteOptions::new().with_origin(ChangeOrigin::new().with_actor(actor));
    let mut new = record(1);
    (new.created_by, new.updated_by) = (Some("anna".to_owned()), Some("anna".to_owned()));
    new.description = Some("for <b>all</b>".to_owned());
    store.insert(&new, &by("anna")).await.unwrap();
    assert_eq!(store.find(&id(1)).await.unwrap().unwrap(), new);
    let mut patch = KeyPatch::new();
    patch.digest = Some("sha256$11".to_owned());
    patch.description = Some(None);
    for (actor, rotations) in [("bert", 1), ("carl", 1)] {
        store.update(&id(1), &patch, &by(actor)).await.unwrap();
        let found = store.find(&id(1)).await.unwrap().unwrap();
        assert_eq!(
            (found.rotations, found.updated_by.as_deref()),
            (rotations, Some(actor))
        );
        assert_eq!(
            (found.created_by.as_deref(), found.description),
            (Some("anna"), None)
        );
    }
    store
        .revoke(&id(1), &because("lost"), &WriteOptions::new())
        .await
        .unwrap();
    assert_eq!(store.find(&id(1)).await.unwrap().unwrap().updated_by, None);
}
