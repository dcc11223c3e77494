//! Usage and last uses of the keys on a page, in one call of the store.

use std::sync::Arc;
use std::time::Duration;

use apikey_runtime::clock::{Clock, ManualClock};
use apikey_runtime::manager::RequestFacts;
use apikey_runtime::{Error, KeyId, KeyStore, MemoryStore, Policy, Timestamp};
use apikey_test_support::fleet::Fleet;
use apikey_test_support::store::{Call, GateStore, RecordsOnly};
use apikey_test_support::{manager_at, manager_on, patient_manager, soon};

const DAY: Duration = Duration::from_secs(24 * 3_600);

#[actix_web::test]
async fn a_page_reads_usage_and_last_uses_in_one_call_each_on_every_store() {
    for fleet in Fleet::every(Duration::from_millis(500)).await {
        let (store, name) = (GateStore::around(fleet.store()), fleet.name);
        let manager = patient_manager(Arc::<GateStore>::clone(&store)).await;
        let mut keys = Vec::new();
        for uses in [2, 0, 1] {
            let key = soon(manager.create("a")).await.unwrap();
            for _ in 0..uses {
                soon(manager.verify(key.expose_secret())).await.unwrap();
            }
            keys.push(key.id());
        }
        let other = soon(manager.create("a")).await.unwrap();
        soon(manager.verify(other.expose_secret())).await.unwrap();
        let asked = [keys[2], keys[1], keys[0], keys[2], KeyId::from_u128(7)];

        let before = store.count(Call::LastUsed);
        let used = soon(manager.last_used_of(&asked)).await.unwrap();
        assert_eq!(store.count(Call::LastUsed), before + 1, "{name}");
        let of: Vec<_> = used.iter().map(|used| used.key).collect();
        assert_eq!(of, [keys[2], keys[0]], "{name}");
        assert_eq!(
            soon(manager.last_used(keys[0])).await.unwrap(),
            Some(used[1]),
            "{name}"
        );

        let before = store.count(Call::Usage);
        let report = soon(manager.usage_of(&asked)).await.unwrap();
        assert_eq!(store.count(Call::Usage), before + 1, "{name}");
        let mut counts: Vec<_> = report.by_key_and_day();
        counts.sort_by_key(|of_key| keys.iter().position(|key| *key == of_key.key));
        let counts: Vec<_> = counts
            .iter()
            .map(|of_key| {
                (
                    of_key.key,
                    of_key.days.iter().map(|day| day.counts.requests).sum(),
                )
            })
            .collect();
        assert_eq!(counts, [(keys[0], 2_u64), (keys[2], 1)], "{name}");
        soon(manager.shutdown()).await.unwrap();
    }
}

#[actix_web::test]
async fn days_are_told_apart_for_each_key() {
    let clock = Arc::new(ManualClock::at("2026-03-01T23:00:00Z".parse().unwrap()));
    let store: Arc<dyn KeyStore> = Arc::new(MemoryStore::new());
    let manager = manager_at(store, clock.clone() as Arc<dyn Clock>).await;
    let (one, two) = (
        manager.create("a").await.unwrap(),
        manager.create("a").await.unwrap(),
    );
    let facts = RequestFacts::new().with_route("/a");
    let mut expected = Vec::new();
    for (day, uses) in [("2026-03-01", 1), ("2026-03-02", 2), ("2026-03-04", 3)] {
        let start: Timestamp = format!("{day}T00:00:00Z").parse().unwrap();
        let now = clock.read().now.as_millis();
        let noon = start.as_millis() + 12 * 3_600_000;
        clock.advance(Duration::from_millis(
            u64::try_from((noon - now).max(0)).unwrap(),
        ));
        for _ in 0..uses {
            manager
                .check(one.expose_secret(), &Policy::new(), &facts)
                .await
                .unwrap();
            manager.verify(one.expose_secret()).await.unwrap();
        }
        expected.push((start, 2 * uses));
    }
    manager.verify(two.expose_secret()).await.unwrap();
    let report = manager.usage_of(&[two.id(), one.id()]).await.unwrap();
    let of = |id| {
        let mut keys = report.by_key_and_day().into_iter();
        let days = keys.find(|of_key| of_key.key == id).unwrap().days;
        days.into_iter()
            .map(|day| (day.start, day.counts.requests))
            .collect::<Vec<_>>()
    };
    assert_eq!(of(one.id()), expected);
    assert_eq!(of(two.id()), [(expected[2].0, 1)]);
    // A span.
    let yesterday = Timestamp::from_millis(clock.read().now.as_millis() - 86_400_000);
    let report = manager
        .usage_of(&[one.id()])
        .between(yesterday, clock.read().now.checked_add(DAY).unwrap());
    assert_eq!(report.await.unwrap().by_key_and_day()[0].days.len(), 1);
}

#[actix_web::test]
async fn a_thousand_keys_are_read_at_once_and_not_one_more() {
    let store = GateStore::new();
    let manager = manager_on(Arc::<GateStore>::clone(&store)).await;
    let ids: Vec<_> = (1..=1_001).map(KeyId::from_u128).collect();
    assert_eq!(manager.last_used_of(&ids[..1_000]).await.unwrap(), []);
    assert!(
        manager
            .usage_of(&ids[..1_000])
            .await
            .unwrap()
            .rows()
            .is_empty()
    );
    let repeated = [&ids[..1_000], &ids[..1_000]].concat();
    assert_eq!(manager.last_used_of(&repeated).await.unwrap(), []);
    let (last, usage) = (store.count(Call::LastUsed), store.count(Call::Usage));
    let many = manager.last_used_of(&ids).await.map(drop);
    assert!(matches!(many, Err(Error::InvalidArgument(_))), "{many:?}");
    let many = manager.usage_of(&ids).await.map(drop);
    assert!(matches!(many, Err(Error::InvalidArgument(_))), "{many:?}");
    // Nothing is asked for nothing.
    assert_eq!(manager.last_used_of(&[]).await.unwrap(), []);
    assert!(manager.usage_of(&[]).await.unwrap().rows().is_empty());
    assert_eq!(
        (store.count(Call::LastUsed), store.count(Call::Usage)),
        (last, usage)
    );

    let manager = manager_on(Arc::new(RecordsOnly::default())).await;
    let kept = manager.last_used_of(&[]).await.map(drop);
    assert!(matches!(kept, Err(Error::Unsupported(_))), "{kept:?}");
}
