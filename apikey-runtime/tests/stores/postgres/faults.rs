//! connections and servers that fail. The deadline holds, and a healed connection is used at
//! once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use apikey_runtime::store::{ChangeLog, ChangeSet, Membership, StoreError, WriteOptions};
use apikey_runtime::{KeyStore, PostgresStore};
use apikey_test_support::proxy::{Proxy, Wire};
use apikey_test_support::servers::postgres::Postgres;
use apikey_test_support::{PATIENCE, SLACK};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{Place, cursor, history, number, place, run};
use crate::{because, id, record};

/// The deadline of a store whose calls meet a fault, and otherwise succeed on a busy machine.
pub(super) const DEADLINE: Duration = Duration::from_secs(2);

/// Starts a store behind a proxy, with one key and the maximum number of open connections.
async fn behind(proxy: &Proxy, place: &Place<'_>) -> Arc<PostgresStore> {
    let store = PostgresStore::new(place.url_at(proxy.port()))
        .timeout(DEADLINE)
        .max_connections(4);
    store.start().await.unwrap();
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    let store = Arc::new(store);
    warm(&store).await;
    store
}

async fn warm(store: &Arc<PostgresStore>) {
    let mut calls = JoinSet::new();
    for _ in 0..16 {
        let store = Arc::clone(store);
        calls.spawn(async move { store.find(&id(1)).await });
    }
    while let Some(call) = calls.join_next().await {
        call.unwrap().unwrap();
    }
}

pub(super) fn is_unavailable<T>(outcome: &Result<T, StoreError>) -> bool {
    matches!(outcome, Err(StoreError::Unavailable { .. }))
}

#[tokio::test]
async fn x03_on_a_link_that_swallows_all_calls_end_and_when_it_heals_they_work() {
    let place = place!();
    let proxy = Proxy::to_port(place.server.port());
    let store = behind(&proxy, &place).await;
    for round in 0..2 {
        proxy.set(Wire::Held);
        let began = Instant::now();
        let mut calls = JoinSet::new();
        for number in 0..24 {
            let store = Arc::clone(&store);
            calls.spawn(async move {
                // Some callers give up earlier, as a manager does.
                let patience = if number % 2 == 0 {
                    DEADLINE / 2
                } else {
                    DEADLINE * 4
                };
                timeout(patience, store.find(&id(1))).await
            });
        }
        while let Some(call) = calls.join_next().await {
            if let Ok(outcome) = call.unwrap() {
                assert!(is_unavailable(&outcome), "{outcome:?}");
            }
        }
        assert!(began.elapsed() < DEADLINE + SLACK, "{:?}", began.elapsed());
        assert!(is_unavailable(&store.changes(None, None).await));
        assert!(is_unavailable(
            &store
                .revoke(&id(1), &because("lost"), &WriteOptions::new())
                .await
        ));
        proxy.set(Wire::Whole);
        assert!(store.find(&id(1)).await.unwrap().is_some(), "round {round}");
        store.changes(None, None).await.unwrap();
        warm(&store).await;
    }
}

/// Half-open: the other end is gone, and no packet reports it.
#[tokio::test]
async fn x03_a_half_open_connection_costs_one_deadline_at_most() {
    let place = place!();
    let proxy = Proxy::to_port(place.server.port());
    let store = behind(&proxy, &place).await;
    proxy.silence_all();
    let began = Instant::now();
    let first = store.find(&id(1)).await;
    assert!(first.is_ok() || is_unavailable(&first), "{first:?}");
    assert!(store.find(&id(1)).await.unwrap().is_some());
    assert!(began.elapsed() < DEADLINE + SLACK, "{:?}", began.elapsed());
    // A long-idle connection is tested before it is used, so even a write does not fail.
    warm(&store).await;
    sleep(Duration::from_millis(1_100)).await;
    proxy.silence_all();
    assert!(
        store
            .revoke(&id(1), &because("lost"), &WriteOptions::new())
            .await
            .unwrap()
    );
}

#[tokio::test]
async fn x03_a_reset_costs_no_read() {
    let place = place!();
    let proxy = Proxy::to_port(place.server.port());
    let store = behind(&proxy, &place).await;
    for _ in 0..5 {
        proxy.close_all();
        assert!(store.find(&id(1)).await.unwrap().is_some());
        store.changes(None, None).await.unwrap();
        warm(&store).await;
    }
}

