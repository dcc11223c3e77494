//! Data of schema 103, and a process of its release that runs on beside one of this.

use std::future::poll_fn;
use std::pin::pin;
use std::time::Instant;

use apikey_runtime::audit::ChangeOrigin;
use apikey_runtime::store::{
    AuditQuery, AuditStore, ListQuery, ListRange, OwnerStore, StoreError, WriteOptions,
};
use apikey_runtime::{KeyId, KeyStore, RedisStore};
use apikey_test_support::servers::redis::RedisServer;

use super::owners::{added, left, mark_all};
use super::ranges::ids;
use super::{redis_server, started};
use crate::{at, owned};

const META: &str = "{apikey}:meta";
const INDEX: &str = "{apikey}:index";

/// Adds records as release 103 did. Their labels, owners and times differ; ten have one owner.
const ADD: &str = "for i = ARGV[1], ARGV[2] do \
    local id, owner, label = string.format('%022d', i), 'owner ' .. math.floor(i / 10), 'Label ' .. i \
    if i % 10 == 9 then label = 'É ' .. i end \
    local record, expires = '{apikey}:key:' .. id, string.format('%.0f', 4000000000000 + i) \
    redis.call('HSET', record, 'prefix', 'my_api', 'label', label, 'owner', owner, \
        'digest', 'sha256$' .. string.rep('0', 57), 'digest_end', '1234567', 'created_at', \
        string.format('%.0f', 1700000000000 + i), 'expires_at', expires, 'enabled', '1', 'version', '1') \
    redis.call('HSETNX', '{apikey}:owners', owner, '1 0 0') \
    redis.call('ZADD', '{apikey}:index', 0, 'i' .. id, 0, 'o' .. string.sub(redis.sha1hex(owner), 1, 16) .. id, \
        0, 'l' .. string.sub(redis.sha1hex(label), 1, 16) .. id) \
    redis.call('ZADD', '{apikey}:purge_index', expires, id) end return 'OK'";

fn add(server: &RedisServer, from: u64, to: u64) {
    for start in (from..=to).step_by(10_000) {
        let [from, to] = [start, to.min(start + 9_999)].map(|number| number.to_string());
        assert_eq!(server.command(&["EVAL", ADD, "0", &from, &to]).text(), "OK");
    }
}

async fn as_103(server: &RedisServer) {
    started(server).await.stop().await;
    server.command(&["HSET", META, "schema", "103"]);
}

fn owner(number: u64) -> ListRange {
    ListRange::Owner(format!("owner {}", number / 10))
}

fn label(text: &str) -> ListRange {
    ListRange::Label(text.to_owned())
}

fn expires(from: i64, to: i64) -> ListRange {
    let [from, to] = [from, to].map(at);
    ListRange::Expires { from, to }
}

fn keys(numbers: impl IntoIterator<Item = u64>) -> Vec<KeyId> {
    numbers
        .into_iter()
        .map(|number| added(number.into()))
        .collect()
}

