//! Limits that share a route, a name or a store, on every store: each has its own count, and only its
//! own charges change it.

use std::time::Duration;

use actix_web::dev::ServiceResponse;
use actix_web::test::{TestRequest, call_service, init_service};
use actix_web::{App, HttpResponse, guard, web};
use apikey_runtime::store::LimitSupport;
use apikey_runtime::{
    ApiKeyManager, Config, DenyReason, Limit, NewKey, Policy, Quota, Rate, RequireApiKey,
};
use apikey_test_support::fleet::Fleet;
use apikey_test_support::{PATIENCE, patient_manager, soon, within};

const LEASE: Duration = Duration::from_millis(500);

/// Regains a unit after 12 minutes, so not while a test runs.
const SLOW: Rate = Rate::per_hour(5);

/// Regains a unit after 10 ms.
const FAST: Rate = Rate::per_second(100).with_burst(5);

const PLAIN: Policy = Policy::new();

async fn manager(fleet: &Fleet, config: apikey_runtime::ConfigBuilder) -> ApiKeyManager {
    let builder = ApiKeyManager::builder().config(config.store_timeout(PATIENCE).build().unwrap());
    builder.shared_store(fleet.store()).start().await.unwrap()
}

async fn passes(manager: &ApiKeyManager, key: &NewKey, policy: &Policy) -> bool {
    let check = soon(manager.verify_for(key.expose_secret(), policy)).await;
    match check.map_err(|denied| denied.reason()) {
        Ok(_) => true,
        Err(DenyReason::RateLimited | DenyReason::QuotaExceeded) => false,
        Err(other) => panic!("denied for {other:?}"),
    }
}

/// Returns how many of ten requests pass.
async fn passed(manager: &ApiKeyManager, key: &NewKey, policy: &Policy) -> u32 {
    let mut count = 0;
    for _ in 0..10 {
        count += u32::from(passes(manager, key, policy).await);
    }
    count
}

fn status<B>(response: &ServiceResponse<B>) -> u16 {
    response.status().as_u16()
}

/// Two methods of one route have two rates: neither gives the other anything back, and neither locks
/// the other out.
#[actix_web::test]
async fn a_fast_rate_of_a_route_leaves_the_count_of_a_slow_one() {
    for fleet in Fleet::every(LEASE).await {
        let manager = patient_manager(fleet.store()).await;
        let key = manager.create("a").await.unwrap();
        let limited = |rate| RequireApiKey::with(Policy::new().rate_limit(rate));
        let served = manager.clone();
        let app = App::new()
            .configure(move |app| served.init_app(app))
            .service(
                web::resource("/x")
                    .guard(guard::Get())
                    .wrap(limited(SLOW))
                    .to(HttpResponse::Ok),
            )
            .service(
                web::resource("/x")
                    .guard(guard::Post())
                    .wrap(limited(FAST))
                    .to(HttpResponse::Ok),
            );
        let app = init_service(app).await;
        let bearer = format!("Bearer {}", key.expose_secret());
        let send = async |request: TestRequest| {
            let request = request.uri("/x");
            let request = request.insert_header(("Authorization", bearer.as_str()));
            status(&call_service(&app, request.to_request()).await)
        };
        for _ in 0..5 {
            assert_eq!(send(TestRequest::get()).await, 200, "{}", fleet.name);
        }
        assert_eq!(send(TestRequest::post()).await, 200, "{}", fleet.name);
        let (mut posts, mut denied_posts) = (0, 0);
        while posts < 20 || denied_posts == 0 {
            // More at once than the burst.
            for _ in 0..8 {
                match send(TestRequest::post()).await {
                    200 => posts += 1,
                    _ => denied_posts += 1,
                }
                if posts > 400 {
                    // Too slow a machine for a denial.
                    denied_posts += 1;
                }
            }
            assert_eq!(send(TestRequest::get()).await, 429, "{}", fleet.name);
        }
    }
}

/// A deployment changes `default_rate_limit` node by node, or two services have two.
#[actix_web::test]
async fn two_default_limits_on_one_store_have_two_counts() {
    for fleet in Fleet::every(LEASE).await {
        let limited = |rate| Config::builder().default_rate_limit(rate);
        let slow = manager(&fleet, limited(SLOW)).await;
        let fast = manager(&fleet, limited(FAST)).await;
        let key = slow.create("a").await.unwrap();
        assert_eq!(passed(&slow, &key, &PLAIN).await, 5, "{}", fleet.name);
        assert!(passes(&fast, &key, &PLAIN).await, "{}", fleet.name);
        for _ in 0..5 {
            passed(&fast, &key, &PLAIN).await;
            assert_eq!(passed(&slow, &key, &PLAIN).await, 0, "{}", fleet.name);
        }
    }
}

