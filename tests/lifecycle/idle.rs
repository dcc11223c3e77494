//! Keys that are not used for the configured time are denied, until an administrator enables them.

use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Service;
use actix_web::web;
use apikey_runtime::clock::{Clock, ManualClock};
use apikey_runtime::config::ConfigBuilder;
use apikey_runtime::manager::PresentedRevocation;
use apikey_runtime::{
    ApiKey, ApiKeyManager, Config, Error, KeyHeaders, KeyState, KeyStore, MemoryStore, NewKey,
    Policy, RequireApiKey, Scopes, api_key_required,
};
use apikey_test_support::fleet::Fleet;
use apikey_test_support::forge;
use apikey_test_support::http::{Answer, Server};
use apikey_test_support::log::Log;
use apikey_test_support::store::{Call, Fault, GateStore, RecordsOnly};
use serde_json::Value;

use crate::{HOUR, fleets};

/// After this time without a use a key is idle.
const DAY: Duration = Duration::from_secs(24 * 3_600);

const MOMENT: Duration = Duration::from_millis(1);

/// How long an idle key is remembered.
const SECOND: Duration = Duration::from_secs(1);

/// Says when the key expires.
#[api_key_required]
async fn plain(key: ApiKey) -> String {
    format!("{:?}", key.expires())
}

#[api_key_required(fresh)]
async fn fresh() -> &'static str {
    "in"
}

/// Denies what the guard around it allows.
#[api_key_required(scope = "none")]
async fn out_of_scope() -> &'static str {
    "in"
}

/// A process: it writes usage only if a test asks for it.
pub(crate) struct IdleNode {
    pub(crate) manager: ApiKeyManager,
    server: Server,
}

fn settings() -> ConfigBuilder {
    Config::builder()
        .idle_expiry(DAY)
        .usage_flush_interval(HOUR)
        .store_timeout(Duration::from_secs(30))
}

impl IdleNode {
    pub(crate) async fn start(store: Arc<dyn KeyStore>, clock: &Arc<ManualClock>) -> Self {
        Self::start_with(settings(), store, clock).await
    }

    async fn start_with(
        config: ConfigBuilder,
        store: Arc<dyn KeyStore>,
        clock: &Arc<ManualClock>,
    ) -> Self {
        let manager = ApiKeyManager::builder()
            .config(config.build().unwrap())
            .shared_store(store)
            .clock(Arc::clone(clock) as Arc<dyn Clock>)
            .start()
            .await
            .unwrap();
        let (app_manager, clock) = (manager.clone(), Arc::clone(clock));
        let server = Server::start(move |app| {
            app_manager.init_app(app);
            let between_guards = Arc::clone(&clock);
            let twice = web::scope("/twice").wrap(RequireApiKey::new());
            let headers = web::scope("/headers").wrap(KeyHeaders);
            let between = web::scope("/between")
                .wrap_fn(move |request, service| {
                    between_guards.advance(SECOND);
                    service.call(request)
                })
                .wrap(RequireApiKey::with(Policy::new().fresh()));
            app.service(between.route("", web::get().to(plain)))
                .route("/plain", web::get().to(plain))
                .route("/fresh", web::get().to(fresh))
                .service(headers.route("", web::get().to(plain)))
                .service(twice.route("", web::get().to(out_of_scope)));
        });
        Self { manager, server }
    }

    pub(crate) async fn get(&self, path: &str, key: &NewKey) -> Answer {
        self.server.get(path, key.expose_secret()).await
    }

    /// Uses a key that is not idle.
    #[track_caller]
    pub(crate) fn allows(&self, key: &NewKey) -> impl Future<Output = ()> {
        let place = std::panic::Location::caller();
        async move {
            let answer = self.get("/plain", key).await;
            assert_eq!(answer.status, 200, "{place}: {answer:?}");
        }
    }

    #[track_caller]
    pub(crate) fn finds_idle(&self, key: &NewKey) -> impl Future<Output = ()> {
        let place = std::panic::Location::caller();
        async move {
            for path in ["/plain", "/fresh"] {
                let answer = self.get(path, key).await;
                assert_eq!(answer.status, 401, "{place}: {answer:?}");
                assert_eq!(answer.problem(), "idle-key", "{place}");
            }
        }
    }

    /// Writes what this process counted.
    pub(crate) async fn flush(&self, key: &NewKey) {
        self.manager.last_used(key.id()).await.unwrap();
    }

