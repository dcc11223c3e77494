//! Usage becomes that of whole days after a while.

use std::sync::Arc;
use std::time::Duration;

use apikey_runtime::clock::{Clock, ManualClock};
use apikey_runtime::{ApiKeyManager, Config, KeyId, KeyStore, Timestamp};
use apikey_test_support::store::{Call, GateStore};
use apikey_test_support::{PATIENCE, within};

const HOUR: i64 = 3_600_000;

const DAY: Duration = Duration::from_secs(86_400);

/// The hour at which the first day begins.
const FIRST: i64 = 40 * 24;

async fn start(store: &Arc<GateStore>, clock: &Arc<ManualClock>) -> ApiKeyManager {
    let config = Config::builder()
        .usage_flush_interval(Duration::from_millis(100))
        .usage_retention(DAY * 4)
        .usage_roll_up_after(DAY)
        .build();
    ApiKeyManager::builder()
        .config(config.unwrap())
        .shared_store(Arc::<GateStore>::clone(store))
        .clock(Arc::clone(clock) as Arc<dyn Clock>)
        .start()
        .await
        .unwrap()
}

/// Waits until the key's requests, by hours since the beginning of the first day, are these.
async fn become_so(manager: &ApiKeyManager, key: KeyId, expected: &[(i64, u64)]) {
    let hours = async || {
        let report = manager.usage(key).await.unwrap();
        let hours = report.by_hour().into_iter();
        let hours = hours.map(|one| (one.start.as_millis() / HOUR - FIRST, one.counts.requests));
        hours.collect::<Vec<_>>()
    };
    let is_so = async || hours().await == expected;
    let became = within(PATIENCE, is_so).await.is_some();
    assert!(became, "{:?} and not {expected:?}", hours().await);
}

/// The clock of a process is trusted after an hour. Days are whole, also at the end of the retention.
#[actix_web::test]
async fn hours_become_days_after_a_while() {
    let at = |hour: i64| Timestamp::from_millis((FIRST + hour) * HOUR);
    let clock = Arc::new(ManualClock::at(at(6)));
    let store = GateStore::new();
    let manager = start(&store, &clock).await;
    let key = manager.create("a").await.unwrap();
    let advance = |hours: u64| clock.advance(Duration::from_secs(hours * 3_600));
    let hours = [(6, 1), (9, 2), (12, 3), (30, 5)];
    for (number, pause) in [3, 3, 18, 0].into_iter().enumerate() {
        for _ in 0..hours[number].1 {
            manager.verify(key.expose_secret()).await.unwrap();
        }
        become_so(&manager, key.id(), &hours[..=number]).await;
        advance(pause);
    }
    // At 48, the last hour of the first day ended a day ago.
    let steps = store.count(Call::RollUpUsage);
    advance(17);
    let looked = async || store.count(Call::RollUpUsage) > steps;
    assert!(within(PATIENCE, looked).await.is_some());
    become_so(&manager, key.id(), &hours).await;
    advance(1);
    become_so(&manager, key.id(), &[(0, 6), (30, 5)]).await;
    // A span that begins or ends on that day has all of it.
    for (from, to, expected) in [
        (7, 31, 11),
        (10, 11, 6),
        (-9, 1, 6),
        (24, 31, 5),
        (-9, 0, 0),
    ] {
        let found = manager.usage(key.id()).between(at(from), at(to)).await;
        assert_eq!(found.unwrap().total().requests, expected, "{from} {to}");
    }
    // Four days after the first hour of the first day, and after its last one.
    advance(119 - 48);
    become_so(&manager, key.id(), &[(0, 6), (24, 5)]).await;
    advance(1);
    become_so(&manager, key.id(), &[(24, 5)]).await;
}

/// Rolls up the days before the second one, as a node does.
async fn roll_up(store: &GateStore) {
    let usage = store.usage().unwrap();
    while usage.roll_up_usage(FIRST / 24 + 1).await.unwrap() {}
}

/// A span begins in the middle of a day, which is rolled up by another node: whose clock is a little ahead, or while the call
/// reads.
#[actix_web::test]
async fn no_report_misses_a_day_that_is_rolled_up_at_this_moment() {
    let at = |hour: i64| Timestamp::from_millis((FIRST + hour) * HOUR);
    for is_meanwhile in [false, true] {
        let clock = Arc::new(ManualClock::at(at(12)));
        let store = GateStore::new();
        let manager = start(&store, &clock).await;
        let key = manager.create("a").await.unwrap();
        for _ in 0..3 {
            manager.verify(key.expose_secret()).await.unwrap();
        }
        become_so(&manager, key.id(), &[(12, 3)]).await;
        let report = || manager.usage(key.id()).between(at(7), at(31));
        let early = |minutes: u64| Duration::from_secs(36 * 3_600 - 60 * minutes);
        clock.advance(early(6));
        // Control: the day is not taken for a whole one before.
        let hours = report().await.unwrap().by_hour();
        assert_eq!(hours[0].start, at(12));
        let total = if is_meanwhile {
            let gate = store.gate_before(Call::Usage);
            let reading = actix_web::rt::spawn(report());
            gate.arrived().await;
            roll_up(&store).await;
            clock.advance(Duration::from_secs(6 * 60));
            gate.open();
            reading.await.unwrap()
        } else {
            clock.advance(Duration::from_secs(2 * 60));
            roll_up(&store).await;
            report().await
        };
        let hours = total.unwrap().by_hour();
        let found: Vec<_> = hours
            .iter()
            .map(|one| (one.start, one.counts.requests))
            .collect();
        assert_eq!(found, [(at(0), 3)], "{is_meanwhile}");
    }
}
