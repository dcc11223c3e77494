//! Usage on its way to the store and back: written in time, once, and at shutdown; read in several
//! ways. A slow or dead store does not slow requests.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::get;
use apikey_runtime::clock::{Clock, ManualClock};
use apikey_runtime::usage::UsageInterval;
use apikey_runtime::{
    ApiKeyManager, ApiKeyManagerBuilder, Config, KeyId, KeyStore, MemoryStore, SqliteStore,
    Timestamp, api_key_required,
};
use apikey_test_support::http::Server;
use apikey_test_support::recorder::Recorder;
use apikey_test_support::store::{Call, Fault, GateStore, RecordsOnly};
use apikey_test_support::{PATIENCE, SLACK, manager_at, manager_on, within};

const HOUR: i64 = 3_600_000;

/// The shortest permitted interval.
const SOON: Duration = Duration::from_millis(100);

/// The longest permitted interval: it does not end during a test.
const LATE: Duration = Duration::from_secs(3_600);

const STORE_TIMEOUT: Duration = Duration::from_secs(1);

#[get("/plain")]
#[api_key_required]
async fn plain() -> &'static str {
    "in"
}

fn serve(manager: &ApiKeyManager) -> Server {
    let manager = manager.clone();
    Server::start(move |app| {
        manager.init_app(app);
        app.service(plain);
    })
}

fn builder(store: &Arc<GateStore>, interval: Duration) -> ApiKeyManagerBuilder {
    let config = Config::builder()
        .usage_flush_interval(interval)
        .store_timeout(STORE_TIMEOUT)
        .build();
    ApiKeyManager::builder()
        .config(config.unwrap())
        .shared_store(Arc::<GateStore>::clone(store))
}

async fn start(store: &Arc<GateStore>, interval: Duration) -> ApiKeyManager {
    builder(store, interval).start().await.unwrap()
}

async fn total(manager: &ApiKeyManager, id: KeyId) -> u64 {
    manager.usage(id).await.unwrap().total().requests
}

/// Returns what the store has, without what managers have in memory.
async fn stored(store: &GateStore, id: KeyId) -> u64 {
    let query = apikey_runtime::usage::UsageQuery::new(vec![id], i64::MIN / 2, i64::MAX / 2);
    let rows = store.usage().unwrap().read_usage(&query).await.unwrap();
    rows.iter().map(|row| row.requests).sum()
}

async fn use_it(manager: &ApiKeyManager, key: &str, times: u64) {
    for _ in 0..times {
        manager.verify(key).await.unwrap();
    }
}

#[actix_web::test]
async fn usage_is_written_once_an_interval_and_no_request_calls_the_store_for_it() {
    let store = GateStore::new();
    // No hour ends meanwhile.
    let timeless = builder(&store, SOON).clock(Arc::new(ManualClock::starting_now()));
    let manager = timeless.start().await.unwrap();
    let key = manager.create("a").await.unwrap();
    for round in 1..=3 {
        use_it(&manager, key.expose_secret(), 50).await;
        let written = async || stored(&store, key.id()).await == round * 50;
        assert!(within(PATIENCE, written).await.is_some());
    }
    // A call for each request would be 150.
    assert!(
        store.count(Call::AddUsage) <= 20,
        "{}",
        store.count(Call::AddUsage)
    );
    assert_eq!(store.count(Call::PruneUsage), 1, "once an hour");
    // Without new usage there is nothing to write.
    let calls = store.count(Call::AddUsage);
    tokio::time::sleep(SOON * 3).await;
    assert_eq!(store.count(Call::AddUsage), calls);
}

/// The store added it, and the answer is lost, again and again.
#[actix_web::test]
async fn a_lost_answer_counts_nothing_twice() {
    let store = GateStore::new();
    let manager = start(&store, SOON).await;
    let key = manager.create("a").await.unwrap();
    store.fail(Call::AddUsage, Fault::AnswerLost);
    // One, so that all of them are in the first batch.
    use_it(&manager, key.expose_secret(), 1).await;
    let tries = async || store.count(Call::AddUsage) >= 3;
    assert!(within(PATIENCE, tries).await.is_some());
    use_it(&manager, key.expose_secret(), 6).await;
    assert_eq!(stored(&store, key.id()).await, 1);
    store.heal();
    assert_eq!(total(&manager, key.id()).await, 7);
    // Control: each of those attempts reached the store.
    let offered = store.transcript().matches("requests: 1,").count();
    assert!(offered >= 3, "{offered}");
}