    async fn create(&self) -> NewKey {
        self.manager.create("a").await.unwrap()
    }
}

fn a_clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::starting_now())
}

fn memory() -> Arc<GateStore> {
    // Longer than the step of the clock to the end of a key.
    let store = MemoryStore::new().with_lease(3 * SECOND);
    GateStore::around(Arc::new(store))
}

async fn each() -> Vec<(Fleet, Arc<ManualClock>, IdleNode)> {
    let mut nodes = Vec::new();
    for fleet in fleets().await {
        let clock = a_clock();
        let node = IdleNode::start(fleet.store(), &clock).await;
        nodes.push((fleet, clock, node));
    }
    nodes
}

#[actix_web::test]
async fn at_the_very_millisecond_an_unused_key_is_denied_on_every_store() {
    for (_fleet, clock, node) in each().await {
        let unused = node.create().await;
        let used = node.create().await;
        let later = clock.read().now.checked_add(HOUR).unwrap();
        let begins = node.manager.create("b").not_before(later);
        let begins = begins.await.unwrap();
        clock.advance(DAY - MOMENT);
        node.allows(&used).await;
        clock.advance(MOMENT);
        node.finds_idle(&unused).await;
        node.allows(&used).await;
        clock.advance(HOUR - MOMENT);
        // The time counts from the beginning of its validity.
        node.allows(&begins).await;
        clock.advance(DAY - HOUR);
        node.allows(&used).await;
        clock.advance(DAY - MOMENT);
        node.allows(&used).await;
        clock.advance(DAY);
        for key in [&unused, &used, &begins] {
            node.finds_idle(key).await;
        }
    }
}

#[actix_web::test]
async fn the_answer_tells_only_a_holder_of_the_secret_what_to_do() {
    let clock = a_clock();
    let node = IdleNode::start(memory(), &clock).await;
    let key = node.create().await;
    clock.advance(DAY);
    let answer = node.get("/plain", &key).await;
    answer.refused(401, "idle-key");
    let problem: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(
        problem["detail"],
        "The API key was not used for too long. Its issuer can enable it again."
    );
    let challenge = answer.header("www-authenticate").unwrap();
    assert!(challenge.contains("invalid_token"), "{challenge}");
    let wrong = forge::wrong_secret(key.expose_secret());
    let answer = node.server.get("/plain", wrong.as_str()).await;
    answer.refused(401, "invalid-key");
    let total = node.manager.usage(key.id()).await.unwrap().total();
    assert_eq!(
        total.denied,
        [(apikey_runtime::DenyReason::Idle, 1)],
        "the wrong secret is not counted"
    );
}

#[actix_web::test]
async fn enabling_a_key_restarts_the_time_on_every_store() {
    for (fleet, clock, node) in each().await {
        let elsewhere = IdleNode::start(fleet.store(), &clock).await;
        let create = node.manager.create("a").scopes(["orders:read"]);
        let key = create.await.unwrap();
        clock.advance(DAY);
        node.finds_idle(&key).await;
        elsewhere.finds_idle(&key).await;
        // Neither an update nor a rotation does.
        node.manager.update(key.id()).label("b").await.unwrap();
        node.finds_idle(&key).await;
        let key = node.manager.rotate(key.id()).await.unwrap();
        node.finds_idle(&key).await;
        // Who does not hold the scopes of the key may not enable it, whatever else it is.
        let enable = || node.manager.enable(key.id());
        let refused = enable().granted_by(&Scopes::none()).await;
        assert!(matches!(refused, Err(Error::Policy(_))), "{refused:?}");
        node.finds_idle(&key).await;
        enable().granted_by(&key.record().scopes).await.unwrap();
        let record = node.manager.get(key.id()).await.unwrap();
        assert!(record.enabled_at > Some(record.created), "{}", fleet.name);
        elsewhere.allows(&key).await;
        let node = IdleNode::start(fleet.store(), &clock).await;
        clock.advance(DAY - MOMENT);
        // A use by another process that is not written, and so not known here.
        node.allows(&key).await;
    }
}

