//! Notices before the end of keys: their places in the index, nodes that are gone, and data of an older release.

use std::collections::{BTreeMap, BTreeSet};

use apikey_runtime::audit::ChangeOrigin;
use apikey_runtime::store::{
    ExpiryNotice, ExpiryNotices, KeyPatch, Membership, NodeId, WriteOptions,
};
use apikey_runtime::{KeyId, KeyRecord, KeyStore, RedisStore, Timestamp};
use apikey_test_support::servers::redis::{RedisServer, Reply};

use super::{cursor, redis_server, started};
use crate::{at, id, record};

const META: &str = "{apikey}:meta";
const INDEX: &str = "{apikey}:index";

fn node(number: u128) -> NodeId {
    NodeId::from_u128(number)
}

fn dated(number: u128, expires: i64) -> KeyRecord {
    let mut record = record(number);
    record.expires = Some(at(expires));
    record
}

async fn add(store: &RedisStore, record: &KeyRecord) {
    store.insert(record, &WriteOptions::new()).await.unwrap();
}

async fn claim(store: &RedisStore, number: u128, limit: u32) -> Vec<ExpiryNotice> {
    let claim = store.claim_notices(&node(number), at(1_000), limit).await;
    claim.unwrap()
}

fn keys(claimed: &[ExpiryNotice]) -> Vec<KeyId> {
    claimed.iter().map(|notice| notice.key).collect()
}

/// Returns the bytes by which times are sorted.
fn sortable(text: &[u8]) -> Option<[u8; 8]> {
    let time: i64 = str::from_utf8(text).ok()?.parse().ok()?;
    Some((time ^ i64::MIN).to_be_bytes())
}

/// Returns a text of a list; nothing if it is missing, or if the reply is an error.
fn bytes(reply: &Reply, place: usize) -> Option<&[u8]> {
    match reply {
        Reply::List(list) => list
            .get(place)
            .filter(|one| **one != Reply::Nil)
            .map(Reply::bytes),
        _ => None,
    }
}

/// Returns the time of the server.
fn now(server: &RedisServer) -> Timestamp {
    let time = server.command(&["TIME"]);
    let part = |place: usize| time.list()[place].text().parse::<i64>().unwrap();
    at(part(0) * 1_000 + part(1) / 1_000)
}

fn between(server: &RedisServer, low: &str, high: &str) -> Vec<Vec<u8>> {
    let reply = server.command(&["ZRANGE", INDEX, low, high, "BYLEX"]);
    let entries = reply.list().iter().map(Reply::bytes);
    entries.map(<[u8]>::to_vec).collect()
}

/// Returns the ids whose notices and expiries do not fit, by the fields of records and the entries of the index.
pub(super) fn differing(server: &RedisServer) -> BTreeSet<String> {
    let mut entries: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut wrong = BTreeSet::new();
    for entry in [between(server, "[h", "(i"), between(server, "[n", "(o")].concat() {
        let id = String::from_utf8_lossy(&entry[entry.len() - 22..]).into_owned();
        if entries.insert(id.clone(), entry).is_some() {
            wrong.insert(id);
        }
    }
    for record in between(server, "[i", "(j") {
        let id = String::from_utf8_lossy(&record[1..]).into_owned();
        let name = format!("{{apikey}}:key:{id}");
        let fields = server.command(&["HMGET", &name, "expires_at", "notice"]);
        let entry = entries.remove(&id);
        let ends = bytes(&fields, 0).map(sortable);
        let fits = match (ends, bytes(&fields, 1)) {
            (None, None) => entry.is_none(),
            (None, _) | (_, None) => false,
            (Some(ends), Some(notice)) => {
                let expected = notice.get(16).map(|is_planned| {
                    let (planned, claimer) =
                        notice[16..].split_at(1 + usize::from(*is_planned) * 8);
                    let stem = match claimer {
                        b"" => b"n".to_vec(),
                        claimer => [b"h", claimer].concat(),
                    };
                    [&stem, planned, id.as_bytes()].concat()
                });
                ends.is_some_and(|ends| notice.starts_with(&ends)) && entry == expected
            }
        };
        if !fits {
            wrong.insert(id);
        }
    }
    wrong.extend(entries.into_keys());
    wrong
}