#[actix_web::test]
async fn a_dead_store_slows_no_request_and_has_it_all_when_it_is_back() {
    for fault in [Fault::Unavailable, Fault::Hangs, Fault::Panics] {
        let store = GateStore::new();
        let manager = start(&store, SOON).await;
        let key = manager.create("a").await.unwrap();
        use_it(&manager, key.expose_secret(), 3).await;
        store.fail(Call::AddUsage, fault);
        let before = store.count(Call::AddUsage);
        for _ in 0..3 {
            use_it(&manager, key.expose_secret(), 100).await;
            let calls = store.count(Call::AddUsage);
            let tried = async || store.count(Call::AddUsage) > calls;
            assert!(within(PATIENCE, tried).await.is_some(), "{fault:?}");
        }
        assert!(store.count(Call::AddUsage) > before);
        store.heal();
        let back = async || {
            let read = manager.usage(key.id()).await;
            read.is_ok_and(|read| read.total().requests == 303)
        };
        assert!(within(PATIENCE, back).await.is_some(), "{fault:?}");
    }
}

/// The store is not down: it rejects this batch. Newer usage does not wait behind it.
#[actix_web::test]
async fn a_batch_that_the_store_refuses_for_good_is_dropped_and_told() {
    let (recorder, store) = (Recorder::default(), GateStore::new());
    let manager = recorder.start(builder(&store, SOON)).await;
    let key = manager.create("a").await.unwrap();
    let lost = || recorder.counter("apikey_usage_lost_total", &[]);
    store.fail(Call::AddUsage, Fault::Backend);
    use_it(&manager, key.expose_secret(), 7).await;
    assert!(within(PATIENCE, async || lost() == 7).await.is_some());
    // They are in two batches if a flush came in between.
    let calls = store.count(Call::AddUsage);
    assert!(calls == 5 || calls == 10, "{calls}");
    store.heal();
    use_it(&manager, key.expose_secret(), 4).await;
    assert_eq!(total(&manager, key.id()).await, 4);
    assert_eq!(lost(), 7);
}

/// Control: whatever the store answers meanwhile, and however long it is down, usage is not
/// dropped.
#[actix_web::test]
async fn neither_readers_nor_a_store_that_is_away_drop_a_batch() {
    let (recorder, store) = (Recorder::default(), GateStore::new());
    let manager = recorder.start(builder(&store, LATE)).await;
    let key = manager.create("a").await.unwrap();
    store.fail(Call::AddUsage, Fault::Backend);
    use_it(&manager, key.expose_secret(), 7).await;
    for _ in 0..20 {
        manager.usage(key.id()).await.unwrap_err();
    }
    store.heal();
    assert_eq!(total(&manager, key.id()).await, 7);

    let manager = recorder.start(builder(&store, SOON)).await;
    store.fail(Call::AddUsage, Fault::Unavailable);
    use_it(&manager, key.expose_secret(), 7).await;
    let begun = store.count(Call::AddUsage);
    let tries = async || store.count(Call::AddUsage) >= begun + 12;
    assert!(within(PATIENCE, tries).await.is_some());
    store.heal();
    assert_eq!(total(&manager, key.id()).await, 14);
    assert_eq!(recorder.counter("apikey_usage_lost_total", &[]), 0);
}

/// A large batch would be retried again and again, and never finish within the time of a request.
#[actix_web::test]
async fn a_store_may_take_longer_for_usage_than_for_requests() {
    let store = GateStore::new();
    let manager = start(&store, SOON).await;
    let key = manager.create("a").await.unwrap();
    let gate = store.gate_before(Call::AddUsage);
    use_it(&manager, key.expose_secret(), 1).await;
    gate.arrived().await;
    tokio::time::sleep(STORE_TIMEOUT * 3).await;
    // A reader does not wait for that long.
    let begun = Instant::now();
    let read = manager.usage(key.id()).await.unwrap_err().to_string();
    assert!(read.contains("slow to take it"), "{read}");
    assert!(begun.elapsed() < SLACK);
    gate.open();
    let written = async || stored(&store, key.id()).await == 1;
    assert!(within(PATIENCE, written).await.is_some());
    assert_eq!(store.count(Call::AddUsage), 1);
}

/// A flush that hangs has more time than the shutdown waits for.
#[actix_web::test]
async fn the_end_waits_for_no_turn_and_offers_its_batch_again() {
    let store = GateStore::new();
    let manager = start(&store, SOON).await;
    let key = manager.create("a").await.unwrap();
    let gate = store.gate_before(Call::AddUsage);
    use_it(&manager, key.expose_secret(), 7).await;
    gate.arrived().await;
    use_it(&manager, key.expose_secret(), 4).await;
    // For calls that begin from now on.
    store.heal();
    manager.shutdown().await.unwrap();
    assert_eq!(stored(&store, key.id()).await, 11);
}

