//! The metrics agree with what clients saw, and their labels have values of a closed list.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use actix_web::test::{TestRequest, call_service, init_service};
use actix_web::{App, get, web};
use apikey_runtime::store::WriteOptions;
use apikey_runtime::{
    ApiKeyManager, Config, KeyId, KeyRecord, KeyStore, MemoryStore, Policy, RequireApiKey,
    Timestamp, api_key_required,
};
use apikey_test_support::http::Server;
use apikey_test_support::recorder::{Recorder, Series};
use apikey_test_support::store::{Call, Fault, GateStore};
use apikey_test_support::{PATIENCE, forge, within};

const DECISIONS: &str = "apikey_decisions_total";
const CHECK: &str = "apikey_check_seconds";
const CALLS: &str = "apikey_store_calls_total";
const POLLS: &str = "apikey_store_polls_total";

#[get("/plain")]
#[api_key_required]
async fn plain() -> &'static str {
    "in"
}

#[get("/scoped/{secret_part}")]
#[api_key_required(scope = "b")]
async fn scoped() -> &'static str {
    "in"
}

#[get("/optional")]
#[api_key_required(optional)]
async fn optional() -> &'static str {
    "in"
}

fn serve(manager: &ApiKeyManager) -> Server {
    let manager = manager.clone();
    Server::start(move |app| {
        manager.init_app(app);
        app.service((plain, scoped, optional));
        app.service(
            web::scope("/wrapped")
                .service(plain)
                .wrap(RequireApiKey::with(Policy::new())),
        );
    })
}

async fn start(recorder: &Recorder) -> ApiKeyManager {
    recorder
        .start(ApiKeyManager::builder().store(MemoryStore::new()))
        .await
}

/// What a client saw: the number of answers by the name of their problem.
type Seen = BTreeMap<String, u64>;

/// Sends a mix of requests, and counts the answers.
async fn a_day(manager: &ApiKeyManager) -> Seen {
    let server = serve(manager);
    let mut seen = Seen::new();
    let good = manager.create("a label").owner("an owner").await.unwrap();
    let dead = manager.create("b").await.unwrap();
    manager.revoke(dead.id()).await.unwrap();
    let good = good.expose_secret();
    let wrong = forge::wrong_secret(good);
    let unknown = forge::unknown();
    let requests = [
        ("/plain", Some(good), 9),
        ("/plain", None, 3),
        ("/plain", Some(wrong.as_str()), 2),
        ("/plain", Some(unknown.as_str()), 2),
        ("/plain", Some("nonsense"), 4),
        ("/plain", Some(dead.expose_secret()), 3),
        ("/scoped/x", Some(good), 2),
        ("/optional", None, 5),
        ("/optional", Some(good), 1),
        ("/wrapped/plain", None, 2),
    ];
    for (path, key, times) in requests {
        for _ in 0..times {
            let answer = server.get(path, key).await;
            let what = match answer.status {
                200 if key.is_none() => "anonymous".to_owned(),
                200 => "allowed".to_owned(),
                _ => answer.problem(),
            };
            *seen.entry(what).or_default() += 1;
        }
    }
    seen
}

/// Returns the same counts from the recorder.
fn counted(recorder: &Recorder) -> Seen {
    let mut counted = recorder.counters(DECISIONS, "reason");
    for result in ["allowed", "anonymous"] {
        let count = recorder.counter(DECISIONS, &[("result", result), ("reason", "")]);
        counted.insert(result.to_owned(), count);
    }
    counted.remove("");
    counted
}

#[actix_web::test]
async fn decisions_are_counted_as_clients_saw_them() {
    let (recorder, other) = (Recorder::default(), Recorder::default());
    let manager = start(&recorder).await;
    let _bystander = start(&other).await;
    let seen = a_day(&manager).await;
    assert_eq!(seen.values().sum::<u64>(), 33);
    // Up to date within a moment, while the manager runs.
    let told = within(PATIENCE, async || counted(&recorder) == seen).await;
    assert!(told.is_some(), "{:?} {seen:?}", counted(&recorder));
    manager.shutdown().await.unwrap();
    assert_eq!(counted(&recorder), seen, "once, and not again at the end");
    let results = recorder.counters(DECISIONS, "result");
    assert_eq!(
        results.keys().collect::<Vec<_>>(),
        ["allowed", "anonymous", "denied"]
    );
    // The recorder of a manager without requests does not have decisions.
    assert!(other.counters(DECISIONS, "result").is_empty());
}

