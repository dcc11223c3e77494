//! A lease that is raised or lowered while other nodes hold it, in a file.

use std::time::{Duration, Instant};

use apikey_runtime::store::{ChangeLog, Membership};
use apikey_runtime::{KeyStore, SqliteStore};

use super::{Place, number, run};

const LONG: Duration = Duration::from_millis(400);
const SHORT: Duration = Duration::from_millis(50);

async fn started(place: &Place, lease: Option<Duration>) -> SqliteStore {
    let store = SqliteStore::new(place.file());
    let store = match lease {
        Some(lease) => store.lease(lease),
        None => store,
    };
    store.start().await.unwrap();
    store
}

/// Returns the lease that is granted from now on, and the longest that a node may still hold.
async fn leases(store: &SqliteStore) -> (Duration, Duration) {
    let changes = store.changes(None, None).await.unwrap();
    let roster = store.members().await.unwrap();
    (changes.lease, roster.longest_lease)
}

#[tokio::test]
async fn a_raised_lease_counts_at_once() {
    let place = Place::new();
    let store = started(&place, Some(SHORT)).await;
    assert_eq!(leases(&store).await, (SHORT, SHORT));
    started(&place, Some(LONG)).await;
    assert_eq!(leases(&store).await, (LONG, LONG));
}

#[tokio::test]
async fn a_lowered_lease_lets_start_wait_until_none_of_the_old_length_is_held() {
    let place = Place::new();
    let store = started(&place, Some(LONG)).await;
    let began = Instant::now();
    let lowering = tokio::spawn({
        let file = place.file();
        async move { SqliteStore::new(file).lease(SHORT).start().await }
    });
    while leases(&store).await.0 == LONG {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let seen = leases(&store).await;
    if began.elapsed() < LONG {
        assert_eq!(seen, (SHORT, LONG), "others may still hold it");
    }
    lowering.await.unwrap().unwrap();
    assert!(began.elapsed() > LONG);
    assert_eq!(leases(&store).await, (SHORT, SHORT));
}

/// If lowering is interrupted, the next node has to wait for the old lease to end.
#[tokio::test]
async fn a_lease_that_was_lowered_by_hand_is_settled_by_the_next_start() {
    let place = Place::new();
    let store = started(&place, Some(LONG)).await;
    let mut tool = place.tool().await;
    run(&mut tool, "UPDATE api_key_meta SET lease_ms = 50")
        .await
        .unwrap();
    assert_eq!(leases(&store).await, (SHORT, LONG));
    let began = Instant::now();
    started(&place, None).await;
    assert!(began.elapsed() > LONG);
    assert_eq!(leases(&store).await, (SHORT, SHORT));
}

#[tokio::test]
async fn who_waits_for_a_lease_that_is_changed_again_settles_nothing() {
    // On a busy machine, the changes must still come while the other waits.
    const LEASE: Duration = Duration::from_secs(4);
    let place = Place::new();
    let store = started(&place, Some(LEASE)).await;
    let mut tool = place.tool().await;
    run(&mut tool, "UPDATE api_key_meta SET lease_ms = 50")
        .await
        .unwrap();
    let waiting = tokio::spawn({
        let file = place.file();
        async move { SqliteStore::new(file).start().await }
    });
    tokio::time::sleep(LEASE / 2).await;
    // Raised and lowered again: the wait starts again.
    for sql in [
        "UPDATE api_key_meta SET lease_ms = 4000",
        "UPDATE api_key_meta SET lease_ms = 50",
    ] {
        run(&mut tool, sql).await.unwrap();
    }
    waiting.await.unwrap().unwrap();
    assert_eq!(leases(&store).await, (SHORT, LEASE));
    assert_eq!(
        number(&mut tool, "SELECT lease_version FROM api_key_meta").await,
        4
    );
}
