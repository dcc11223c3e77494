//! Limits that the store counts: its faults, changes meanwhile, and prefetched units.

use std::sync::Arc;
use std::time::Duration;

use apikey_runtime::clock::{Clock, ManualClock};
use apikey_runtime::limit::{CounterState, LimitRule};
use apikey_runtime::store::{Charge, ChargeOutcome, LimitStore, StoreError};
use apikey_runtime::{
    ApiKeyManager, Config, DenyReason, KeyId, KeyStore, LimiterFallback, MemoryStore, NewKey,
    Policy, Quota, Rate, Timestamp,
};
use apikey_test_support::store::{Call, Fault, Forward, Forwarding, GateStore};
use apikey_test_support::{PATIENCE, soon, within};

/// 2026-11-22T12:00:00Z.
const NOON: i64 = 1_795_348_800_000;

const LOCAL: Policy = Policy::new().on_limiter_down(LimiterFallback::Local);

struct Scene {
    store: Arc<GateStore>,
    manager: ApiKeyManager,
    clock: Arc<ManualClock>,
}

impl Scene {
    async fn new(config: Config) -> Self {
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(NOON)));
        let store = GateStore::new();
        let builder = ApiKeyManager::builder().config(config);
        let builder = builder.shared_store(store.clone() as Arc<dyn KeyStore>);
        let manager = builder.clock(clock.clone() as Arc<dyn Clock>).start();
        Self {
            store,
            manager: manager.await.unwrap(),
            clock,
        }
    }

    /// Creates a key with a rate of 50 a minute and this many credits, and warms the cache.
    async fn key(&self, credits: u64) -> NewKey {
        let key = self
            .manager
            .create("a")
            .limit("minute", Rate::per_minute(50));
        let key = key
            .limit("credits", Quota::lifetime(credits))
            .await
            .unwrap();
        // The notification of the key causes a poll, which evicts it once more.
        self.store.polled().await;
        let free = Policy::new().cost(0);
        self.manager
            .verify_for(key.expose_secret(), &free)
            .await
            .unwrap();
        key
    }

    async fn ask(&self, key: &NewKey, policy: &Policy) -> Option<DenyReason> {
        let check = self.manager.verify_for(key.expose_secret(), policy);
        soon(check).await.err().map(|denied| denied.reason())
    }

    /// Returns the units left of the rate and of the credits.
    async fn left(&self, key: &NewKey) -> (u64, u64) {
        let stands = self.manager.limits(key.id()).await.unwrap();
        (stands[0].remaining, stands[1].remaining)
    }

    async fn is_left(&self, key: &NewKey, left: (u64, u64)) {
        let comes = within(PATIENCE, async || self.left(key).await == left);
        assert!(comes.await.is_some(), "{:?} is left", self.left(key).await);
    }
}

fn quick() -> Config {
    let config = Config::builder().store_timeout(Duration::from_secs(1));
    config.build().unwrap()
}

#[actix_web::test]
async fn where_the_store_does_not_count_the_request_is_refused_and_no_rate_charged() {
    for fault in [
        Fault::Unavailable,
        Fault::Backend,
        Fault::Hangs,
        Fault::Panics,
    ] {
        let scene = Scene::new(quick()).await;
        let key = scene.key(10).await;
        scene.store.fail(Call::Charge, fault);
        for _ in 0..3 {
            let denied = scene.manager.verify(key.expose_secret()).await.unwrap_err();
            assert_eq!(denied.reason(), DenyReason::StoreUnavailable, "{fault:?}");
            assert_eq!(denied.retry_after(), Some(Duration::from_secs(1)));
        }
        scene.store.heal();
        assert_eq!(scene.left(&key).await, (50, 10), "{fault:?}");
        assert_eq!(scene.ask(&key, &Policy::new()).await, None);
        assert_eq!(scene.left(&key).await, (49, 9), "{fault:?}");
    }
}

/// If it is unknown whether a charge was counted, the request is denied, so the limit is never
/// exceeded.
#[actix_web::test]
async fn an_answer_that_is_lost_lets_nobody_through() {
    let scene = Scene::new(quick()).await;
    let key = scene.key(3).await;
    scene.store.fail(Call::Charge, Fault::AnswerLost);
    let refused = scene.ask(&key, &Policy::new()).await;
    assert_eq!(refused, Some(DenyReason::StoreUnavailable));
    scene.store.heal();
    let mut passed = 0;
    while scene.ask(&key, &Policy::new()).await.is_none() {
        passed += 1;
    }
    assert_eq!(passed, 2);
}

