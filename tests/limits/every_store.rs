//! Limits on every store, with two managers on it: a limit is never exceeded, all limits are
//! charged or none, through changes, refunds, restarts and purges. The parts of family R that
//! depend on the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use apikey_runtime::clock::{Clock, ManualClock};
use apikey_runtime::store::{LimitSupport, WriteOptions};
use apikey_runtime::{
    ApiKeyManager, Config, DenyReason, KeyId, KeyStore, Limit, NewKey, Policy, Quota, Rate,
    ScopeExpr,
};
use apikey_test_support::fleet::Fleet;
use apikey_test_support::store::{Call, GateStore};
use apikey_test_support::{
    PATIENCE, forge, later, not_at_midnight, patient, patient_manager, soon, within,
};

const LEASE: Duration = Duration::from_millis(500);

const HOUR: Duration = Duration::from_secs(3_600);

const PLAIN: Policy = Policy::new();

const DEAR: Policy = Policy::new().cost(5);

/// Creates a lifetime quota, so that midnight does not matter.
fn credits(amount: u64) -> Limit {
    Limit::new("credits", Quota::lifetime(amount))
}

/// Creates another quota that is prefetched and refunded at any time, as a rolling one is not.
fn bonus(amount: u64) -> Limit {
    Limit::new("bonus", Quota::lifetime(amount))
}

fn hourly(amount: u64) -> Limit {
    Limit::new("hourly", Quota::rolling(amount, HOUR))
}

/// Creates a rate that does not regain a whole unit while a test runs.
fn rate(burst: u32) -> Limit {
    Limit::new("rate", Rate::per_hour(1).with_burst(burst))
}

/// Starts two managers that wait as long as a busy disk takes: a charge whose answer is late denies, and may count.
async fn two(fleet: &Fleet) -> [ApiKeyManager; 2] {
    [
        patient_manager(fleet.store()).await,
        patient_manager(fleet.store()).await,
    ]
}

async fn key(manager: &ApiKeyManager, limits: impl IntoIterator<Item = Limit>) -> NewKey {
    manager.create("a").limits(limits).await.unwrap()
}

async fn ask(manager: &ApiKeyManager, key: &NewKey, policy: &Policy) -> Option<DenyReason> {
    let check = soon(manager.verify_for(key.expose_secret(), policy)).await;
    check.err().map(|denied| denied.reason())
}

/// Returns what is left of each limit.
async fn left(manager: &ApiKeyManager, id: KeyId) -> Vec<u64> {
    let limits = manager.limits(id).await.unwrap();
    limits.iter().map(|limit| limit.remaining).collect()
}

/// Returns how often `tasks` tasks are allowed, which alternate between the managers: each tries
/// `times`. All other tries must be denied by a limit.
async fn spend(managers: &[ApiKeyManager], key: &NewKey, tasks: usize, times: usize) -> u64 {
    let mut under_way = Vec::new();
    for task in 0..tasks {
        let (managers, secret) = (managers.to_vec(), key.expose_secret().to_owned());
        under_way.push(actix_web::rt::spawn(async move {
            let mut passed = 0;
            for time in 0..times {
                let manager = &managers[(task + time) % managers.len()];
                match manager.verify(&secret).await.map_err(|no| no.reason()) {
                    Ok(_) => passed += 1,
                    Err(DenyReason::RateLimited | DenyReason::QuotaExceeded) => {}
                    Err(other) => panic!("denied for {other:?}"),
                }
            }
            passed
        }));
    }
    let mut passed = 0;
    for task in under_way {
        passed += soon(task).await.unwrap();
    }
    passed
}

/// Returns how many nodes count a rate by themselves.
fn rates_of(fleet: &Fleet) -> u64 {
    match fleet.store().limits().unwrap().support() {
        LimitSupport::All => 1,
        _ => 2,
    }
}

#[actix_web::test]
async fn r01_two_managers_and_64_tasks_admit_a_quota_exactly() {
    for fleet in Fleet::every(LEASE).await {
        let managers = two(&fleet).await;
        for limit in [credits(1), credits(50), hourly(50)] {
            let key = key(&managers[0], [limit.clone()]).await;
            let passed = spend(&managers, &key, 64, 2).await;
            assert_eq!(passed, limit.rule().amount(), "{}, {limit:?}", fleet.name);
            assert_eq!(left(&managers[1], key.id()).await, [0], "{}", fleet.name);
        }
    }
}