/// Two services may have equal crates, functions and routes.
#[actix_web::test]
async fn services_with_different_namespaces_count_routes_separately_and_keys_together() {
    let route = Policy::new().name("shop::search").rate_limit(SLOW);
    for fleet in Fleet::every(LEASE).await {
        let config = |namespace| {
            let config = Config::builder().default_rate_limit(SLOW);
            config.counter_namespace(namespace)
        };
        let orders = manager(&fleet, config("orders")).await;
        let stock = manager(&fleet, config("stock")).await;
        let again = manager(&fleet, config("orders")).await;
        let is_shared = fleet.store().limits().unwrap().support() == LimitSupport::All;
        let same = if is_shared { 0 } else { 5 };
        // A route's rate, for a key with credits of its own.
        let credits = Limit::new("credits", Quota::lifetime(17));
        let key = orders.create("a").limits([credits]).await.unwrap();
        assert_eq!(passed(&orders, &key, &route).await, 5, "{}", fleet.name);
        assert_eq!(passed(&stock, &key, &route).await, 5, "{}", fleet.name);
        assert_eq!(passed(&again, &key, &route).await, same, "{}", fleet.name);
        // The key's own limit is one for all services.
        let left = 17 - 10 - same;
        assert_eq!(passed(&stock, &key, &PLAIN).await, left, "{}", fleet.name);
        // The default limit.
        let key = orders.create("b").await.unwrap();
        assert_eq!(passed(&orders, &key, &PLAIN).await, 5, "{}", fleet.name);
        assert_eq!(passed(&stock, &key, &PLAIN).await, 5, "{}", fleet.name);
        assert_eq!(passed(&again, &key, &PLAIN).await, same, "{}", fleet.name);
    }
}

/// A name of one source is not a name of another.
#[actix_web::test]
async fn limits_of_one_name_and_different_sources_have_different_counts() {
    for fleet in Fleet::every(LEASE).await {
        let manager = manager(&fleet, Config::builder().default_rate_limit(SLOW)).await;
        // A key's own limit named as the default one is.
        let own = Limit::new("default", SLOW);
        let key = manager.create("a").limits([own.clone()]).await.unwrap();
        assert_eq!(passed(&manager, &key, &PLAIN).await, 5, "{}", fleet.name);
        manager.update(key.id()).limits([]).await.unwrap();
        assert_eq!(passed(&manager, &key, &PLAIN).await, 5, "{}", fleet.name);
        manager.update(key.id()).limits([own]).await.unwrap();
        assert_eq!(passed(&manager, &key, &PLAIN).await, 0, "{}", fleet.name);
        // Routes of one name and different rates.
        let wide = Limit::new("wide", Rate::per_second(100_000));
        let key = manager.create("b").limits([wide]).await.unwrap();
        let slower = SLOW.with_burst(3);
        for name in ["x", "x#2", "default", "credits"] {
            for (rate, burst) in [(SLOW, 5), (slower, 3)] {
                let route = Policy::new().name(name).rate_limit(rate);
                let count = passed(&manager, &key, &route).await;
                assert_eq!(count, burst, "{}, {name}", fleet.name);
            }
        }
        for length in [299, 300, 400] {
            // They differ in the last character only.
            for end in ["a", "b"] {
                let name = String::leak(format!("{}{end}", "n".repeat(length)));
                let route = Policy::new().name(name).rate_limit(SLOW);
                let count = passed(&manager, &key, &route).await;
                assert_eq!(count, 5, "{}, {length}", fleet.name);
            }
        }
    }
}

/// When a key's own rate is changed, what was used stays used, up to the new burst.
#[actix_web::test]
async fn a_keys_own_rate_is_raised_and_lowered_while_it_is_used_up() {
    let rate = |rate| [Limit::new("rate", rate)];
    for fleet in Fleet::every(LEASE).await {
        let manager = patient_manager(fleet.store()).await;
        let key = manager.create("a").limits(rate(SLOW)).await.unwrap();
        assert_eq!(passed(&manager, &key, &PLAIN).await, 5, "{}", fleet.name);
        let larger = Rate::per_hour(5).with_burst(8);
        manager.update(key.id()).limits(rate(larger)).await.unwrap();
        assert_eq!(passed(&manager, &key, &PLAIN).await, 3, "{}", fleet.name);
        manager.update(key.id()).limits(rate(FAST)).await.unwrap();
        let freed = within(PATIENCE, async || passes(&manager, &key, &PLAIN).await);
        assert!(freed.await.is_some(), "{}", fleet.name);
        // At most 50 ms are not worked off.
        passed(&manager, &key, &PLAIN).await;
        manager.update(key.id()).limits(rate(SLOW)).await.unwrap();
        let count = passed(&manager, &key, &PLAIN).await + passed(&manager, &key, &PLAIN).await;
        assert!((4..=5).contains(&count), "{}: {count}", fleet.name);
    }
}