#[actix_web::test]
async fn a_route_that_says_so_is_counted_here_while_the_store_does_not_count() {
    let scene = Scene::new(quick()).await;
    let key = scene.key(3).await;
    scene.store.fail(Call::Charge, Fault::Unavailable);
    for expected in [None, None, None, Some(DenyReason::QuotaExceeded)] {
        assert_eq!(scene.ask(&key, &LOCAL).await, expected);
    }
    // Other routes are allowed.
    let elsewhere = scene.ask(&key, &Policy::new()).await;
    assert_eq!(elsewhere, Some(DenyReason::StoreUnavailable));
    // The store has not counted any of these.
    scene.store.heal();
    assert_eq!(scene.left(&key).await.1, 3);
    assert_eq!(scene.ask(&key, &LOCAL).await, None);
}

#[actix_web::test]
async fn a_key_that_is_revoked_while_it_is_charged_is_refused_and_charged_nothing() {
    let scene = Scene::new(apikey_test_support::patient()).await;
    let key = scene.key(10).await;
    let gate = scene.store.gate_after(Call::Charge);
    let policy = Policy::new();
    let check = scene.ask(&key, &policy);
    let revoke = async {
        gate.arrived().await;
        scene.manager.revoke(key.id()).await.unwrap();
        gate.open();
    };
    let (refused, ()) = tokio::join!(check, revoke);
    assert_eq!(refused, Some(DenyReason::Revoked));
    scene.is_left(&key, (50, 10)).await;
}

#[actix_web::test]
async fn a_key_whose_time_ends_while_it_is_charged_is_refused_and_charged_nothing() {
    let scene = Scene::new(apikey_test_support::patient()).await;
    let key = scene.key(10).await;
    let end = scene.clock.read().now.checked_add(Duration::from_secs(5));
    scene
        .manager
        .update(key.id())
        .expires_at(end.unwrap())
        .await
        .unwrap();
    scene.store.polled().await;
    let gate = scene.store.gate_after(Call::Charge);
    let policy = Policy::new();
    let check = scene.ask(&key, &policy);
    let pass = async {
        gate.arrived().await;
        scene.clock.advance(Duration::from_secs(5));
        gate.open();
    };
    let (refused, ()) = tokio::join!(check, pass);
    assert_eq!(refused, Some(DenyReason::Expired));
    scene.is_left(&key, (50, 10)).await;
}

/// Negative control for the two tests above: without a change the same check is allowed and
/// charged.
#[actix_web::test]
async fn a_charge_that_takes_long_lets_a_key_through_that_did_not_change() {
    let scene = Scene::new(apikey_test_support::patient()).await;
    let key = scene.key(10).await;
    let gate = scene.store.gate_after(Call::Charge);
    let policy = Policy::new();
    let check = scene.ask(&key, &policy);
    let pass = async {
        gate.arrived().await;
        gate.open();
    };
    assert_eq!(tokio::join!(check, pass).0, None);
    assert_eq!(scene.left(&key).await, (49, 9));
}

#[actix_web::test]
async fn a_key_without_limits_costs_no_call_and_one_with_limits_one() {
    let scene = Scene::new(Config::default()).await;
    let bare = scene.manager.create("bare").await.unwrap();
    let key = scene.key(100).await;
    let policy = Policy::new();
    for key in [&bare, &key] {
        assert_eq!(scene.ask(key, &policy).await, None);
    }
    let (charges, finds) = (
        scene.store.count(Call::Charge),
        scene.store.count(Call::Find),
    );
    for _ in 0..10 {
        assert_eq!(scene.ask(&bare, &policy).await, None);
    }
    assert_eq!(scene.store.count(Call::Charge), charges);
    for _ in 0..10 {
        assert_eq!(scene.ask(&key, &policy).await, None);
    }
    assert_eq!(scene.store.count(Call::Charge), charges + 10);
    assert_eq!(scene.store.count(Call::Find), finds);
}