#[tokio::test]
async fn what_a_tool_or_an_older_release_changes_is_found_out() {
    let server = redis_server!();
    let store = started(&server).await;
    store.join(&node(1)).await.unwrap();
    for number in 1..=7 {
        add(&store, &dated(number, 9_000)).await;
    }
    assert_eq!(differing(&server), BTreeSet::new());
    let name = |number: u128| format!("{{apikey}}:key:{}", id(number));
    server.command(&["HSET", &name(1), "expires_at", "5000"]);
    server.command(&["HDEL", &name(2), "expires_at"]);
    server.command(&["DEL", &name(3)]);
    server.command(&["DEL", &name(4)]);
    server.command(&["SET", &name(4), "a text"]);
    server.command(&["HDEL", &name(5), "notice"]);
    server.command(&["HSET", &name(6), "expires_at", "soon"]);
    // The negative control of `differing`.
    let wrong = (1..=6).map(|number| id(number).to_string()).collect();
    assert_eq!(differing(&server), wrong);
    for junk in ["n\0", "n\0x", "n\0 0123456789abcdef01234", "n\u{1}"] {
        server.command(&["ZADD", INDEX, "0", junk]);
    }
    let claimed = claim(&store, 1, 3).await;
    let ends: Vec<_> = claimed
        .iter()
        .map(|notice| (notice.key, notice.expires, notice.since))
        .collect();
    assert_eq!((ends[0].0, ends[0].1), (id(1), at(5_000)));
    let (earliest, latest) = (ends[1].2, now(&server));
    let is_between = (earliest..=latest).contains(&ends[0].2);
    assert!(is_between, "{:?} is after its first notice", ends[0].2);
    assert_eq!((ends[1].0, ends.len()), (id(7), 2));
    assert_eq!(keys(&claim(&store, 1, 100).await), [id(1), id(7)]);
    assert_eq!(between(&server, "[n", "(o"), Vec::<Vec<u8>>::new());
    assert_eq!(between(&server, "[h", "(i").len(), 2, "no junk is left");
}

/// A call looks at the claims of 100 nodes, and takes over those of 8 that are gone.
#[tokio::test]
async fn claims_of_nodes_that_are_gone_are_found_among_many_others() {
    const LIVE: u128 = 150;
    const GONE: u128 = 20;
    let server = redis_server!();
    let store = started(&server).await;
    for number in 1..=LIVE + GONE {
        add(&store, &dated(number, 9_000)).await;
        // Claims of one node each, whose ids are far apart.
        let claimer = number * (u128::MAX / 1_000);
        store.join(&node(claimer)).await.unwrap();
        let claimed = store.claim_notices(&node(claimer), at(0), 1).await.unwrap();
        assert_eq!(keys(&claimed), [id(number)]);
    }
    for number in (1..=LIVE + GONE).step_by(8).take(GONE as usize) {
        let claimer = node(number * (u128::MAX / 1_000));
        store.leave(&claimer).await.unwrap();
    }
    store.join(&node(1)).await.unwrap();
    let mut calls = 0;
    let mut found = BTreeSet::new();
    while found.len() < GONE as usize {
        let claimed = claim(&store, 1, 1_000).await;
        assert!(claimed.len() <= found.len() + 8, "{claimed:?}");
        found.extend(keys(&claimed));
        calls += 1;
        assert!(calls < 1_000, "only {found:?} are found");
    }
    assert!(calls >= 3, "8 nodes in a call");
    let expected: BTreeSet<_> = (1..=LIVE + GONE)
        .step_by(8)
        .take(GONE as usize)
        .map(id)
        .collect();
    assert_eq!(found, expected);
    assert_eq!(differing(&server), BTreeSet::new());
}

/// Brings data of this release, with notices that are not claimed, to what a release before it writes.
fn as_older(server: &RedisServer, schema: &str) {
    const REMOVE: &str = "for _, entry in ipairs(redis.call('ZRANGE', KEYS[1], '[n', '(o', 'BYLEX')) do \
        redis.call('ZREM', KEYS[1], entry) \
        redis.call('HDEL', '{apikey}:key:' .. string.sub(entry, -22), 'notice') end \
        return redis.call('HDEL', '{apikey}:meta', 'notices')";
    assert_eq!(server.command(&["EVAL", REMOVE, "1", INDEX]).text(), "1");
    server.command(&["HSET", META, "schema", schema]);
}