#[tokio::test]
async fn x03_a_slow_link_only_takes_longer() {
    let place = place!();
    let proxy = Proxy::to_port(place.server.port());
    let store = behind(&proxy, &place).await;
    proxy.set(Wire::Slow(Duration::from_millis(40)));
    assert!(store.find(&id(1)).await.unwrap().is_some());
    assert!(
        store
            .revoke(&id(1), &because("lost"), &WriteOptions::new())
            .await
            .unwrap()
    );
    proxy.set(Wire::Slow(DEADLINE));
    assert!(is_unavailable(&store.find(&id(1)).await));
}

/// A push is missed over a half-open connection, but not for ever.
#[tokio::test]
async fn x03_a_half_open_push_is_found_out() {
    let place = place!();
    let proxy = Proxy::to_port(place.server.port());
    let store = behind(&proxy, &place).await;
    let mut listener = store.subscribe().unwrap();
    let quiet = Duration::from_millis(300);
    while timeout(quiet, listener.notified()).await.is_ok() {}
    proxy.silence_all();
    let mut tool = place.tool().await;
    run(&mut tool, "UPDATE api_keys SET label = 'x'")
        .await
        .unwrap();
    // Listeners are notified when the push is back, because they may have missed a change.
    timeout(PATIENCE, listener.notified()).await.unwrap();
    while timeout(quiet, listener.notified()).await.is_ok() {}
    run(&mut tool, "UPDATE api_keys SET label = 'y'")
        .await
        .unwrap();
    // Before the next connection would be looked for.
    timeout(Duration::from_secs(4), listener.notified())
        .await
        .unwrap();
}

#[tokio::test]
async fn x03_a_frozen_server_delays_no_call_beyond_its_deadline() {
    let Some(server) = Postgres::start() else {
        return;
    };
    let place = Place::on(&server).await;
    let store = Arc::new(place.store().timeout(DEADLINE));
    store.start().await.unwrap();
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    warm(&store).await;
    let frozen = server.freeze();
    for _ in 0..3 {
        let began = Instant::now();
        assert!(is_unavailable(&store.find(&id(1)).await));
        assert!(is_unavailable(&store.changes(None, None).await));
        assert!(
            began.elapsed() < DEADLINE * 2 + SLACK,
            "{:?}",
            began.elapsed()
        );
    }
    drop(frozen);
    let began = Instant::now();
    assert!(store.find(&id(1)).await.unwrap().is_some());
    store.changes(None, None).await.unwrap();
    assert!(began.elapsed() < DEADLINE + SLACK, "{:?}", began.elapsed());
}

/// X-01, and after it: a restarted server is used at once, and nodes do not trust earlier reads.
#[tokio::test]
async fn x01_a_server_that_is_down_is_unavailable_and_used_again_when_it_is_up() {
    let Some(server) = Postgres::start() else {
        return;
    };
    let place = Place::on(&server).await;
    let store = place.started().await;
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    let since = cursor(&store).await;
    let mut listener = store.subscribe().unwrap();
    for stop in [Postgres::stop, Postgres::kill] {
        stop(&server);
        let began = Instant::now();
        for _ in 0..3 {
            assert!(is_unavailable(&store.find(&id(1)).await));
            assert!(is_unavailable(&store.changes(None, None).await));
            assert!(is_unavailable(
                &store.insert(&record(2), &WriteOptions::new()).await
            ));
        }
        assert!(
            began.elapsed() < SLACK,
            "rejected at once: {:?}",
            began.elapsed()
        );
        while timeout(Duration::from_millis(200), listener.notified())
            .await
            .is_ok()
        {}
        server.run();
        assert!(store.find(&id(1)).await.unwrap().is_some());
        assert_eq!(history(&store, &since).await, ChangeSet::Resync);
        timeout(PATIENCE, listener.notified()).await.unwrap();
    }
}

/// A standby may not have the last revocations.
#[tokio::test]
async fn a_standby_is_never_read() {
    let Some(server) = Postgres::start() else {
        return;
    };
    let place = Place::on(&server).await;
    let store = place.started().await;
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    server.stop();
    server.make_standby();
    server.run();
    let mut tool = place.tool().await;
    assert_eq!(number(&mut tool, "SELECT count(*) FROM api_keys").await, 1);
    // Its connections were closed, and the store has not noticed yet.
    let _ = store
        .revoke(&id(1), &because("lost"), &WriteOptions::new())
        .await;
    for outcome in [
        store.find(&id(1)).await.map(drop),
        store.changes(None, None).await.map(drop),
        store.members().await.map(drop),
        place.store().start().await,
    ] {
        let Err(StoreError::Unavailable {
            source: Some(source),
            ..
        }) = &outcome
        else {
            panic!("{outcome:?}");
        };
        assert!(source.to_string().contains("standby"), "{source}");
    }
}