/// as one burst, whichever node asks; within a process each manager has its own.
#[actix_web::test]
async fn r02_a_rate_is_one_for_all_where_the_store_counts_it() {
    for fleet in Fleet::every(LEASE).await {
        let managers = two(&fleet).await;
        let key = key(&managers[0], [rate(7)]).await;
        let passed = spend(&managers, &key, 64, 2).await;
        assert_eq!(passed, 7 * rates_of(&fleet), "{}", fleet.name);
        assert_eq!(left(&managers[0], key.id()).await, [0], "{}", fleet.name);
        // A route's rate, too, in addition.
        let route = Policy::new()
            .name("search")
            .rate_limit(Rate::per_hour(1).with_burst(4));
        let key = self::key(&managers[0], [credits(100)]).await;
        let mut passed = 0;
        for turn in 0..20 {
            let refused = ask(&managers[turn % 2], &key, &route).await;
            assert!(matches!(refused, None | Some(DenyReason::RateLimited)));
            passed += u64::from(refused.is_none());
        }
        assert_eq!(passed, 4 * rates_of(&fleet), "{}", fleet.name);
        let left = left(&managers[0], key.id()).await;
        assert_eq!(left, [100 - passed], "{}", fleet.name);
    }
}

#[actix_web::test]
async fn r07_two_quotas_and_a_rate_are_charged_all_or_none() {
    for fleet in Fleet::every(LEASE).await {
        let managers = two(&fleet).await;
        // First a quota denies, then the rate, then the second quota.
        for (first, second, burst) in [(5, 90, 8), (60, 90, 3), (60, 6, 9)] {
            let key = key(&managers[0], [credits(first), hourly(second), rate(burst)]).await;
            let passed = spend(&managers, &key, 16, 2).await;
            let bursts = u64::from(burst) * rates_of(&fleet);
            let name = fleet.name;
            assert_eq!(passed, first.min(second).min(bursts), "{name}");
            let (mut of_rates, mut quotas) = (0, Vec::new());
            for manager in &managers {
                let left = left(manager, key.id()).await;
                quotas = left[..2].to_vec();
                of_rates += u64::from(burst) - left[2];
            }
            assert_eq!(quotas, [first - passed, second - passed], "{name}");
            // Both managers see the same rate if the store counts it.
            assert_eq!(of_rates, passed * 2 / rates_of(&fleet), "{name}");
        }
    }
}

#[actix_web::test]
async fn r11_what_is_refused_otherwise_is_charged_nothing() {
    const SCOPED: Policy = Policy::new().scopes(ScopeExpr::One("admin"));
    for fleet in Fleet::every(LEASE).await {
        let [manager, other] = two(&fleet).await;
        let key = key(&manager, [credits(9), hourly(9), rate(9)]).await;
        let wrong = forge::wrong_secret(key.expose_secret());
        for _ in 0..3 {
            let unknown = soon(manager.verify(wrong.as_str())).await.unwrap_err();
            assert_eq!(unknown.status(), 401, "{}", fleet.name);
            let refused = ask(&manager, &key, &SCOPED).await;
            assert_eq!(refused, Some(DenyReason::InsufficientScope));
        }
        manager.disable(key.id()).await.unwrap();
        assert_eq!(
            ask(&manager, &key, &PLAIN).await,
            Some(DenyReason::Disabled)
        );
        manager.enable(key.id()).await.unwrap();
        manager.update(key.id()).methods(["POST"]).await.unwrap();
        assert_eq!(left(&other, key.id()).await, [9, 9, 9], "{}", fleet.name);
        manager.revoke(key.id()).await.unwrap();
        assert_eq!(ask(&manager, &key, &PLAIN).await, Some(DenyReason::Revoked));
        assert_eq!(left(&manager, key.id()).await, [9, 9, 9], "{}", fleet.name);
    }
}

