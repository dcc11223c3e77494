//! The maximum of an owner's live keys, from nine processes at the edge.

use std::time::{Duration, SystemTime};

use apikey_runtime::ApiKeyManager;

use crate::harness::cluster::Cluster;
use crate::harness::control::in_turn;
use crate::harness::filling::{FillOrder, Filled};
use crate::harness::node;
use crate::harness::settings::Settings;
use crate::limits::{LEASE, On, nodes};

const PROCESSES: usize = 9;

/// A manager of the test itself, which prepares and counts.
async fn observer(cluster: &Cluster) -> ApiKeyManager {
    let store = node::open(&cluster.place.url(None), LEASE);
    let builder = ApiKeyManager::builder().shared_store(store);
    builder.start().await.unwrap()
}

/// Creates three keys of another owner, and three expired ones of this one.
async fn order(observer: &ApiKeyManager, owner: &str, max: u32) -> FillOrder {
    let past = SystemTime::now() - Duration::from_secs(3_600);
    let mut order = FillOrder {
        owner: owner.to_owned(),
        max,
        ..FillOrder::default()
    };
    for _ in 0..3 {
        let given = observer.create("given").owner("others").await.unwrap();
        order.given.push(given.id().to_string());
        let expired = observer.create("expired").owner(owner).await.unwrap();
        let update = observer.update(expired.id()).expires_at(past);
        update.await.unwrap();
        order.revived.push(expired.id().to_string());
    }
    order
}

async fn live_keys(observer: &ApiKeyManager, owner: &str) -> Option<u32> {
    let page = observer.list().owner(owner).with_usage().await;
    page.unwrap().live_keys
}

fn sum(filled: &[Option<Filled>]) -> u32 {
    filled.iter().flatten().map(|filled| filled.live()).sum()
}

async fn cap(on: On, test: &str) {
    let Some(cluster) = nodes(on, test, Settings::calm(PROCESSES, LEASE)).await else {
        return;
    };
    let observer = observer(&cluster).await;
    let at = cluster.place.name();
    let mut all = Filled::default();
    for (round, max) in [1, 4, 40, 1, 2, 3, 5, 8].into_iter().enumerate() {
        let owner = format!("owner-{round}");
        let order = order(&observer, &owner, max).await;
        let filled = cluster.fill(&order, None).await;
        assert_eq!(sum(&filled), max, "{at}: {filled:?}");
        assert_eq!(live_keys(&observer, &owner).await, Some(max), "{at}");
        for filled in filled.into_iter().flatten() {
            all.made += filled.made;
            all.given += filled.given;
            all.revived += filled.revived;
        }
    }
    println!("owner cap: on {at}, {PROCESSES} processes, {all:?}");
    assert!(all.made > 0 && all.given > 0 && all.revived > 0, "{all:?}");
    // A process that is killed leaves neither more nor less: others go on until the owner has enough.
    for millis in [1, 5, 20, 60] {
        let owner = format!("killed-{millis}");
        let order = order(&observer, &owner, 60).await;
        let kill_after = Some(Duration::from_millis(millis));
        let filled = cluster.fill(&order, kill_after).await;
        assert!(sum(&filled) <= 60, "{at}: {filled:?}");
        assert_eq!(live_keys(&observer, &owner).await, Some(60), "{at}");
        cluster.start_node(PROCESSES - 1).await.unwrap();
    }
    observer.shutdown().await.unwrap();
}

#[test]
fn nine_processes_give_an_owner_exactly_as_many_live_keys_as_permitted_on_sqlite() {
    in_turn(cap(On::Sqlite, ""));
}

#[test]
fn nine_processes_give_an_owner_exactly_as_many_live_keys_as_permitted_on_postgres() {
    in_turn(cap(On::Postgres, ""));
}

#[test]
fn nine_processes_give_an_owner_exactly_as_many_live_keys_as_permitted_on_redis() {
    in_turn(cap(
        On::Redis,
        "nine_processes_give_an_owner_exactly_as_many_live_keys_as_permitted_on_redis",
    ));
}

/// Negative control.
#[test]
fn an_owner_whose_keys_are_counted_in_a_step_of_its_own_is_found_out() {
    in_turn(async {
        let settings = Settings::calm(PROCESSES, LEASE);
        let Some(cluster) = nodes(On::Sqlite, "", settings).await else {
            return;
        };
        let observer = observer(&cluster).await;
        let mut most = 0;
        for round in 0..10 {
            let owner = format!("owner-{round}");
            let order = FillOrder {
                carelessly: true,
                ..order(&observer, &owner, 1).await
            };
            let filled = cluster.fill(&order, None).await;
            most = most.max(sum(&filled));
        }
        observer.shutdown().await.unwrap();
        assert!(
            most > 1,
            "a count and a creation in two steps are not detected"
        );
    });
}