/// A request is allowed while the store hangs with a batch.
#[actix_web::test]
async fn requests_pass_while_usage_is_being_written() {
    let store = GateStore::new();
    let manager = start(&store, SOON).await;
    let key = manager.create("a").await.unwrap();
    let server = serve(&manager);
    use_it(&manager, key.expose_secret(), 1).await;
    let gate = store.gate_before(Call::AddUsage);
    server.get("/plain", key.expose_secret()).await.says("in");
    gate.arrived().await;
    for _ in 0..20 {
        server.get("/plain", key.expose_secret()).await.says("in");
    }
    gate.open();
    let all = async || stored(&store, key.id()).await == 22;
    assert!(within(PATIENCE, all).await.is_some());
}

#[actix_web::test]
async fn the_end_writes_the_rest_and_waits_for_no_dead_store() {
    let store = GateStore::new();
    let manager = start(&store, LATE).await;
    let key = manager.create("a").await.unwrap();
    use_it(&manager, key.expose_secret(), 7).await;
    assert_eq!(stored(&store, key.id()).await, 0);
    manager.shutdown().await.unwrap();
    assert_eq!(stored(&store, key.id()).await, 7);

    let manager = start(&store, LATE).await;
    use_it(&manager, key.expose_secret(), 7).await;
    store.fail(Call::AddUsage, Fault::Hangs);
    let begun = Instant::now();
    manager.shutdown().await.unwrap();
    assert!(begun.elapsed() < SLACK);
    assert_eq!(stored(&store, key.id()).await, 7);
}

#[actix_web::test]
async fn two_managers_add_up_whichever_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Arc::new(SqliteStore::new(folder.path().join("keys.db")));
    let (first, second) = (manager_on(open()).await, manager_on(open()).await);
    let key = first.create("a").await.unwrap();
    use_it(&first, key.expose_secret(), 3).await;
    use_it(&second, key.expose_secret(), 4).await;
    assert_eq!(total(&first, key.id()).await, 3, "its own");
    assert_eq!(total(&second, key.id()).await, 7);
    assert_eq!(total(&first, key.id()).await, 7);
    first.shutdown().await.unwrap();
    second.shutdown().await.unwrap();
}

#[actix_web::test]
async fn what_is_older_than_the_retention_is_forgotten() {
    let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_000 * HOUR)));
    let config = Config::builder()
        .usage_flush_interval(SOON)
        .usage_retention(Duration::from_secs(2 * 3_600))
        .build();
    let manager = ApiKeyManager::builder()
        .config(config.unwrap())
        .store(MemoryStore::new())
        .clock(clock.clone())
        .start()
        .await
        .unwrap();
    let key = manager.create("a").await.unwrap();
    for expected in [1, 2, 3, 3, 3] {
        use_it(&manager, key.expose_secret(), 1).await;
        // Two hours that are retained are over, and the third is in progress.
        let kept = async || total(&manager, key.id()).await == expected;
        assert!(within(PATIENCE, kept).await.is_some(), "{expected}");
        clock.advance(Duration::from_millis(HOUR as u64));
    }
}

/// The usage of all nodes is pruned, permanently.
#[actix_web::test]
async fn nothing_is_forgotten_by_a_clock_that_jumped_ahead() {
    const TEN_YEARS: i64 = 10 * 365 * 24 * HOUR;
    let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_000 * HOUR)));
    let store = GateStore::new();
    let manager = builder(&store, SOON).clock(clock.clone()).start();
    let manager = manager.await.unwrap();
    let key = manager.create("a").await.unwrap();
    use_it(&manager, key.expose_secret(), 1).await;
    let forgotten = async |times| {
        let done = async || store.count(Call::PruneUsage) == times;
        within(PATIENCE, done).await.is_some()
    };
    assert!(forgotten(1).await);
    // The second flush from here began after everything above, so the flush before it has ended,
    // and has pruned what it would.
    let turns = async || {
        for _ in 0..2 {
            let calls = store.count(Call::AddUsage);
            use_it(&manager, key.expose_secret(), 1).await;
            let written = async || store.count(Call::AddUsage) > calls;
            assert!(within(PATIENCE, written).await.is_some());
        }
    };
    clock.step_wall(TEN_YEARS);
    turns().await;
    clock.advance(Duration::from_millis(23 * HOUR as u64));
    turns().await;
    assert_eq!(store.count(Call::PruneUsage), 1);
    let kept = async |count| {
        let all = async || stored(&store, key.id()).await == count;
        within(PATIENCE, all).await.is_some()
    };
    assert!(kept(5).await);
    // Control: a day later it is trusted.
    clock.advance(Duration::from_millis(HOUR as u64));
    assert!(forgotten(2).await && kept(4).await);
}