#[actix_web::test]
async fn a_request_costs_what_its_route_says_or_nothing() {
    for fleet in Fleet::every(LEASE).await {
        let [one, other] = two(&fleet).await;
        let key = key(&one, [credits(12), hourly(100), rate(100)]).await;
        assert_eq!(ask(&one, &key, &DEAR).await, None);
        assert_eq!(ask(&other, &key, &DEAR).await, None);
        let refused = Some(DenyReason::QuotaExceeded);
        assert_eq!(ask(&one, &key, &DEAR).await, refused, "{}", fleet.name);
        for expected in [None, None, refused] {
            assert_eq!(ask(&other, &key, &PLAIN).await, expected, "{}", fleet.name);
        }
        let left = left(&one, key.id()).await;
        assert_eq!(left[..2], [0, 88], "{}", fleet.name);
    }
}

/// The other manager learns of it as of any change.
#[actix_web::test]
async fn limits_are_changed_while_they_are_used() {
    for fleet in Fleet::every(LEASE).await {
        let managers = two(&fleet).await;
        let [one, other] = &managers;
        let key = key(one, [credits(20)]).await;
        let change = async {
            one.update(key.id())
                .limits([credits(44), hourly(1_000)])
                .await
                .unwrap();
        };
        let (mut passed, ()) = tokio::join!(spend(&managers, &key, 16, 6), change);
        let raised = within(PATIENCE, async || {
            let more = ask(other, &key, &PLAIN).await.is_none();
            passed += u64::from(more);
            more || passed == 44
        });
        assert!(raised.await.is_some(), "{}", fleet.name);
        passed += spend(&managers, &key, 16, 6).await;
        assert_eq!(passed, 44, "{}", fleet.name);
        // A quota smaller than the usage; then a larger one again.
        one.update(key.id()).limits([credits(10)]).await.unwrap();
        assert_eq!(left(other, key.id()).await, [0], "{}", fleet.name);
        assert_eq!(spend(&managers, &key, 4, 2).await, 0, "{}", fleet.name);
        one.update(key.id()).limits([credits(47)]).await.unwrap();
        let heard = within(PATIENCE, async || ask(other, &key, &PLAIN).await.is_none());
        assert!(heard.await.is_some(), "{}", fleet.name);
        assert_eq!(spend(&managers, &key, 4, 3).await, 2, "{}", fleet.name);
    }
}

#[actix_web::test]
async fn credits_are_given_back_by_anyone_and_stay_used_over_a_restart() {
    for fleet in Fleet::every(LEASE).await {
        let managers = two(&fleet).await;
        let key = key(&managers[0], [credits(6), hourly(30)]).await;
        assert_eq!(spend(&managers, &key, 5, 2).await, 6, "{}", fleet.name);
        managers[1].refill(key.id(), "credits", 4).await.unwrap();
        assert_eq!(left(&managers[0], key.id()).await, [4, 24]);
        assert_eq!(spend(&managers[..1], &key, 1, 3).await, 3);
        for manager in &managers {
            manager.shutdown().await.unwrap();
        }
        let managers = two(&fleet).await;
        assert_eq!(
            left(&managers[0], key.id()).await,
            [1, 21],
            "{}",
            fleet.name
        );
        assert_eq!(spend(&managers, &key, 5, 2).await, 1, "{}", fleet.name);
        // Never more than the quota.
        managers[0].refill(key.id(), "credits", 100).await.unwrap();
        assert_eq!(spend(&managers, &key, 5, 2).await, 6, "{}", fleet.name);
    }
}

/// An id is never created twice; a record restored from a dump has an earlier id.
#[actix_web::test]
async fn a_key_that_was_purged_begins_anew() {
    for fleet in Fleet::every(LEASE).await {
        let managers = two(&fleet).await;
        let store = fleet.store();
        store.start().await.unwrap();
        let key = key(&managers[0], [credits(3), hourly(9)]).await;
        assert_eq!(spend(&managers, &key, 4, 2).await, 3, "{}", fleet.name);
        let record = store.find(&key.id()).await.unwrap().unwrap();
        managers[0].revoke(key.id()).await.unwrap();
        let ended = later(&managers[0]).await;
        assert_eq!(managers[0].purge(ended).await.unwrap(), 1);
        store.insert(&record, &WriteOptions::new()).await.unwrap();
        assert_eq!(left(&managers[1], key.id()).await, [3, 9], "{}", fleet.name);
        for manager in &managers {
            let known = within(PATIENCE, async || soon_known(manager, &key).await.is_none());
            assert!(known.await.is_some(), "{}", fleet.name);
        }
        assert_eq!(spend(&managers, &key, 4, 2).await, 3, "{}", fleet.name);
    }
}

