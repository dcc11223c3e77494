//! Usage: added once, completely or not at all, and expired in time.

use std::collections::BTreeMap;
use std::time::Duration;

use apikey_runtime::store::{NodeId, StoreError, UsageStore, WriteOptions};
use apikey_runtime::usage::{
    LastUsed, NetworkUse, Outcome, SecretUse, UsageBatch, UsageQuery, UsageRow,
};
use apikey_runtime::{KeyStore, RedisStore, Timestamp};

use super::{redis_server, started};
use crate::usage::check_uses_beside_an_older_release;
use crate::{InSteps, at, because, id, record};

const KEEP: Duration = Duration::from_secs(30 * 86_400);

/// Returns the hour in which the test runs.
fn hour() -> i64 {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    i64::try_from(since.as_secs() / 3_600).unwrap()
}

fn row(number: u128, route: &str, hour: i64, requests: u64) -> UsageRow {
    let mut row = UsageRow::new(id(number), route, hour, Outcome::Allowed);
    row.requests = requests;
    row.cost = requests * 2;
    row
}

fn batch(number: u64, rows: Vec<UsageRow>) -> UsageBatch {
    let mut batch = UsageBatch::new(NodeId::from_u128(1), number, KEEP);
    batch.rows = rows;
    batch
}

/// Returns all requests and costs of the key with this number.
async fn sums(store: &RedisStore, number: u128) -> (u64, u64) {
    let query = UsageQuery::new(vec![id(number)], i64::MIN, i64::MAX);
    let rows = store.read_usage(&query).await.unwrap();
    rows.iter().fold((0, 0), |(requests, cost), row| {
        (requests + row.requests, cost + row.cost)
    })
}

#[tokio::test]
async fn a_batch_that_is_offered_again_is_added_once() {
    let server = redis_server!();
    let store = started(&server).await;
    let now = hour();
    let first = batch(1, vec![row(1, "/a", now, 3), row(1, "/a", now - 24, 4)]);
    for _ in 0..2 {
        store.add_usage(&first).await.unwrap();
    }
    assert_eq!(sums(&store, 1).await, (7, 14));
    // Numbers of different lengths.
    for number in [9, 10, 9, u64::MAX, 11, u64::MAX - 1] {
        let again = batch(number, vec![row(1, "/a", now, 1)]);
        store.add_usage(&again).await.unwrap();
    }
    assert_eq!(sums(&store, 1).await, (10, 20));
    let mut of_another = batch(1, vec![row(1, "/a", now, 1)]);
    of_another.node = NodeId::from_u128(2);
    store.add_usage(&of_another).await.unwrap();
    assert_eq!(sums(&store, 1).await, (11, 22));
    let millis = server.command(&[
        "PTTL",
        &format!("{{apikey}}:usage_batch:{}", of_another.node),
    ]);
    assert!(millis.text().parse::<i64>().unwrap() > 2 * 86_400_000);
}

/// I-02.
#[tokio::test]
async fn i02_odd_routes_are_kept_as_they_are() {
    let server = redis_server!();
    let store = started(&server).await;
    let routes = [
        "",
        "|",
        "a|b|c",
        "' .. redis.call('FLUSHALL') .. '",
        "\0",
        "/{id}",
        "\u{10ffff}",
    ];
    let now = hour();
    let rows: Vec<_> = (1..)
        .zip(routes)
        .map(|(requests, route)| row(1, route, now, requests))
        .collect();
    store.add_usage(&batch(1, rows.clone())).await.unwrap();
    let query = UsageQuery::new(vec![id(1), id(1)], now, now + 1);
    let mut found = store.read_usage(&query).await.unwrap();
    found.sort_by_key(|row| row.requests);
    assert_eq!(found, rows);
}