#[actix_web::test]
async fn a_use_elsewhere_keeps_a_key_once_it_is_written_on_every_store() {
    for (fleet, clock, node) in each().await {
        let elsewhere = IdleNode::start(fleet.store(), &clock).await;
        let key = node.create().await;
        elsewhere.allows(&key).await;
        clock.advance(DAY / 2);
        node.allows(&key).await;
        clock.advance(DAY / 2);
        // What a process counted itself counts at once. Control: another one does not know of it.
        node.allows(&key).await;
        elsewhere.finds_idle(&key).await;
        node.flush(&key).await;
        clock.advance(SECOND);
        elsewhere.allows(&key).await;
        // A process that starts later knows the same.
        node.manager.shutdown().await.unwrap();
        elsewhere.manager.shutdown().await.unwrap();
        clock.advance(DAY - SECOND);
        let restarted = IdleNode::start(fleet.store(), &clock).await;
        restarted.allows(&key).await;
        restarted.manager.shutdown().await.unwrap();
        clock.advance(DAY);
        let restarted = IdleNode::start(fleet.store(), &clock).await;
        restarted.finds_idle(&key).await;
    }
}

#[actix_web::test]
async fn while_usage_cannot_be_written_a_process_knows_its_own_uses() {
    let clock = a_clock();
    let store = memory();
    let node = IdleNode::start(store.clone(), &clock).await;
    let key = node.create().await;
    store.fail(Call::AddUsage, Fault::Unavailable);
    for hours in 0..5 {
        clock.advance(DAY - HOUR);
        node.allows(&key).await;
        // In turns, the use is taken from the tally, and not.
        if hours % 2 == 0 {
            assert!(node.manager.last_used(key.id()).await.is_err());
        }
    }
    // Control: it is the process that knows them.
    clock.advance(HOUR * 2);
    let elsewhere = IdleNode::start(store.clone(), &clock).await;
    elsewhere.finds_idle(&key).await;
    store.heal();
    node.flush(&key).await;
    clock.advance(SECOND);
    elsewhere.allows(&key).await;
}

#[actix_web::test]
async fn a_use_counts_while_it_is_being_written() {
    let clock = a_clock();
    let store = memory();
    let node = IdleNode::start(store.clone(), &clock).await;
    let key = node.create().await;
    clock.advance(DAY / 2);
    node.allows(&key).await;
    let gate = store.gate_before(Call::AddUsage);
    let manager = node.manager.clone();
    let id = key.id();
    let flush = actix_web::rt::spawn(async move { manager.last_used(id).await });
    gate.arrived().await;
    clock.advance(DAY / 2 + HOUR);
    node.allows(&key).await;
    gate.open();
    flush.await.unwrap().unwrap();
}

#[actix_web::test]
async fn a_request_that_a_second_guard_denies_is_not_a_use() {
    let clock = a_clock();
    let node = IdleNode::start(memory(), &clock).await;
    let key = node.create().await;
    clock.advance(DAY - HOUR);
    assert_eq!(node.get("/twice", &key).await.status, 403);
    clock.advance(HOUR);
    node.finds_idle(&key).await;
}

#[actix_web::test]
async fn without_an_answer_of_the_store_a_key_is_not_allowed() {
    let log = Log::capture();
    let clock = a_clock();
    let store = memory();
    let node = IdleNode::start(store.clone(), &clock).await;
    let key = node.create().await;
    clock.advance(DAY - HOUR);
    node.allows(&key).await;
    clock.advance(HOUR);
    let id = key.id().to_string();
    let warnings = || log.lines(&["WARN", "the key store failed", &id]).len();
    for call in [Call::LastUsed, Call::Find] {
        let before = warnings();
        for fault in [Fault::Unavailable, Fault::Backend] {
            store.fail(call, fault);
            for path in ["/plain", "/fresh"] {
                let answer = node.get(path, &key).await;
                answer.refused(503, "store-unavailable");
            }
            store.heal();
        }
        // Failed reads of records are told once for all keys.
        assert_eq!(warnings() > before, call == Call::LastUsed, "{call:?}");
    }
    node.allows(&key).await;
    // A call that hangs is given up.
    let hasty = settings().store_timeout(Duration::from_millis(200));
    let hasty = IdleNode::start_with(hasty, store.clone(), &clock).await;
    store.fail(Call::LastUsed, Fault::Hangs);
    let answer = hasty.get("/plain", &key).await;
    answer.refused(503, "store-unavailable");
}