/// Checks at cost 0 until the manager knows the key.
async fn soon_known(manager: &ApiKeyManager, key: &NewKey) -> Option<DenyReason> {
    ask(manager, key, &Policy::new().cost(0)).await
}

/// Starts a manager that prefetches this many units.
async fn ahead(fleet: &Fleet, units: u32) -> ApiKeyManager {
    ahead_on(fleet.store(), units).await
}

async fn ahead_on(store: Arc<dyn KeyStore>, units: u32) -> ApiKeyManager {
    let config = Config::builder()
        .store_timeout(PATIENCE)
        .limit_prefetch(units)
        .build();
    let manager = ApiKeyManager::builder().config(config.unwrap());
    manager.shared_store(store).start().await.unwrap()
}

#[actix_web::test]
async fn units_taken_ahead_exceed_no_quota_and_come_back_at_the_end() {
    for fleet in Fleet::every(LEASE).await {
        for (tasks, times) in [(1, 7), (16, 12)] {
            let managers = [ahead(&fleet, 10).await, ahead(&fleet, 10).await];
            let key = key(&managers[0], [credits(150), bonus(200)]).await;
            let passed = spend(&managers, &key, tasks, times).await;
            assert!(passed <= 150, "{}: {passed}", fleet.name);
            for manager in &managers {
                manager.shutdown().await.unwrap();
            }
            let next = patient_manager(fleet.store()).await;
            let left = left(&next, key.id()).await;
            assert_eq!(left, [150 - passed, 200 - passed], "{}", fleet.name);
        }
    }
}

/// The same with a manager that ends in the middle: the requests that it allowed, and only those,
/// were charged and count as usage.
#[actix_web::test]
async fn a_manager_that_ends_while_it_is_used_charges_whom_it_let_through_and_nobody_else() {
    for fleet in Fleet::every(LEASE).await {
        for (units, least) in [(1, 20), (10, 20), (10, 100)] {
            let manager = ahead(&fleet, units).await;
            let key = key(&manager, [credits(100_000)]).await;
            let passed = Arc::new(AtomicU64::new(0));
            let tasks: Vec<_> = (0..8)
                .map(|_| {
                    let (manager, secret) = (manager.clone(), key.expose_secret().to_owned());
                    let passed = Arc::clone(&passed);
                    actix_web::rt::spawn(async move {
                        while manager.verify(&secret).await.is_ok() {
                            passed.fetch_add(1, SeqCst);
                            tokio::task::yield_now().await;
                        }
                    })
                })
                .collect();
            let begun = within(PATIENCE, async || passed.load(SeqCst) >= least);
            assert!(begun.await.is_some(), "{}", fleet.name);
            soon(manager.shutdown()).await.unwrap();
            for task in tasks {
                soon(task).await.unwrap();
            }
            let passed = passed.load(SeqCst);
            let next = patient_manager(fleet.store()).await;
            let left = left(&next, key.id()).await;
            assert_eq!(left, [100_000 - passed], "{}: {passed}", fleet.name);
            let used = next.usage(key.id()).await.unwrap().total();
            assert_eq!(used.requests, passed, "{}", fleet.name);
        }
    }
}