#[actix_web::test]
async fn what_was_counted_last_is_told_at_the_end() {
    let recorder = Recorder::default();
    let manager = start(&recorder).await;
    let key = manager.create("a").await.unwrap();
    for _ in 0..5 {
        manager.verify(key.expose_secret()).await.unwrap();
    }
    manager.shutdown().await.unwrap();
    let health = manager.health();
    let counter = |name| recorder.counter(name, &[]);
    assert_eq!(counter("apikey_cache_hits_total"), health.cache_hits);
    assert_eq!(counter("apikey_cache_misses_total"), health.cache_misses);
    assert_eq!(health.cache_hits + health.cache_misses, 5);
    assert!(health.cache_misses > 0, "the first");
    assert_eq!(counted(&recorder)["allowed"], 5);
    assert!(manager.verify("nonsense").await.is_err());
    drop(manager);
    let told = within(PATIENCE, async || {
        counted(&recorder).contains_key("invalid-key")
    })
    .await;
    assert!(told.is_some(), "later ones, too");
}

#[actix_web::test]
async fn two_guards_are_two_decisions_and_the_managers_of_a_process_add_up() {
    let recorder = Recorder::default();
    for round in 1..=2 {
        let manager = start(&recorder).await;
        let server = serve(&manager);
        let key = manager.create("a").await.unwrap();
        let answer = server.get("/wrapped/plain", key.expose_secret()).await;
        answer.says("in");
        manager.shutdown().await.unwrap();
        assert_eq!(counted(&recorder)["allowed"], 2 * round);
    }
}

/// One cached check in 256 is timed, and so is every check that asks the store.
#[actix_web::test]
async fn checks_are_timed_by_the_path_that_they_took() {
    let recorder = Recorder::default();
    // Longer than any pause of the machine.
    let store = MemoryStore::new().with_lease(Duration::from_secs(60));
    let builder = ApiKeyManager::builder().store(store);
    let manager = recorder.start(builder).await;
    let from = |path| recorder.histogram(CHECK, &[("path", path)]);
    let mut keys = Vec::new();
    for _ in 0..3 {
        keys.push(manager.create("a").await.unwrap());
    }
    for key in &keys {
        manager.verify(key.expose_secret()).await.unwrap();
    }
    assert_eq!((from("cache").len(), from("store").len()), (0, 3));
    // Three checks began above.
    for _ in 0..256 * 4 {
        manager.verify(keys[0].expose_secret()).await.unwrap();
    }
    // The poll that learns of the keys evicts them once more, and a read at that moment is not a
    // hit.
    let (timed, asked) = (from("cache").len(), from("store").len());
    assert!((3..=4).contains(&timed), "{timed}");
    assert!((3..=6).contains(&asked), "{asked}");
    let mut all = from("cache");
    all.extend(from("store"));
    assert!(
        all.iter().all(|seconds| (0.0..10.0).contains(seconds)),
        "{all:?}"
    );
    assert!(all.iter().any(|seconds| *seconds > 0.0), "{all:?}");
}