/// R-01 within a process.
#[actix_web::test]
async fn r01_a_quota_holds_for_many_at_once() {
    for (quota, batch) in [(1, 1), (30, 1), (1, 10), (30, 10)] {
        let config = Config::builder().limit_prefetch(batch).build().unwrap();
        let scene = Scene::new(config).await;
        let key = scene.key(quota).await;
        let checks = (0..45).map(|_| {
            let (manager, key) = (scene.manager.clone(), key.expose_secret().to_owned());
            actix_web::rt::spawn(async move { manager.verify(&key).await.is_ok() })
        });
        let checks: Vec<_> = checks.collect();
        let mut passed = 0;
        for check in checks {
            passed += u64::from(soon(check).await.unwrap());
        }
        assert!(passed <= quota, "{passed} of {quota}, batches of {batch}");
        if batch == 1 {
            assert_eq!(passed, quota);
        }
    }
}

fn ahead(batch: u32) -> Config {
    Config::builder().limit_prefetch(batch).build().unwrap()
}

#[actix_web::test]
async fn units_taken_ahead_save_calls_and_exceed_no_quota() {
    let scene = Scene::new(ahead(16)).await;
    let key = scene.key(45).await;
    let before = scene.store.count(Call::Charge);
    let mut passed = 0;
    while scene.ask(&key, &Policy::new()).await.is_none() {
        passed += 1;
    }
    // 1, 2, 4, 8, 16 at a time; then as many as are left, alternating with single units.
    assert_eq!(passed, 45);
    let calls = scene.store.count(Call::Charge) - before;
    assert!(calls <= 20, "{calls} calls");
    assert_eq!(scene.left(&key).await, (5, 0));
}

#[actix_web::test]
async fn what_was_taken_ahead_and_not_used_is_given_back() {
    for ends in [false, true] {
        let scene = Scene::new(ahead(8)).await;
        let key = scene.key(100).await;
        for _ in 0..4 {
            assert_eq!(scene.ask(&key, &Policy::new()).await, None);
        }
        // 1, 2 and 4 were charged, of which 3 are unused.
        assert_eq!(scene.left(&key).await.1, 93);
        if ends {
            scene.manager.shutdown().await.unwrap();
            let counter = apikey_runtime::store::LimitCounter::new("credits", Quota::lifetime(100));
            let look = apikey_runtime::store::Charge::new(key.id(), 0, vec![counter]);
            let charged = scene.store.charge(&look).await.unwrap();
            assert_eq!(charged.decisions[0].remaining, 96);
        } else {
            scene.clock.advance(Duration::from_secs(1));
            // A rate of 50 a minute does not regain a whole unit within a second.
            scene.is_left(&key, (46, 96)).await;
        }
    }
}

/// Checks that do not find prefetched units do not all prefetch.
#[actix_web::test]
async fn many_at_once_take_one_batch_ahead() {
    let scene = Scene::new(ahead(100)).await;
    let key = scene.key(5_000).await;
    for _ in 0..127 {
        let wide = Policy::new();
        if scene.ask(&key, &wide).await.is_some() {
            // The rate is 50 a minute.
            scene.clock.advance(Duration::from_secs(60));
        }
    }
    scene.clock.advance(Duration::from_secs(60));
    let before = scene.left(&key).await.1;
    let gate = scene.store.gate_before(Call::Charge);
    let checks: Vec<_> = (0..40)
        .map(|_| {
            let (manager, key) = (scene.manager.clone(), key.expose_secret().to_owned());
            actix_web::rt::spawn(async move { manager.verify(&key).await.is_ok() })
        })
        .collect();
    for _ in 0..40 {
        gate.arrived().await;
    }
    gate.open();
    for check in checks {
        assert!(soon(check).await.unwrap());
    }
    scene.store.heal();
    let taken = before - scene.left(&key).await.1;
    assert!(taken <= 40 + 100, "{taken} units for 40 requests");
}