/// The same, driven by a gate: the charge is made, and its answer is in transit.
#[actix_web::test]
async fn a_check_whose_charge_is_under_way_when_the_manager_ends_passes_and_counts() {
    for fleet in Fleet::every(LEASE).await {
        let store = GateStore::around(fleet.store());
        let manager = patient_manager(store.clone()).await;
        let key = key(&manager, [credits(5)]).await;
        assert_eq!(ask(&manager, &key, &PLAIN).await, None);
        let gate = store.gate_after(Call::Charge);
        let end = async {
            gate.arrived().await;
            let open = async {
                // The shutdown has begun, and must not end before the check does.
                tokio::time::sleep(Duration::from_millis(20)).await;
                gate.open();
            };
            let (ended, ()) = tokio::join!(soon(manager.shutdown()), open);
            ended.unwrap();
        };
        let (refused, ()) = tokio::join!(ask(&manager, &key, &PLAIN), end);
        assert_eq!(refused, None, "{}", fleet.name);
        let refused = ask(&manager, &key, &PLAIN).await;
        assert_eq!(refused, Some(DenyReason::StoreUnavailable));
        let next = patient_manager(fleet.store()).await;
        assert_eq!(left(&next, key.id()).await, [3], "{}", fleet.name);
        let used = next.usage(key.id()).await.unwrap().total();
        assert_eq!(used.requests, 2, "{}", fleet.name);
    }
}

/// Units that were charged for a caller that went away stay with the key: one unit, or the
/// prefetched number.
#[actix_web::test]
async fn a_client_that_goes_away_while_it_is_charged_has_used_nothing() {
    for fleet in Fleet::every(LEASE).await {
        for units in [1, 10] {
            let store = GateStore::around(fleet.store());
            let manager = ahead_on(store.clone(), units).await;
            let key = key(&manager, [credits(100), bonus(100)]).await;
            let (mut passed, mut left_alone) = (0, 0);
            while left_alone < 3 {
                let gate = store.gate_after(Call::Charge);
                let (asking, secret) = (manager.clone(), key.expose_secret().to_owned());
                let mut check = actix_web::rt::spawn(async move { asking.verify(&secret).await });
                tokio::select! {
                    () = gate.arrived() => {
                        check.abort();
                        assert!(check.await.unwrap_err().is_cancelled());
                        left_alone += 1;
                    }
                    // Paid with prefetched units.
                    done = &mut check => passed += u64::from(done.unwrap().is_ok()),
                }
                gate.open();
                store.heal();
                for _ in 0..2 {
                    assert_eq!(ask(&manager, &key, &PLAIN).await, None);
                    passed += 1;
                }
            }
            manager.shutdown().await.unwrap();
            let next = patient_manager(fleet.store()).await;
            let expected = 100 - passed;
            let left = left(&next, key.id()).await;
            assert_eq!(left, [expected, expected], "{}, {units}", fleet.name);
        }
    }
}

/// The manager's clock does not count; the store's clock does.
#[actix_web::test]
async fn a_managers_clock_that_is_moved_an_hour_admits_nobody() {
    for fleet in Fleet::every(LEASE).await {
        not_at_midnight().await;
        let clock = Arc::new(ManualClock::starting_now());
        let builder = ApiKeyManager::builder().config(patient());
        let builder = builder.clock(Arc::clone(&clock) as Arc<dyn Clock>);
        let moved = builder.shared_store(fleet.store()).start().await.unwrap();
        let daily = Limit::new("daily", Quota::per_day(4));
        let mut keys = Vec::new();
        for limit in [daily, hourly(4), credits(4), rate(4)] {
            let key = key(&moved, [limit]).await;
            assert_eq!(spend(std::slice::from_ref(&moved), &key, 2, 4).await, 4);
            keys.push(key);
        }
        for jump in [3_600_000, -7_200_000, 25 * 3_600_000, -24 * 3_600_000] {
            clock.step_wall(jump);
            for key in &keys {
                let refused = within(PATIENCE, async || {
                    let refused = ask(&moved, key, &PLAIN).await;
                    // The lease ends with such a step, and returns after a poll.
                    refused != Some(DenyReason::StoreUnavailable)
                });
                assert!(refused.await.is_some());
                let passed = spend(std::slice::from_ref(&moved), key, 2, 4).await;
                assert_eq!(passed, 0, "{}: {jump}", fleet.name);
            }
        }
        if fleet.store().limits().unwrap().support() == LimitSupport::All {
            // Time that passes for the manager only.
            clock.advance(HOUR + HOUR);
            for key in &keys {
                let passed = spend(std::slice::from_ref(&moved), key, 2, 4).await;
                assert_eq!(passed, 0, "{}", fleet.name);
            }
        }
    }
}