#[actix_web::test]
async fn the_cache_the_lease_and_the_store_are_told_of() {
    let recorder = Recorder::default();
    let lease = Duration::from_millis(600);
    let store = GateStore::around(Arc::new(MemoryStore::new().with_lease(lease)));
    let builder = ApiKeyManager::builder().shared_store(store.clone());
    let manager = recorder.start(builder).await;
    let mut keys = Vec::new();
    for _ in 0..3 {
        keys.push(manager.create("a").await.unwrap());
    }
    // Earlier reads would be evicted by the poll that learns of the keys.
    store.polled().await;
    for key in &keys {
        manager.verify(key.expose_secret()).await.unwrap();
    }
    assert!(manager.revoke(KeyId::from_u128(7)).await.is_err());
    let well = async || {
        recorder.gauge("apikey_cache_entries") == Some(3.0)
            && recorder
                .gauge("apikey_lease_seconds")
                .is_some_and(|left| left > 0.0)
            && recorder.counter(POLLS, &[("result", "answered")]) > 1
    };
    assert!(within(PATIENCE, well).await.is_some());
    assert_eq!(recorder.counter(POLLS, &[("result", "failed")]), 0);
    let calls = |call, result| recorder.counter(CALLS, &[("call", call), ("result", result)]);
    assert_eq!(
        (calls("insert", "answered"), calls("insert", "failed")),
        (3, 0)
    );
    assert_eq!((calls("find", "answered"), calls("find", "failed")), (3, 0));
    // An unknown key is an answer, too.
    assert_eq!(
        (calls("revoke", "answered"), calls("revoke", "failed")),
        (1, 0)
    );

    store.go_down();
    store.fail(Call::Insert, Fault::Backend);
    assert!(manager.create("b").await.is_err());
    assert!(manager.verify(&forge::unknown()).await.is_err());
    let ill = async || {
        recorder.gauge("apikey_lease_seconds") == Some(0.0)
            && recorder.counter(POLLS, &[("result", "failed")]) > 0
    };
    assert!(within(PATIENCE, ill).await.is_some());
    assert_eq!((calls("insert", "failed"), calls("find", "failed")), (1, 1));
    store.heal();
    manager.shutdown().await.unwrap();
    assert_eq!(recorder.gauge("apikey_cache_entries"), Some(0.0));
}

#[actix_web::test]
async fn no_answer_in_time_is_a_call_that_failed() {
    let recorder = Recorder::default();
    let store = GateStore::new();
    let config = Config::builder().store_timeout(Duration::from_secs(1));
    let builder = ApiKeyManager::builder().config(config.build().unwrap());
    let manager = recorder.start(builder.shared_store(store.clone())).await;
    store.fail(Call::Insert, Fault::Hangs);
    store.fail(Call::Find, Fault::Hangs);
    assert!(manager.create("a").await.is_err());
    assert!(manager.verify(&forge::unknown()).await.is_err());
    for call in ["insert", "find"] {
        let failed = recorder.counter(CALLS, &[("call", call), ("result", "failed")]);
        assert_eq!(failed, 1, "{call}");
    }
}

/// In process, because a request without a manager reports to its own thread's recorder.
#[actix_web::test]
async fn a_request_without_a_manager_is_counted() {
    let recorder = Recorder::default();
    let _here = metrics::set_default_local_recorder(&recorder);
    let app = init_service(App::new().service(plain)).await;
    let request = TestRequest::get().uri("/plain").to_request();
    assert_eq!(call_service(&app, request).await.status(), 500);
    let labels = [("result", "denied"), ("reason", "no-manager")];
    assert_eq!(recorder.counter(DECISIONS, &labels), 1);
}

/// Returns what a series has beyond the listed values, which do not contain anything of a key or a
/// request.
fn stranger((name, labels): &Series) -> Option<String> {
    const REASONS: [&str; 23] = [
        "",
        "missing-key",
        "invalid-key",
        "expired-key",
        "key-not-yet-valid",
        "idle-key",
        "revoked-key",
        "disabled-key",
        "multiple-keys",
        "malformed-request",
        "body-too-large",
        "body-timeout",
        "unsupported-content-encoding",
        "address-not-permitted",
        "method-not-permitted",
        "https-required",
        "insufficient-scope",
        "rate-limited",
        "quota-exceeded",
        "too-many-failed-attempts",
        "no-manager",
        "misconfigured-route",
        "store-unavailable",
    ];
    let calls = [
        "insert",
        "find",
        "list",
        "update",
        "revoke",
        "revoke_owner",
        "find_owner",
        "revoke_owner_keys",
        "set_owner_suspended",
        "mark_revoked_keys",
        "purge",
        "members",
        "charge",
        "refill",
        "add_usage",
        "read_usage",
        "roll_up_usage",
        "prune_usage",
        "count_live_keys",
        "read_audit",
        "prune_audit",
        "claim_notices",
        "finish_notices",
        "shared_secret",
        "list_owners",
    ];
    let allowed = |label: &str| -> &[&str] {
        match (name.as_str(), label) {
            (DECISIONS, "result") => &["allowed", "anonymous", "denied"],
            (DECISIONS, "reason") => &REASONS,
            (CHECK, "path") => &["cache", "store"],
            (POLLS, "result") => &["answered", "failed", "not_member"],
            (CALLS, "call") => &calls,
            (CALLS, "result") => &["answered", "failed"],
            _ => &[],
        }
    };
    let strange = |(label, value): &&(String, String)| !allowed(label).contains(&value.as_str());
    let found = labels.iter().find(strange);
    found.map(|(label, value)| format!("{name}: {label}={value:?}"))
}