/// The second guard uses what was read for the first one, and then reads again: the first one's use counts.
#[actix_web::test]
async fn a_key_that_becomes_idle_between_two_guards_was_used_by_the_first() {
    let clock = a_clock();
    let store = memory();
    let node = IdleNode::start(store.clone(), &clock).await;
    let key = node.create().await;
    clock.advance(DAY - SECOND / 2);
    store.polled().await;
    let finds = store.count(Call::Find);
    assert_eq!(node.get("/between", &key).await.status, 200);
    assert_eq!(store.count(Call::Find), finds + 2);
    clock.advance(DAY - 2 * SECOND);
    node.allows(&key).await;
}

/// The last use is read once in the time, whatever the number of requests.
#[actix_web::test]
async fn a_key_in_use_is_read_once_in_the_time() {
    let clock = a_clock();
    let store = memory();
    let node = IdleNode::start(store.clone(), &clock).await;
    let key = node.create().await;
    for day in 0..3 {
        clock.advance(DAY - SECOND);
        node.allows(&key).await;
        store.polled().await;
        node.allows(&key).await;
        let finds = store.count(Call::Find);
        node.allows(&key).await;
        assert_eq!(store.count(Call::Find), finds, "by the cache");
        if day == 0 {
            assert_eq!(
                store.count(Call::LastUsed),
                0,
                "it was created a moment ago"
            );
        }
        node.flush(&key).await;
        let reads = store.count(Call::LastUsed);
        // The time has come, and the lease holds.
        clock.advance(SECOND);
        node.allows(&key).await;
        let read = || (store.count(Call::LastUsed), store.count(Call::Find));
        assert_eq!(read(), (reads + 1, finds + 1));
        for _ in 0..5 {
            node.allows(&key).await;
        }
        assert_eq!(read(), (reads + 1, finds + 1));
        node.flush(&key).await;
    }
}

/// An idle key costs two reads of its last use a second, whatever the number of requests.
#[actix_web::test]
async fn an_idle_key_is_remembered_for_a_second() {
    let clock = a_clock();
    let store = memory();
    let node = IdleNode::start(store.clone(), &clock).await;
    let key = node.create().await;
    clock.advance(DAY);
    store.polled().await;
    node.get("/plain", &key).await.refused(401, "idle-key");
    let reads = store.count(Call::LastUsed);
    for _ in 0..5 {
        node.get("/plain", &key).await.refused(401, "idle-key");
    }
    assert_eq!(store.count(Call::LastUsed), reads);
    clock.advance(SECOND);
    node.get("/plain", &key).await.refused(401, "idle-key");
    assert_eq!(store.count(Call::LastUsed), reads + 2);
}

#[actix_web::test]
async fn a_clock_that_jumps_ahead_denies_until_it_is_set_right() {
    let clock = a_clock();
    let node = IdleNode::start(memory(), &clock).await;
    let key = node.create().await;
    let step = i64::try_from((DAY + HOUR).as_millis()).unwrap();
    for _ in 0..3 {
        node.allows(&key).await;
        clock.step_wall(step);
        node.finds_idle(&key).await;
        clock.step_wall(-step);
        node.allows(&key).await;
    }
    // A clock that is set back does not prolong it.
    clock.step_wall(-step);
    node.allows(&key).await;
    clock.advance(DAY);
    node.finds_idle(&key).await;
    node.manager.enable(key.id()).await.unwrap();
    node.allows(&key).await;
}

#[actix_web::test]
async fn an_expiry_is_shown_as_it_is_and_comes_first() {
    let clock = a_clock();
    let node = IdleNode::start(memory(), &clock).await;
    let create = |days: u32| node.manager.create("a").expires_in(DAY * days);
    let (far, near) = (create(100).await.unwrap(), create(3).await.unwrap());
    for (key, is_near) in [(&far, false), (&near, true)] {
        let answer = node.get("/headers", key).await;
        answer.says(&format!("{:?}", key.record().expires));
        let header = answer.header("api-key-expires");
        let expires = key.record().expires.unwrap().as_millis() / 1_000;
        let expected = is_near.then(|| format!("@{expires}"));
        assert_eq!(header, expected.as_deref());
    }
    clock.advance(DAY + HOUR);
    node.finds_idle(&near).await;
    node.manager.disable(near.id()).await.unwrap();
    node.get("/plain", &near).await.refused(401, "disabled-key");
    node.manager.enable(near.id()).await.unwrap();
    node.allows(&near).await;
    clock.advance(DAY + HOUR);
    node.finds_idle(&near).await;
    clock.advance(DAY);
    node.get("/plain", &near).await.refused(401, "expired-key");
    node.get("/fresh", &near).await.refused(401, "expired-key");
    node.manager.revoke(near.id()).await.unwrap();
    node.get("/plain", &near).await.refused(401, "revoked-key");
}

