//! Usage reports.

use apikey_runtime::{Limit, Rate};

use super::{LEASE, On, credits, nodes};
use crate::harness::cluster::Cluster;
use crate::harness::control::in_turn;
use crate::harness::settings::Settings;
use crate::harness::spending::{End, Plan};

/// Stops all nodes gracefully, and restarts them.
async fn restart(cluster: &Cluster) {
    for slot in cluster.regular_slots() {
        cluster.stop_node(slot).await;
    }
    for slot in cluster.regular_slots() {
        cluster.start_node(slot).await.unwrap();
    }
}

/// Usage equals what clients counted, across restarts; a killed node may lose some.
async fn usage(on: On, test: &str) {
    let Some(cluster) = nodes(on, test, Settings::calm(3, LEASE)).await else {
        return;
    };
    let rate = Limit::new("rate", Rate::per_second(300).with_burst(5));
    let some = Plan {
        end: End::After(25),
        ..Plan::of(3, [credits(200), rate])
    };
    let first = cluster.spend(&some).await;
    restart(&cluster).await;
    let all = Plan {
        end: End::UsedUp,
        ..some
    };
    let second = cluster.spend_key(&all, &first.id, &first.secret).await;
    restart(&cluster).await;
    let mut refused = first.refused.clone();
    for (reason, count) in &second.refused {
        *refused.entry(reason.clone()).or_default() += count;
    }
    println!(
        "limits: on {}, {second}; refused {refused:?}",
        cluster.place.name()
    );
    assert_eq!(first.admitted.len() + second.admitted.len(), 200);
    assert!(refused["rate-limited"] > 0 && refused["quota-exceeded"] > 0);
    assert_eq!(cluster.usage(0, &first).await, (200, refused));

    let killed = cluster.spend(&all.killing(10)).await;
    cluster.start_node(2).await.unwrap();
    restart(&cluster).await;
    let (requests, _) = cluster.usage(0, &killed).await;
    let noted = killed.admitted.len() as u64;
    let by_killed = killed.admitted.iter().map(|check| check.process).max();
    let of_killed = killed
        .admitted
        .iter()
        .filter(|check| Some(check.process) == by_killed);
    assert!(
        requests >= noted - of_killed.count() as u64,
        "{requests} of {noted}"
    );
    assert!(requests <= noted + killed.unsure, "{requests} of {noted}");
}

#[test]
fn usage_is_what_clients_counted_across_restarts_on_sqlite() {
    in_turn(usage(On::Sqlite, ""));
}

#[test]
fn usage_is_what_clients_counted_across_restarts_on_postgres() {
    in_turn(usage(On::Postgres, ""));
}

#[test]
fn usage_is_what_clients_counted_across_restarts_on_redis() {
    in_turn(usage(
        On::Redis,
        "usage_is_what_clients_counted_across_restarts_on_redis",
    ));
}