#[tokio::test]
async fn usage_goes_when_its_time_is_over() {
    let server = redis_server!();
    let store = started(&server).await;
    let now = hour();
    let old = now - 31 * 24 - 24;
    let rows = vec![
        row(1, "/a", now, 1),
        row(1, "/a", old, 1),
        row(1, "/a", i64::MIN, 1),
    ];
    store.add_usage(&batch(1, rows)).await.unwrap();
    assert_eq!(sums(&store, 1).await, (1, 2), "the rest was over before");
    let day = now.div_euclid(24);
    let name = format!("{{apikey}}:usage:{}:{day}", id(1));
    let ends = server.command(&["PEXPIRETIME", &name]).text();
    assert_eq!(ends, ((day + 31) * 86_400_000).to_string());
    let mut for_ever = batch(2, vec![row(1, "/a", i64::MAX, 1)]);
    for_ever.keep = Duration::MAX;
    store.add_usage(&for_ever).await.unwrap();
    // The next batch removes expired days from the list.
    let days = server.command(&["ZCARD", "{apikey}:usage_days"]).text();
    assert_eq!(days, "2");
}

#[tokio::test]
async fn what_a_tool_broke_spoils_nothing_else() {
    let server = redis_server!();
    let store = started(&server).await;
    let now = hour();
    let day = now.div_euclid(24);
    let name = |number| format!("{{apikey}}:usage:{}:{day}", id(number));
    server.command(&["SET", &name(1), "planted"]);
    let field = format!("{}|allowed|/a", now.rem_euclid(24));
    server.command(&[
        "HSET",
        &name(2),
        &field,
        "planted",
        "planted",
        "1",
        "0|later|/a",
        "1",
    ]);
    let rows = vec![
        row(1, "/a", now, 1),
        row(2, "/a", now, 1),
        row(3, "/a", now, 1),
    ];
    let mut first = batch(1, rows);
    first.last_used = vec![SecretUse::new(id(3), 0, at(5), None)];
    store
        .insert(&record(3), &WriteOptions::new())
        .await
        .unwrap();
    server.command(&["HSET", "{apikey}:last_used", id(3).as_str(), "planted"]);
    assert_eq!(store.last_used(&[id(3)]).await.unwrap(), []);
    store.add_usage(&first).await.unwrap();
    store.add_usage(&first).await.unwrap();
    assert_eq!(sums(&store, 2).await, (0, 0));
    assert_eq!(sums(&store, 3).await, (1, 2));
    let used = store.last_used(&[id(3)]).await.unwrap();
    assert_eq!(
        used,
        LastUsed::of_secrets(id(3), 0, first.last_used).as_slice()
    );
}

#[tokio::test]
async fn when_a_key_was_last_used_goes_forward_only_and_with_the_record() {
    let server = redis_server!();
    let store = started(&server).await;
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    let network = Some("2001:db8::/48".parse().unwrap());
    let mut expected = BTreeMap::new();
    for (number, millis) in (1..).zip([-5, 9, 10, 8, i64::MAX - 1, i64::MAX, 11]) {
        let used = SecretUse::new(id(1), 0, at(millis), network.filter(|_| millis % 2 == 0));
        let mut one = batch(number, Vec::new());
        one.last_used = vec![used];
        store.add_usage(&one).await.unwrap();
        expected.insert(millis, used);
        let last = *expected.values().next_back().unwrap();
        assert_eq!(
            store.last_used(&[id(1), id(2), id(1)]).await.unwrap(),
            LastUsed::of_secrets(id(1), 0, [last]).as_slice()
        );
    }
    assert_eq!(store.last_used(&[]).await.unwrap(), []);
    store
        .revoke(&id(1), &because("lost"), &WriteOptions::new())
        .await
        .unwrap();
    store.purge_all(at(i64::MAX)).await.unwrap();
    assert_eq!(store.last_used(&[id(1)]).await.unwrap(), []);
}