#[tokio::test]
async fn data_of_schema_103_is_indexed_in_steps() {
    let server = redis_server!(&[
        ("slowlog-log-slower-than", "0"),
        ("slowlog-max-len", "1000")
    ]);
    as_103(&server).await;
    add(&server, 1, 350);
    // Records that are missing, of another type, or broken do not stop it, and neither does what is not an id.
    let name = |number: u64| format!("{{apikey}}:key:{}", added(number.into()));
    server.command(&["DEL", &name(5)]);
    server.command(&["SET", &name(6), "a text"]);
    server.command(&["HSET", &name(7), "created_at", "x"]);
    let broken = server.try_command(&[b"HSET", name(8).as_bytes(), b"label", b"\xff\xc3"]);
    broken.unwrap();
    for junk in ["l", "lx", "l0123456789abcdef0123456789abcdef!"] {
        server.command(&["ZADD", INDEX, "0", junk]);
    }
    server.command(&["SLOWLOG", "RESET"]);
    let store = started(&server).await;
    assert_eq!(server.command(&["HGET", META, "schema"]).text(), "105");
    let log = server.command(&["SLOWLOG", "GET", "-1"]);
    let sizes = log.list().iter().map(|entry| entry.list()[3].list());
    let sizes = sizes.filter(|words| words[0].text().starts_with("EVAL"));
    let most = sizes
        .map(|words| words[2].text().parse::<usize>().unwrap())
        .max();
    assert_eq!(most, Some(56), "fifty records in one script");

    let page = store.list(&ListQuery::first(1_000)).await.unwrap();
    let listed: Vec<_> = page.records.iter().map(|record| record.id).collect();
    assert_eq!(
        listed,
        keys((1..=350).rev().filter(|number| !(5..=8).contains(number)))
    );
    let unreadable = keys([8, 7, 6])
        .iter()
        .map(KeyId::to_string)
        .collect::<Vec<_>>();
    assert_eq!(page.unreadable, unreadable);
    assert_eq!(ids(&store, owner(20), 3).await, keys((20..30).rev()));
    let mut of_11: Vec<_> = keys([11]);
    of_11.extend(keys(110..120).into_iter().filter(|id| *id != added(119)));
    assert_eq!(ids(&store, label("label 11"), 4).await, of_11);
    assert_eq!(ids(&store, label("é 2"), 4).await.len(), 11);
    assert_eq!(
        ids(&store, expires(4_000_000_000_020, 4_000_000_000_025), 2).await,
        keys(20..25)
    );
    assert_eq!(store.count_live_keys("owner 2", 100).await.unwrap(), 10);
    let full = WriteOptions::new().with_max_live_keys(Some(10));
    let another = store.insert(&owned(1 << 90, "owner 2"), &full).await;
    assert!(matches!(another, Err(StoreError::TooManyKeys { max: 10 })));
    let audit = store.read_audit(&AuditQuery::newest(10)).await.unwrap();
    assert_eq!(audit.entries, [], "an upgrade is not a change");
    let record = store.find(&added(20)).await.unwrap().unwrap();
    assert_eq!(
        (record.version, record.rotations, record.created_by),
        (1, 0, None)
    );
    // A start on data that is up to date writes nothing.
    store.stop().await;
    let before = server
        .command(&["INFO", "commandstats"])
        .text()
        .matches("cmdstat_zadd")
        .count();
    server.command(&["CONFIG", "RESETSTAT"]);
    drop(started(&server).await);
    let after = server
        .command(&["INFO", "commandstats"])
        .text()
        .matches("cmdstat_zadd")
        .count();
    assert_eq!((before, after), (1, 0));
}

/// The scripts of release 103 add and remove these entries of the index.
#[tokio::test]
async fn what_a_process_of_release_103_writes_is_listed_and_counted() {
    let server = redis_server!();
    let store = started(&server).await;
    let full = |max| WriteOptions::new().with_max_live_keys(Some(max));
    store
        .insert(&owned(1 << 90, "owner 2"), &full(1))
        .await
        .unwrap();
    add(&server, 20, 22);
    assert_eq!(store.count_live_keys("owner 2", 100).await.unwrap(), 4);
    add(&server, 23, 23);
    let another = store.insert(&owned(2 << 90, "owner 2"), &full(5)).await;
    assert!(matches!(another, Err(StoreError::TooManyKeys { max: 5 })));
    for range in [
        ListRange::All,
        owner(20),
        label(""),
        expires(0, i64::MAX),
        ListRange::Id(String::new()),
    ] {
        add(&server, 24, 24);
        assert!(
            ids(&store, range.clone(), 2).await.contains(&added(24)),
            "{range:?}"
        );
        store
            .revoke(&added(24), &crate::because("x"), &WriteOptions::new())
            .await
            .unwrap();
        store
            .purge(at(5_000), None, &ChangeOrigin::new())
            .await
            .unwrap();
        assert!(
            !ids(&store, range.clone(), 2).await.contains(&added(24)),
            "{range:?}"
        );
    }
    // It changes a label, an owner and an expiry.
    const CHANGE: &str = "local id = ARGV[1] \
        local record = '{apikey}:key:' .. id \
        local function member(kind, field) \
            return kind .. string.sub(redis.sha1hex(redis.call('HGET', record, field)), 1, 16) .. id end \
        redis.call('ZREM', KEYS[1], 'i' .. id, member('o', 'owner'), member('l', 'label')) \
        redis.call('HSET', record, 'label', 'new', 'owner', 'owner 9', 'expires_at', '4000') \
        redis.call('HINCRBY', record, 'version', 1) \
        redis.call('ZADD', KEYS[1], 0, 'i' .. id, 0, member('o', 'owner'), 0, member('l', 'label')) return 'OK'";
    let changed = server.command(&["EVAL", CHANGE, "1", INDEX, added(20).as_str()]);
    assert_eq!(changed.text(), "OK");
    assert_eq!(ids(&store, label("label 20"), 9).await, []);
    assert_eq!(ids(&store, label("new"), 9).await, [added(20)]);
    assert_eq!(ids(&store, owner(90), 9).await, [added(20)]);
    assert!(!ids(&store, owner(20), 9).await.contains(&added(20)));
    assert_eq!(ids(&store, expires(0, 5_000), 9).await, [added(20)]);
    store
        .insert(&owned(2 << 90, "owner 2"), &full(5))
        .await
        .unwrap();
    // It finds the keys of this release when it marks them.
    const OF_OWNER: &str = "local stem = 'o' .. string.sub(redis.sha1hex(ARGV[1]), 1, 16) \
        return #redis.call('ZRANGE', KEYS[1], '[' .. stem, '(' .. stem .. '\\255', 'BYLEX')";
    let found = server.command(&["EVAL", OF_OWNER, "1", INDEX, "owner 2"]);
    assert_eq!(found.text(), "5");
    store
        .revoke_owner_keys("owner 2", &left(3_000, "left"), &ChangeOrigin::new())
        .await
        .unwrap();
    mark_all(&store).await;
    assert_eq!(store.count_live_keys("owner 2", 9).await.unwrap(), 0);
}