#[tokio::test]
async fn data_of_schema_104_gets_its_notices_in_steps() {
    const KEYS: u128 = 250;
    let server = redis_server!(&[
        ("slowlog-log-slower-than", "0"),
        ("slowlog-max-len", "1000")
    ]);
    let store = started(&server).await;
    for number in 1..=KEYS {
        let mut key = dated(number, 9_000 + number as i64);
        key.created = at(number as i64);
        add(&store, &key).await;
    }
    add(&store, &record(KEYS + 1)).await;
    store.stop().await;
    as_older(&server, "104");
    let name = |number: u128| format!("{{apikey}}:key:{}", id(number));
    server.command(&["DEL", &name(5)]);
    server.command(&["DEL", &name(6)]);
    server.command(&["SET", &name(6), "a text"]);
    server.command(&["HSET", &name(7), "created_at", "x"]);
    for junk in ["x", "xx", "x0123456789abcdef0123456789abc!"] {
        server.command(&["ZADD", INDEX, "0", junk]);
    }
    // A start that was interrupted after 20 records.
    let entries = between(&server, "[x", "(y");
    let place = entries
        .iter()
        .position(|entry| entry.ends_with(id(20).as_str().as_bytes()));
    let last = &entries[place.unwrap()];
    let command: [&[u8]; 4] = [b"HSET", META.as_bytes(), b"notices", last];
    server.try_command(&command).unwrap();
    let store = started(&server).await;
    let rest = claim(&store, 1, 1_000).await;
    assert_eq!(rest.len() as u128, KEYS - 20);
    store.stop().await;
    server.command(&["HDEL", META, "notices"]);
    server.command(&["SLOWLOG", "RESET"]);
    let store = started(&server).await;
    assert_eq!(server.command(&["HGET", META, "schema"]).text(), "105");
    assert_eq!(server.command(&["HGET", META, "notices"]).text(), "all");
    let log = server.command(&["SLOWLOG", "GET", "-1"]);
    let sizes = log.list().iter().map(|entry| entry.list()[3].list());
    let sizes = sizes.filter(|words| words[0].text().starts_with("EVAL"));
    let most = sizes.map(|words| words[2].text().parse::<usize>().unwrap());
    assert_eq!(most.max(), Some(106), "a hundred records in one script");
    let mut claimed = claim(&store, 1, 1_000).await;
    claimed.sort_by_key(|notice| notice.key);
    let expected: Vec<_> = (1..=KEYS)
        .filter(|number| ![5, 6].contains(number))
        .collect();
    assert_eq!(
        keys(&claimed),
        expected.iter().copied().map(id).collect::<Vec<_>>()
    );
    for (notice, number) in claimed.iter().zip(expected) {
        let since = if number == 7 { i64::MIN } else { number as i64 };
        assert_eq!(
            (notice.expires, notice.since, notice.planned),
            (at(9_000 + number as i64), at(since), None)
        );
    }
    // What is claimed or finished stays so, however often the notices are completed.
    let finished: Vec<_> = claimed.iter().map(|notice| (*notice, None)).collect();
    store
        .finish_notices(&node(1), &finished[..200])
        .await
        .unwrap();
    store.stop().await;
    server.command(&["HDEL", META, "notices"]);
    server.command(&["CONFIG", "RESETSTAT"]);
    let store = started(&server).await;
    let stats = server.command(&["INFO", "commandstats"]).text();
    assert!(!stats.contains("cmdstat_zadd"), "{stats}");
    assert_eq!(claim(&store, 1, 1_000).await.len(), claimed.len() - 200);
    // A start on data that is up to date reads one field more, and writes nothing.
    store.stop().await;
    server.command(&["CONFIG", "RESETSTAT"]);
    let store = started(&server).await;
    let stats = server.command(&["INFO", "commandstats"]).text();
    assert!(!stats.contains("cmdstat_hset"), "{stats}");
    assert_eq!(
        cursor(&store).await.epoch,
        KEYS as u64 + 2,
        "no epoch is taken"
    );
}

/// Adds records that expire, and in another call their notices, as the scripts do.
const ADD: &str = "for i = ARGV[1], ARGV[2] do \
    local id, expires = string.format('%022d', i), 4000000000000 + i \
    local record, ends = '{apikey}:key:' .. id, \
        struct.pack('>I4I4', 2147483648 + math.floor(expires / 4294967296), expires % 4294967296) \
    if ARGV[3] == 'notices' then \
        redis.call('HSET', record, 'notice', ends .. ends .. '\\0') \
        redis.call('ZADD', KEYS[1], 0, 'n\\0' .. id) \
    else \
        redis.call('HSET', record, 'prefix', 'my_api', 'label', 'l', 'digest', 'sha256$' .. string.rep('0', 57), \
            'digest_end', '1234567', 'created_at', '1700000000000', 'enabled', '1', 'version', '1', \
            'expires_at', string.format('%.0f', expires)) \
        redis.call('ZADD', KEYS[1], 0, 'i' .. id, 0, 'x' .. ends .. id) \
    end end return 'OK'";