/// As many as a node collects at most between two batches.
#[tokio::test]
async fn a_batch_of_ten_thousand_rows_is_one_step() {
    let server = redis_server!();
    let store = started(&server).await;
    let now = hour();
    let rows = (0..10_000).map(|number| row(number, "/orders/{id}", now, 1));
    let mut large = batch(1, rows.collect());
    let used = (0..10_000).map(|number| SecretUse::new(id(number), 0, at(1), None));
    large.last_used = used.collect();
    server.command(&["CONFIG", "SET", "maxmemory", "1"]).text();
    let error = store.add_usage(&large).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
    server.command(&["CONFIG", "SET", "maxmemory", "0"]).text();
    assert_eq!(server.command(&["KEYS", "*usage*"]).text(), "");
    // Loads the script into the server.
    let mut first = batch(1, Vec::new());
    first.node = NodeId::from_u128(2);
    store.add_usage(&first).await.unwrap();
    server.command(&["CONFIG", "RESETSTAT"]).text();
    store.add_usage(&large).await.unwrap();
    let stats = server.command(&["INFO", "commandstats"]).text();
    assert!(stats.contains("cmdstat_evalsha:calls=1,"), "{stats}");
    let keys = (0..1_000).map(id).collect();
    let query = UsageQuery::new(keys, i64::MIN, i64::MAX);
    assert_eq!(store.read_usage(&query).await.unwrap().len(), 1_000);
}

#[tokio::test]
async fn uses_that_an_older_release_wrote_are_those_of_the_first_secret() {
    let server = redis_server!();
    let store = started(&server).await;
    let options = WriteOptions::new();
    store.insert(&record(1), &options).await.unwrap();
    // As its script writes it: the time, and the network if it is known.
    let older = async |millis: i64| {
        let text = match millis {
            5 => "5 10.0.0.0/8".to_owned(),
            millis => millis.to_string(),
        };
        server
            .command(&["HSET", "{apikey}:last_used", id(1).as_str(), &text])
            .text();
    };
    older(5).await;
    check_uses_beside_an_older_release(&store, older).await;
    // The older release reads the time of what this one writes.
    let text = server
        .command(&["HGET", "{apikey}:last_used", id(1).as_str()])
        .text();
    assert_eq!(text, "40 1,30");
}

#[tokio::test]
async fn networks_go_with_their_key_and_when_their_time_is_over() {
    let server = redis_server!();
    let store = started(&server).await;
    let options = WriteOptions::new();
    store.insert(&record(1), &options).await.unwrap();
    let now = hour() * 3_600_000;
    let keep = i64::try_from(KEEP.as_millis()).unwrap();
    let used = |number: u8, at: Timestamp| {
        let network = format!("10.{number}.0.0/16").parse().unwrap();
        NetworkUse::new(id(1), network, at)
    };
    let mut one = batch(1, Vec::new());
    one.networks = vec![
        used(1, at(now - keep - 3_600_001)),
        used(2, at(now)),
        used(3, at(now + 1)),
    ];
    store.add_usage(&one).await.unwrap();
    let mut found = store.read_networks(&[id(1), id(2)]).await.unwrap();
    found.sort_by_key(|used| used.at);
    assert_eq!(found, one.networks[1..]);
    let name = format!("{{apikey}}:networks:{}", id(1));
    let left = server.command(&["PTTL", &name]).text();
    let left = left.parse::<i64>().unwrap();
    assert!((keep - 60_000..=keep).contains(&left), "{left}");
    // A key of another type, and a member by hand, spoil nothing.
    store.insert(&record(2), &options).await.unwrap();
    let other = format!("{{apikey}}:networks:{}", id(2));
    server.command(&["SET", &other, "planted"]).text();
    server.command(&["ZADD", &name, "5", "nowhere"]).text();
    let mut next = batch(2, vec![row(1, "/a", hour(), 1)]);
    next.networks = vec![used(4, at(now + 2))];
    next.networks
        .push(NetworkUse::new(id(2), next.networks[0].network, at(now)));
    store.add_usage(&next).await.unwrap();
    assert_eq!(sums(&store, 1).await, (1, 2));
    assert_eq!(store.read_networks(&[id(1)]).await.unwrap().len(), 3);
    store
        .revoke(&id(1), &because("lost"), &WriteOptions::new())
        .await
        .unwrap();
    store.purge_all(at(i64::MAX)).await.unwrap();
    assert_eq!(server.command(&["EXISTS", &name]).text(), "0");
}
