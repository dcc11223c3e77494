//! Rules for the lifetime of keys, under a clock that the tests set.

use std::sync::Arc;
use std::time::Duration;

use apikey_runtime::clock::{Clock, ManualClock};
use apikey_runtime::manager::{IssuePolicy, PolicyViolation};
use apikey_runtime::{ApiKeyManager, Config, ConfigBuilder, Error, Timestamp};
use apikey_test_support::store::{Call, GateStore};

const HOUR: Duration = Duration::from_secs(3_600);

async fn ruled(config: ConfigBuilder) -> (ApiKeyManager, Arc<ManualClock>, Arc<GateStore>) {
    let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_700_000_000_000)));
    let store = GateStore::new();
    let manager = ApiKeyManager::builder()
        .config(config.build().unwrap())
        .shared_store(store.clone())
        .clock(clock.clone() as Arc<dyn Clock>);
    (manager.start().await.unwrap(), clock, store)
}

#[track_caller]
fn broken<T: std::fmt::Debug>(outcome: Result<T, Error>) -> PolicyViolation {
    match outcome {
        Err(Error::Policy(violation)) => violation,
        other => panic!("{other:?}"),
    }
}

#[actix_web::test]
async fn a_lifetime_is_measured_from_the_call() {
    let (manager, clock, store) = ruled(Config::builder().max_lifetime(24 * HOUR)).await;
    let max = 24 * HOUR;
    let long = PolicyViolation::LifetimeTooLong { max };
    let required = PolicyViolation::LifetimeRequired { max: Some(max) };
    let milli = Duration::from_millis(1);
    assert_eq!(
        broken(manager.create("a").expires_in(max + milli).await),
        long
    );
    assert_eq!(broken(manager.create("a").await), required);
    assert_eq!(broken(manager.create("a").never_expires().await), required);
    assert_eq!(
        store.count(Call::Insert),
        0,
        "nothing was asked of the store"
    );
    let id = manager.create("a").expires_in(max).await.unwrap().id();
    let end = manager.get(id).await.unwrap().expires.unwrap();
    // Later by less than what has passed since.
    clock.advance(HOUR);
    let later = end.checked_add(HOUR).unwrap();
    let too_late = later.checked_add(milli).unwrap();
    assert_eq!(broken(manager.update(id).expires_at(too_late).await), long);
    assert_eq!(broken(manager.update(id).never_expires().await), required);
    manager.update(id).expires_at(later).await.unwrap();
    // An administrator's key, which lives longer than permitted: its end may come earlier, and stay.
    let free = IssuePolicy::unrestricted();
    manager
        .update(id)
        .never_expires()
        .policy(free.clone())
        .await
        .unwrap();
    let year = later.checked_add(8_760 * HOUR).unwrap();
    manager.update(id).expires_at(year).await.unwrap();
    manager
        .update(id)
        .expires_at(year)
        .label("same")
        .await
        .unwrap();
    let next = year.checked_add(milli).unwrap();
    assert_eq!(broken(manager.update(id).expires_at(next).await), long);
    // Neither a rotation nor another change is judged.
    manager.rotate(id).await.unwrap();
    manager.disable(id).await.unwrap();
    manager.enable(id).await.unwrap();
    manager.update(id).label("b").await.unwrap();
    // The policy of a call replaces all rules.
    let week = free.with_max_lifetime(7 * 24 * HOUR);
    let create = || manager.create("a").policy(week.clone());
    create().expires_in(7 * 24 * HOUR).await.unwrap();
    let max = 7 * 24 * HOUR;
    let refused = create().expires_in(max + milli).await;
    assert_eq!(broken(refused), PolicyViolation::LifetimeTooLong { max });
}

#[actix_web::test]
async fn a_default_lifetime_is_that_of_a_call_that_sets_none() {
    let (manager, clock, _store) = ruled(Config::builder().default_lifetime(2 * HOUR)).await;
    let now = clock.read().now;
    let expiry = async |key: apikey_runtime::NewKey| {
        let expires = key.record().expires;
        assert_eq!(manager.get(key.id()).await.unwrap().expires, expires);
        expires
    };
    let made = expiry(manager.create("a").await.unwrap()).await;
    assert_eq!(made, now.checked_add(2 * HOUR));
    let made = expiry(manager.create("a").expires_in(HOUR).await.unwrap()).await;
    assert_eq!(made, now.checked_add(HOUR));
    let made = expiry(manager.create("a").never_expires().await.unwrap()).await;
    assert_eq!(made, None, "it is not required");
    let free = IssuePolicy::unrestricted();
    let made = manager.create("a").policy(free).await.unwrap();
    assert_eq!(expiry(made).await, None, "the call's policy has no default");
    let (manager, ..) = ruled(Config::builder().lifetime_required(true)).await;
    let required = PolicyViolation::LifetimeRequired { max: None };
    assert_eq!(broken(manager.create("a").await), required);
    let decades = manager.create("a").expires_in(876_000 * HOUR).await;
    let id = decades.unwrap().id();
    assert_eq!(broken(manager.update(id).never_expires().await), required);
}

#[actix_web::test]
async fn a_policy_of_a_call_that_cannot_be_kept_is_an_invalid_argument() {
    let (manager, ..) = ruled(Config::builder()).await;
    let id = manager.create("a").await.unwrap().id();
    let policy = IssuePolicy::unrestricted()
        .with_max_lifetime(HOUR)
        .with_default_lifetime(2 * HOUR);
    for outcome in [
        manager.create("a").policy(policy.clone()).await.map(drop),
        manager.update(id).label("b").policy(policy).await.map(drop),
    ] {
        assert!(
            matches!(outcome, Err(Error::InvalidArgument(_))),
            "{outcome:?}"
        );
    }
}