/// Measures: `REDIS_KEYS=1000000 cargo test --workspace --all-features --test stores redis::notices::measured -- --nocapture`.
#[tokio::test]
async fn measured_claims_take_as_long_with_many_notices() {
    let server = redis_server!();
    let store = started(&server).await;
    let info = |section: &str, name: &str| {
        let info = server.command(&["INFO", section]).text();
        let (_, rest) = info.split_once(&format!("{name}:")).unwrap();
        rest.lines().next().unwrap().trim().parse::<f64>().unwrap()
    };
    let cpu = || info("cpu", "used_cpu_user") + info("cpu", "used_cpu_sys");
    let count = std::env::var("REDIS_KEYS").map_or(20_000, |count| count.parse().unwrap());
    let add = |what: &str| {
        let before = info("memory", "used_memory");
        for start in (1..=count).step_by(10_000) {
            let [from, to] = [start, count.min(start + 9_999)].map(|number| number.to_string());
            let added = server.command(&["EVAL", ADD, "1", INDEX, &from, &to, what]);
            assert_eq!(added.text(), "OK");
        }
        (info("memory", "used_memory") - before) / count as f64
    };
    let [records, notices] = ["records", "notices"].map(add);
    println!("{count} keys: {records:.0} bytes for each, and {notices:.0} bytes for its notice");
    store.join(&node(1)).await.unwrap();
    for (limit, rounds) in [(100, 50), (1_000, 10)] {
        let (mut claiming, mut again, mut finishing) = (0.0, 0.0, 0.0);
        for round in 0..rounds {
            let worked = cpu();
            let claimed = claim(&store, 1, limit).await;
            claiming += cpu() - worked;
            assert_eq!(claimed.len(), limit as usize);
            let worked = cpu();
            assert_eq!(claim(&store, 1, limit).await, claimed);
            again += cpu() - worked;
            let planned = Some(at(2_000 + round));
            let finished: Vec<_> = claimed.iter().map(|notice| (*notice, planned)).collect();
            let worked = cpu();
            store.finish_notices(&node(1), &finished).await.unwrap();
            finishing += cpu() - worked;
        }
        let millis = |time: f64| time * 1_000.0 / rounds as f64;
        let [claiming, again, finishing] = [claiming, again, finishing].map(millis);
        println!(
            "{limit} notices: claimed in {claiming:.2} ms of the server, again in {again:.2} ms, finished in {finishing:.2} ms"
        );
        let bound = f64::from(limit) * 0.1;
        assert!(
            claiming.max(again).max(finishing) < bound,
            "{claiming}, {again} and {finishing} ms are too many"
        );
    }
    assert_eq!(claim(&store, 2, 1).await.len(), 1);
}

/// The notice follows each change, by whatever way the record is changed.
#[tokio::test]
async fn notices_and_records_fit_after_any_changes() {
    let server = redis_server!();
    let store = started(&server).await;
    let mut dice = apikey_test_support::dice::Dice::new(7);
    for step in 0..600_u64 {
        let number = u128::from(dice.below(12));
        let ends = [None, Some(at(5_000)), Some(at(dice.below(9_000) as i64))];
        let end = ends[dice.below(3) as usize];
        let any = WriteOptions::new();
        match dice.below(8) {
            0 | 1 => {
                let mut key = record(number);
                key.expires = end;
                let _ = store.insert(&key, &any).await;
            }
            2..=4 => {
                let mut patch = KeyPatch::new();
                patch.expires = Some(end);
                let _ = store.update(&id(number), &patch, &any).await;
            }
            5 => {
                let claimed = claim(&store, u128::from(dice.below(3)), 3).await;
                let planned = |notice: ExpiryNotice| (notice, end.filter(|_| step % 2 == 0));
                let finished: Vec<_> = claimed.into_iter().map(planned).collect();
                let finisher = node(u128::from(dice.below(3)));
                store.finish_notices(&finisher, &finished).await.unwrap();
            }
            6 => drop(claim(&store, u128::from(dice.below(3)), 3).await),
            _ if step % 9 == 0 => {
                let before = at(dice.below(6_000) as i64);
                let purge = store.purge(before, None, &ChangeOrigin::new()).await;
                purge.unwrap();
            }
            _ => {
                let _ = store.revoke(&id(number), &crate::because("x"), &any).await;
            }
        }
        assert_eq!(differing(&server), BTreeSet::new(), "after step {step}");
    }
}