/// Units requested by a caller that went away serve other callers.
#[actix_web::test]
async fn a_batch_whose_caller_goes_away_is_kept() {
    let scene = Scene::new(ahead(64)).await;
    let key = scene.key(100).await;
    for _ in 0..3 {
        assert_eq!(scene.ask(&key, &Policy::new()).await, None);
    }
    let gate = scene.store.gate_after(Call::Charge);
    let policy = Policy::new();
    let check = scene.ask(&key, &policy);
    tokio::select! {
        _ = check => panic!("it has to wait"),
        () = gate.arrived() => {}
    }
    gate.open();
    scene.store.heal();
    // 1, 2 and 4 were charged: all but the three used units are refunded.
    scene.clock.advance(Duration::from_millis(1_500));
    let back = within(PATIENCE, async || scene.left(&key).await.1 == 97);
    assert!(back.await.is_some(), "{:?}", scene.left(&key).await);
}

#[actix_web::test]
async fn a_key_that_is_used_rarely_takes_nothing_ahead() {
    let scene = Scene::new(ahead(100)).await;
    let key = scene.key(100).await;
    for used in 1..=5 {
        assert_eq!(scene.ask(&key, &Policy::new()).await, None);
        scene.clock.advance(Duration::from_millis(1_500));
        assert_eq!(scene.left(&key).await.1, 100 - used);
    }
}

/// A clock other than the store's decides when a day ends.
#[actix_web::test]
async fn nothing_that_was_taken_ahead_is_carried_over_midnight() {
    let scene = Scene::new(ahead(64)).await;
    let key = scene
        .manager
        .create("a")
        .limit("daily", Quota::per_day(100));
    let key = key.await.unwrap();
    scene
        .clock
        .advance(Duration::from_millis(12 * 3_600_000 - 500));
    for _ in 0..40 {
        assert_eq!(scene.ask(&key, &Policy::new()).await, None);
    }
    scene.clock.advance(Duration::from_millis(500));
    let mut passed = 0;
    while scene.ask(&key, &Policy::new()).await.is_none() {
        passed += 1;
    }
    assert_eq!(passed, 100);
}

/// A store with one wrong answer to each charge.
#[derive(Debug)]
struct WrongAnswers {
    right: MemoryStore,
    answer: fn(KeyId) -> Result<ChargeOutcome, StoreError>,
}

impl Forward for WrongAnswers {
    fn inner(&self) -> &dyn KeyStore {
        &self.right
    }

    async fn charge(&self, charge: &Charge) -> Result<ChargeOutcome, StoreError> {
        (self.answer)(charge.key)
    }
}

/// An answer is not taken unchecked: none of these lets a request pass, and a count that cannot be
/// read is reported with its remedy.
#[actix_web::test]
async fn an_answer_that_contradicts_itself_or_cannot_be_read_lets_nobody_through() {
    fn outcome(allowed: bool, decisions: &[bool]) -> ChargeOutcome {
        let quota = LimitRule::from(Quota::lifetime(1));
        let decision =
            |allowed: &bool| CounterState::default().check(quota, 1 + u32::from(!allowed), 0);
        ChargeOutcome::new(allowed, decisions.iter().map(decision).collect())
    }
    let answers: [fn(KeyId) -> Result<ChargeOutcome, StoreError>; 5] = [
        |_| Ok(outcome(true, &[false])),
        |_| Ok(outcome(false, &[true])),
        |_| Ok(outcome(true, &[])),
        |_| Ok(outcome(true, &[true, true])),
        |key| {
            Err(StoreError::Corrupt {
                id: key.to_string(),
                reason: "a number is broken; delete its row".to_owned(),
            })
        },
    ];
    for (number, answer) in answers.into_iter().enumerate() {
        let right = MemoryStore::new();
        let store = Arc::new(Forwarding(WrongAnswers { right, answer }));
        let manager = ApiKeyManager::builder().shared_store(store as Arc<dyn KeyStore>);
        let manager = manager.start().await.unwrap();
        let key = manager.create("a").limit("credits", Quota::lifetime(9));
        let key = key.await.unwrap();
        let denied = soon(manager.verify(key.expose_secret())).await.unwrap_err();
        assert_eq!(denied.reason(), DenyReason::StoreUnavailable, "{number}");
        let error = manager.limits(key.id()).await.unwrap_err().to_string();
        let expected = ["does not fit", "delete its row"][usize::from(number == 4)];
        assert!(error.contains(expected), "{number}: {error}");
    }
}