#[actix_web::test]
async fn an_owner_that_is_resumed_has_the_keys_that_were_used() {
    let clock = a_clock();
    let node = IdleNode::start(memory(), &clock).await;
    let create = || node.manager.create("a").owner("acme");
    let (used, unused) = (create().await.unwrap(), create().await.unwrap());
    clock.advance(DAY - HOUR);
    node.allows(&used).await;
    node.manager.suspend_owner("acme").await.unwrap();
    clock.advance(HOUR);
    for key in [&used, &unused] {
        node.get("/plain", key).await.refused(401, "disabled-key");
    }
    node.manager.resume_owner("acme").await.unwrap();
    node.allows(&used).await;
    node.finds_idle(&unused).await;
}

#[actix_web::test]
async fn pages_show_which_keys_are_idle_on_every_store() {
    for (fleet, clock, node) in each().await {
        let manager = &node.manager;
        let create = || manager.create("a").owner("acme");
        let unused = create().await.unwrap();
        clock.advance(MOMENT);
        let used = create().await.unwrap();
        clock.advance(DAY - HOUR);
        node.allows(&used).await;
        let young = create().await.unwrap();
        clock.advance(HOUR);
        let ids = async |state: KeyState| {
            let page = manager.list().owner("acme").state(state).await.unwrap();
            page.keys.iter().map(|key| key.id).collect::<Vec<_>>()
        };
        assert_eq!(ids(KeyState::Idle).await, [unused.id()], "{}", fleet.name);
        // The newest first.
        let active = [young.id(), used.id()];
        assert_eq!(ids(KeyState::Active).await, active, "{}", fleet.name);
        let page = manager.list().owner("acme").with_usage().await.unwrap();
        let states: Vec<_> = page
            .keys
            .iter()
            .map(|record| {
                let used = page.last_used.iter().find(|used| used.key == record.id);
                manager.state_of(record, used)
            })
            .collect();
        let expected = [KeyState::Active, KeyState::Active, KeyState::Idle];
        assert_eq!(states, expected);
        // An idle key is live: it can be enabled.
        assert_eq!(page.live_keys, Some(3), "{}", fleet.name);
        // Its holder learns that it is not active, and can revoke it.
        let is_active = async |key: &NewKey| {
            let answer = manager.introspect(key.expose_secret()).await;
            answer.unwrap().active
        };
        assert!(is_active(&used).await && !is_active(&unused).await);
        manager.enable(unused.id()).await.unwrap();
        assert!(is_active(&unused).await);
        clock.advance(DAY);
        let revoked = manager.revoke_presented(unused.expose_secret()).await;
        assert_eq!(revoked.unwrap(), PresentedRevocation::Revoked(unused.id()));
    }
}

#[actix_web::test]
async fn an_idle_expiry_that_cannot_be_kept_is_an_error_at_the_start() {
    for hours in [0, 23, 876_001] {
        let built = Config::builder().idle_expiry(HOUR * hours).build();
        assert_eq!(
            built.unwrap_err().to_string(),
            "configuration: `idle_expiry_hours` is outside 24 to 876000 (hours); write `2160`, or leave it out"
        );
    }
    let builder = |config: ConfigBuilder| {
        let builder = ApiKeyManager::builder().config(config.build().unwrap());
        builder.store(RecordsOnly::default())
    };
    let refused = builder(settings()).start().await.unwrap_err();
    assert!(matches!(refused, Error::Unsupported(_)), "{refused:?}");
    let message = refused.to_string();
    for part in ["`idle_expiry_hours`", "does not keep usage", "leave"] {
        assert!(message.contains(part), "{message}");
    }
    // Control: without it, the store suffices.
    assert!(builder(Config::builder()).start().await.is_ok());
}

/// Control: by default a key is not idle, however long it was not used.
#[actix_web::test]
async fn by_default_an_unused_key_stays() {
    let clock = a_clock();
    let store = memory();
    let node = IdleNode::start_with(Config::builder(), store.clone(), &clock).await;
    let key = node.create().await;
    clock.advance(DAY * 1_000);
    node.allows(&key).await;
    let page = node.manager.list().state(KeyState::Active).await.unwrap();
    assert_eq!(page.keys.len(), 1);
    assert_eq!(store.count(Call::LastUsed), 0);
}