#[actix_web::test]
async fn every_label_is_a_word_of_a_closed_list_and_every_name_is_described() {
    let recorder = Recorder::default();
    let manager = start(&recorder).await;
    let (lookups, series) = (recorder.lookups(), recorder.all());
    a_day(&manager).await;
    manager.shutdown().await.unwrap();
    // Handles are cached: requests do not look anything up.
    assert_eq!((recorder.lookups(), recorder.all()), (lookups, series));

    let strangers: Vec<_> = recorder.all().iter().filter_map(stranger).collect();
    assert!(strangers.is_empty(), "{strangers:?}");
    let names: BTreeSet<String> = recorder.all().into_iter().map(|(name, _)| name).collect();
    assert!(
        names.iter().all(|name| name.starts_with("apikey_")),
        "{names:?}"
    );
    let described = recorder.described();
    assert_eq!(described.keys().cloned().collect::<BTreeSet<_>>(), names);
    assert!(described.values().all(|text| text.len() > 10));
    let guide = include_str!("../../apikey-runtime/docs/observability.md");
    for name in &names {
        assert!(guide.contains(&format!("`{name}`")), "{name} in the guide");
    }

    // Control: a label with a key's id is detected.
    let _here = metrics::set_default_local_recorder(&recorder);
    metrics::counter!(DECISIONS, "result" => "allowed", "reason" => "2Qzf0").increment(1);
    assert_eq!(recorder.all().iter().filter_map(stranger).count(), 1);
    assert_ne!(recorder.lookups(), lookups);
}

#[actix_web::test]
async fn a_record_whose_digest_is_of_an_unknown_kind_is_counted() {
    let (recorder, store) = (Recorder::default(), Arc::new(MemoryStore::new()));
    let manager = recorder
        .start(ApiKeyManager::builder().shared_store(store.clone()))
        .await;
    let unreadable = || recorder.counter("apikey_unreadable_records_total", &[]);
    let good = manager.create("a").await.unwrap();
    manager.verify(good.expose_secret()).await.unwrap();
    let unknown = forge::key("my_api", KeyId::from_u128(7).as_str(), &"s".repeat(64));
    manager.verify(&unknown).await.unwrap_err();
    assert_eq!(unreadable(), 0);
    let id = KeyId::from_u128(8);
    let digest = format!("hmac-sha256$v9${}", "0".repeat(64));
    let record = KeyRecord::new(id, "my_api", "bad", digest, Timestamp::from_millis(0));
    store.insert(&record, &WriteOptions::new()).await.unwrap();
    let key = forge::key("my_api", id.as_str(), &"s".repeat(64));
    manager.verify(&key).await.unwrap_err();
    assert_eq!(unreadable(), 1);
}

#[actix_web::test]
async fn requests_of_many_threads_are_all_counted() {
    let recorder = Recorder::default();
    let manager = start(&recorder).await;
    let key = manager.create("a").await.unwrap();
    let key: Arc<str> = key.expose_secret().into();
    manager.verify(&key).await.unwrap();
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let (manager, key) = (manager.clone(), Arc::clone(&key));
            std::thread::spawn(move || {
                actix_web::rt::System::new().block_on(async {
                    for _ in 0..500 {
                        manager.verify(&key).await.unwrap();
                        manager.verify("nonsense").await.unwrap_err();
                    }
                });
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    manager.shutdown().await.unwrap();
    let counted = counted(&recorder);
    assert_eq!((counted["allowed"], counted["invalid-key"]), (4_001, 4_000));
}