/// Measures: `REDIS_KEYS=1000000 cargo test --workspace --all-features --test stores redis::upgraded::measured -- --nocapture`. A
/// busy machine changes the time that a call takes, and less so the server's own, of which `INFO` tells.
#[tokio::test]
async fn measured_pages_take_as_long_with_many_keys() {
    let server = redis_server!();
    as_103(&server).await;
    let info = |section: &str, name: &str| {
        let info = server.command(&["INFO", section]).text();
        let (_, rest) = info.split_once(&format!("{name}:")).unwrap();
        rest.lines().next().unwrap().trim().parse::<f64>().unwrap()
    };
    let cpu = || info("cpu", "used_cpu_user") + info("cpu", "used_cpu_sys");
    let count = std::env::var("REDIS_KEYS").map_or(20_000, |count| count.parse().unwrap());
    let empty = info("memory", "used_memory");
    add(&server, 1, count);
    let each = || (info("memory", "used_memory") - empty) / count as f64;
    let (before, began, worked) = (each(), Instant::now(), cpu());
    let store = started(&server).await;
    println!(
        "{count} keys: {before:.0} bytes each before the upgrade, {:.0} after it, which took {:.1?} and {:.1} s of the server",
        each(),
        began.elapsed(),
        cpu() - worked
    );
    let middle = count / 2;
    let ranges = [
        ("newest", ListRange::All),
        ("owner", owner(middle)),
        ("label", label("label 5")),
        ("id", ListRange::Id("000".to_owned())),
        (
            "expires",
            expires(4_000_000_000_000 + middle.cast_signed(), i64::MAX),
        ),
    ];
    const ROUNDS: u32 = 50;
    for (name, range) in ranges {
        let (began, worked) = (Instant::now(), cpu());
        for _ in 0..ROUNDS {
            let page = store
                .list(&ListQuery::of(range.clone(), 100))
                .await
                .unwrap();
            assert!(!page.records.is_empty());
        }
        let (called, worked) = (
            began.elapsed() / ROUNDS,
            (cpu() - worked) * 1_000.0 / f64::from(ROUNDS),
        );
        println!("{name}: {worked:.2} ms of the server, {called:.1?} for the caller");
        assert!(worked < 10.0, "{name}: {worked} ms");
    }
    let (began, worked) = (Instant::now(), cpu());
    for _ in 0..ROUNDS {
        let live = store
            .count_live_keys(&format!("owner {}", middle / 10), 1_000)
            .await
            .unwrap();
        assert_eq!(live, 10);
    }
    let (called, worked) = (
        began.elapsed() / ROUNDS,
        (cpu() - worked) * 1_000.0 / f64::from(ROUNDS),
    );
    println!("live keys: {worked:.2} ms of the server, {called:.1?} for the caller");
    assert!(worked < 10.0, "{worked} ms");
}

/// Starts a store, and returns whether it said that it brings data up to date.
async fn upgrades(server: &RedisServer) -> bool {
    let store = RedisStore::new(server.url());
    let (mut start, mut seen) = (pin!(store.start()), false);
    let started = poll_fn(|context| {
        let polled = start.as_mut().poll(context);
        seen |= store.is_upgrading();
        polled
    });
    started.await.unwrap();
    assert!(!store.is_upgrading());
    seen
}

#[tokio::test]
async fn a_start_says_that_it_brings_data_up_to_date() {
    let server = redis_server!();
    assert!(upgrades(&server).await, "new data get their mark");
    assert!(!upgrades(&server).await);
    add(&server, 1, 200);
    assert!(upgrades(&server).await, "records are indexed");
    assert!(!upgrades(&server).await);
    server.command(&["HDEL", META, "notices"]);
    assert!(upgrades(&server).await, "notices are added");
    assert!(!upgrades(&server).await);
}