#[actix_web::test]
async fn figures_of_usage_are_told() {
    let (recorder, store) = (Recorder::default(), GateStore::new());
    let config = Config::builder()
        .usage_flush_interval(SOON)
        .build()
        .unwrap();
    let builder = ApiKeyManager::builder()
        .config(config)
        .shared_store(Arc::<GateStore>::clone(&store));
    let manager = recorder.start(builder).await;
    let key = manager.create("a").await.unwrap();
    use_it(&manager, key.expose_secret(), 3).await;
    assert_eq!(total(&manager, key.id()).await, 3);
    let calls = |call, result| {
        let labels = [("call", call), ("result", result)];
        recorder.counter("apikey_store_calls_total", &labels)
    };
    assert_eq!(calls("read_usage", "answered"), 1);
    assert!(calls("add_usage", "answered") >= 1 && calls("add_usage", "failed") == 0);
    assert!(recorder.counter("apikey_usage_rows_total", &[]) >= 1);
    assert_eq!(recorder.counter("apikey_usage_lost_total", &[]), 0);
    store.fail(Call::AddUsage, Fault::Unavailable);
    use_it(&manager, key.expose_secret(), 3).await;
    let failed = async || calls("add_usage", "failed") >= 2;
    assert!(within(PATIENCE, failed).await.is_some());
}

#[actix_web::test]
async fn hours_days_and_spans_are_those_of_the_managers_clock() {
    let clock = Arc::new(ManualClock::at(Timestamp::from_millis(47 * HOUR + 5)));
    let manager = manager_at(Arc::new(MemoryStore::new()), clock.clone()).await;
    let key = manager.create("a").owner("42").await.unwrap();
    let other = manager.create("b").owner("42").await.unwrap();
    let stranger = manager.create("c").owner("4").await.unwrap();
    for _ in 0..3 {
        for key in [&key, &other, &stranger] {
            manager.verify(key.expose_secret()).await.unwrap();
        }
        clock.advance(Duration::from_millis(HOUR as u64));
    }
    let starts = |periods: Vec<UsageInterval>| -> Vec<(i64, u64)> {
        let periods = periods.iter();
        let hour = |at: Timestamp| at.as_millis() / HOUR;
        periods
            .map(|one| (hour(one.start), one.counts.requests))
            .collect()
    };
    let report = manager.usage(key.id()).await.unwrap();
    assert_eq!(starts(report.by_hour()), [(47, 1), (48, 1), (49, 1)]);
    assert_eq!(starts(report.by_day()), [(24, 1), (48, 2)]);
    let all = manager.owner_usage("42").await.unwrap();
    assert_eq!(starts(all.by_day()), [(24, 2), (48, 4)]);
    assert_eq!(all.by_key().len(), 2);
    let at = Timestamp::from_millis;
    let between = async |from, to| {
        let report = manager.usage(key.id()).between(at(from), at(to)).await;
        report.map(|report| report.total().requests)
    };
    assert_eq!(between(48 * HOUR, 49 * HOUR).await.unwrap(), 1);
    assert_eq!(between(48 * HOUR, 49 * HOUR + 1).await.unwrap(), 2);
    assert_eq!(between(48 * HOUR - 1, 49 * HOUR).await.unwrap(), 2);
    assert_eq!(between(0, 47 * HOUR).await.unwrap(), 0);
    for (from, to) in [(5, 5), (6, 5), (0, i64::MAX), (i64::MIN, i64::MAX)] {
        let error = between(from, to).await.unwrap_err().to_string();
        assert!(error.contains("at most ten years"), "{error}");
    }
}

#[actix_web::test]
async fn the_last_use_is_known_by_time_and_network() {
    let clock = Arc::new(ManualClock::at(Timestamp::from_millis(7 * HOUR)));
    for (precision, network) in [("24/48", Some("127.0.0.0/24")), ("off", None)] {
        let config = Config::builder().usage_network_precision(precision);
        let manager = ApiKeyManager::builder()
            .config(config.build().unwrap())
            .store(MemoryStore::new())
            .clock(clock.clone())
            .start()
            .await
            .unwrap();
        let server = serve(&manager);
        let key = manager.create("a").await.unwrap();
        assert_eq!(manager.last_used(key.id()).await.unwrap(), None);
        for _ in 0..2 {
            clock.advance(Duration::from_millis(3));
            server.get("/plain", key.expose_secret()).await.says("in");
        }
        let last = manager.last_used(key.id()).await.unwrap().unwrap();
        let now = clock.read().now;
        assert_eq!((last.key, last.at), (key.id(), now));
        let kept = last.network.map(|network| network.to_string());
        assert_eq!(kept.as_deref(), network);
    }
}

#[actix_web::test]
async fn a_store_that_keeps_no_usage_says_so() {
    let manager = manager_on(Arc::new(RecordsOnly::default())).await;
    let key = manager.create("a").await.unwrap();
    manager.verify(key.expose_secret()).await.unwrap();
    let read = manager.usage(key.id()).await.unwrap_err().to_string();
    let last = manager.last_used(key.id()).await.unwrap_err().to_string();
    assert!(
        read.contains("does not keep usage") && last == read,
        "{read} {last}"
    );
}
