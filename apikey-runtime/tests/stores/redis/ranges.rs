//! Lists by range: their order, and entries of the index that do not fit.

use apikey_runtime::audit::ChangeOrigin;
use apikey_runtime::store::{KeyPatch, ListQuery, ListRange, OwnerStore, WriteOptions};
use apikey_runtime::{KeyId, KeyRecord, KeyStore, MemoryStore, RedisStore, Timestamp};
use apikey_test_support::servers::redis::RedisServer;

use super::owners::{left, mark_all};
use super::{redis_server, started};
use crate::{InSteps, at, because, id, owned, record};

const INDEX: &str = "{apikey}:index";

/// Returns the ids on all pages of a range.
pub(super) async fn ids(store: &dyn KeyStore, range: ListRange, limit: u32) -> Vec<KeyId> {
    let mut query = ListQuery::of(range, limit);
    let mut ids = Vec::new();
    loop {
        let page = store.list(&query).await.unwrap();
        assert_eq!(page.unreadable, Vec::<String>::new());
        ids.extend(page.records.iter().map(|record| record.id));
        query.after = page.next;
        if query.after.is_none() {
            return ids;
        }
    }
}

fn expires(from: i64, to: i64) -> ListRange {
    let [from, to] = [from, to].map(at);
    ListRange::Expires { from, to }
}

/// Labels whose order or beginning is easily wrong.
fn labels() -> Vec<String> {
    let mut labels: Vec<_> = [
        "",
        "a",
        "A",
        "a\0",
        "a\0b",
        "a\0\0",
        "a\u{1}",
        "ab",
        "AB",
        "a%",
        "a_",
        "\0",
        "\u{1}",
        "\u{7f}",
        "é",
        "É",
        "e\u{301}",
        "ǆ",
        "İ",
        "ß",
        "\u{10ffff}",
        "a\u{10ffff}",
        "\u{10ffff}\0",
        "ÿ",
        "a ",
        "a'\"><script>",
        "\u{202e}a",
    ]
    .map(str::to_owned)
    .to_vec();
    for one in ["a", "É", "\0", "\u{10ffff}"] {
        labels.push(one.repeat(200));
        labels.push(one.repeat(64));
        labels.push(one.repeat(63));
    }
    labels
}

fn times() -> [Timestamp; 9] {
    const EDGE: i64 = 1 << 53;
    [
        i64::MIN,
        i64::MIN + 1,
        -EDGE - 1,
        -EDGE,
        -1,
        0,
        1,
        EDGE + 1,
        i64::MAX - 1,
    ]
    .map(at)
}

const OWNERS: [&str; 4] = ["", "ann", "Ann", "a\0nn"];

fn ranges() -> Vec<ListRange> {
    let mut ranges = vec![
        ListRange::All,
        expires(i64::MIN, i64::MAX),
        expires(-1, 1),
        expires(1, 0),
    ];
    ranges.extend(
        OWNERS
            .iter()
            .map(|owner| ListRange::Owner((*owner).to_owned())),
    );
    let beginnings = labels()
        .into_iter()
        .map(|label| apikey_runtime::store::fold_label(&label));
    ranges.extend(beginnings.map(ListRange::Label));
    let beginnings = [
        "",
        "0",
        "00000000000000000000",
        "z",
        "\0",
        "0000000000000000000001x",
    ];
    ranges.extend(beginnings.map(|beginning| ListRange::Id(beginning.to_owned())));
    ranges
}

async fn compare(store: &RedisStore, reference: &MemoryStore, moment: &str) {
    for range in ranges() {
        for limit in [3, 1_000] {
            let expected = ids(reference, range.clone(), limit).await;
            assert_eq!(
                ids(store, range.clone(), limit).await,
                expected,
                "{range:?} {moment}"
            );
        }
    }
    for owner in OWNERS {
        let counted = store.count_live_keys(owner, 1_000).await.unwrap();
        let expected = reference.count_live_keys(owner, 1_000).await.unwrap();
        assert_eq!(counted, expected, "{owner:?} {moment}");
    }
}

/// Makes the same changes in a store in memory, which compares each record.
#[tokio::test]
async fn each_range_and_each_count_is_as_in_memory() {
    let server = redis_server!();
    let (store, reference) = (started(&server).await, MemoryStore::new());
    let stores: [&dyn KeyStore; 2] = [&store, &reference];
    let (labels, times) = (labels(), times());
    let options = WriteOptions::new();
    let mut seed = 7_usize;
    let mut pick = |count: usize| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % count
    };
    let mut number = 0_u128;
    for label in labels.iter().cycle().take(3 * labels.len()) {
        number += 1;
        let mut record = record(number);
        record.label.clone_from(label);
        record.created = times[pick(times.len())];
        record.expires = Some(times[pick(times.len())]).filter(|_| !number.is_multiple_of(3));
        record.owner = Some(OWNERS[pick(4)].to_owned()).filter(|_| !number.is_multiple_of(5));
        for store in stores {
            store.insert(&record, &options).await.unwrap();
        }
    }
    compare(&store, &reference, "after inserts").await;
    for step in 0..150_usize {
        let key = id(pick(usize::try_from(number).unwrap()) as u128 + 1);
        let mut patch = KeyPatch::new();
        match pick(6) {
            0 => patch.label = Some(labels[pick(labels.len())].clone()),
            1 => patch.expires = Some(Some(times[pick(times.len())])),
            2 => patch.expires = Some(None),
            3 => patch.owner = Some(Some(OWNERS[pick(4)].to_owned())),
            4 => patch.owner = Some(None),
            _ => patch.enabled = Some(false),
        }
        for store in stores {
            store.update(&key, &patch, &options).await.unwrap();
        }
        if step % 10 == 0 {
            for store in stores {
                store
                    .revoke(&key, &because("lost"), &options)
                    .await
                    .unwrap();
            }
        }
        if step % 50 == 20 {
            for store in stores {
                let owners = store.owners().unwrap();
                let revocation = left(3_000, "left");
                owners
                    .revoke_owner_keys("ann", &revocation, &ChangeOrigin::new())
                    .await
                    .unwrap();
            }
            compare(&store, &reference, "before marking").await;
            mark_all(&store).await;
            while reference.mark_revoked_keys().await.unwrap() {}
        }
    }
    compare(&store, &reference, "after updates").await;
    for store in stores {
        store.purge_all(at(0)).await.unwrap();
    }
    compare(&store, &reference, "after a purge").await;
    for store in stores {
        for owner in OWNERS {
            let owners = store.owners().unwrap();
            // An owner may never have had a key.
            let _ = owners
                .revoke_owner_keys(owner, &left(1, "left"), &ChangeOrigin::new())
                .await;
        }
        while store.owners().unwrap().mark_revoked_keys().await.unwrap() {}
        for key in ids(store, ListRange::All, 1_000).await {
            store
                .revoke(&key, &because("lost"), &options)
                .await
                .unwrap();
        }
        store.purge_all(Timestamp::MAX).await.unwrap();
    }
    assert_eq!(
        server.command(&["ZCARD", INDEX]).text(),
        server.command(&["HLEN", "{apikey}:owners"]).text(),
        "no entry of a record is left behind"
    );
}

/// Returns the entries of the index that begin with this letter.
fn entries(server: &RedisServer, kind: &str) -> usize {
    let script = "return #redis.call('ZRANGE', KEYS[1], '[' .. ARGV[1], '(' .. string.char(string.byte(ARGV[1]) + 1), 'BYLEX')";
    server
        .command(&["EVAL", script, "1", INDEX, kind])
        .text()
        .parse()
        .unwrap()
}

/// Two texts whose hashes begin alike share a place. Here, an entry is put there by hand.
#[tokio::test]
async fn a_record_that_shares_a_place_in_the_index_is_compared_with_the_text() {
    const SHARE: &str = "local e = redis.call('ZRANGE', KEYS[1], '[t', '(t\\255', 'BYLEX')[1] \
        return redis.call('ZADD', KEYS[1], 0, string.sub(e, 1, #e - 22) .. ARGV[1])";
    let server = redis_server!();
    let store = started(&server).await;
    store
        .insert(&owned(1, "a"), &WriteOptions::new())
        .await
        .unwrap();
    let mut other = record(2);
    other.owner = None;
    store.insert(&other, &WriteOptions::new()).await.unwrap();
    let planted = server.command(&["EVAL", SHARE, "1", INDEX, id(2).as_str()]);
    assert_eq!(planted.text(), "1");
    assert_eq!(entries(&server, "t"), 2);
    let range = ListRange::Owner("a".to_owned());
    assert_eq!(ids(&store, range, 10).await, [id(1)]);
    assert_eq!(
        entries(&server, "t"),
        1,
        "an entry that does not fit is removed"
    );
}

/// What a tool, or a process of an older release, leaves in the index.
#[tokio::test]
async fn entries_that_do_not_fit_their_records_are_skipped_and_removed() {
    let server = redis_server!();
    let store = started(&server).await;
    for number in 1..=3 {
        let mut record = owned(number, "a");
        record.expires = Some(at(i64::MAX - 1));
        store.insert(&record, &WriteOptions::new()).await.unwrap();
    }
    let name = |number| format!("{{apikey}}:key:{}", id(number));
    server.command(&["DEL", &name(1)]);
    server.command(&[
        "HSET",
        &name(2),
        "label",
        "Other",
        "owner",
        "b",
        "expires_at",
        "4000",
        "created_at",
        "5",
    ]);
    let kinds = ["i", "c", "f", "t", "x"];
    let range = |kind| match kind {
        "i" => ListRange::Id(String::new()),
        "c" => ListRange::All,
        "f" => ListRange::Label("a".to_owned()),
        "t" => ListRange::Owner("a".to_owned()),
        _ => expires(5_000, i64::MAX),
    };
    for kind in kinds {
        assert!(
            !ids(&store, range(kind), 10).await.contains(&id(1)),
            "{kind}"
        );
    }
    // Now both records have the entries that fit, and no others.
    for kind in kinds {
        assert_eq!(entries(&server, kind), 2, "{kind}");
    }
    assert_eq!(ids(&store, ListRange::All, 10).await, [id(3), id(2)]);
    assert_eq!(
        ids(&store, ListRange::Label("ot".to_owned()), 10).await,
        [id(2)]
    );
    assert_eq!(
        ids(&store, ListRange::Owner("b".to_owned()), 10).await,
        [id(2)]
    );
    assert_eq!(ids(&store, expires(4_000, 4_001), 10).await, [id(2)]);
}

/// A record that cannot be read is listed as such, and the others as ever.
#[tokio::test]
async fn a_broken_record_does_not_stop_a_list_of_any_range() {
    let server = redis_server!();
    let store = started(&server).await;
    for number in 1..=3 {
        let mut record = owned(number, "a");
        record.expires = Some(at(9_000));
        store.insert(&record, &WriteOptions::new()).await.unwrap();
    }
    let name = format!("{{apikey}}:key:{}", id(2));
    for broken in [
        &["HSET", &name, "created_at", "x"],
        &["HSET", &name, "expires_at", "x"],
    ] {
        server.command(broken);
        for range in [
            ListRange::All,
            ListRange::Owner("a".to_owned()),
            ListRange::Label("a l".to_owned()),
            ListRange::Id("0".to_owned()),
            expires(0, 10_000),
        ] {
            let mut query = ListQuery::of(range.clone(), 1);
            let (mut found, mut unreadable) = (0, Vec::new());
            loop {
                let page = store.list(&query).await.unwrap();
                found += page.records.len();
                unreadable.extend(page.unreadable);
                query.after = page.next;
                if query.after.is_none() {
                    break;
                }
            }
            assert_eq!(
                (found, unreadable),
                (2, vec![id(2).to_string()]),
                "{range:?}"
            );
        }
    }
}

/// Entries that somebody wrote into the index, more than one page reads.
#[tokio::test]
async fn a_list_goes_on_after_entries_of_the_index_that_are_not_ids() {
    const JUNK: &str = "for i = 1, 2100 do redis.call('ZADD', KEYS[1], 0, ARGV[1] .. i) end";
    let server = redis_server!();
    let store = started(&server).await;
    let (first, last) = (record(1), record(2));
    for record in [&first, &last] {
        store.insert(record, &WriteOptions::new()).await.unwrap();
    }
    // Before all ids, and then between the two.
    for stem in [
        "i!".to_owned(),
        format!("i{}x", first.id),
        "c".to_owned(),
        "c\u{80}".to_owned(),
    ] {
        server.command(&["EVAL", JUNK, "1", INDEX, &stem]);
        let range = ListRange::Id(String::new());
        assert_eq!(ids(&store, range, 1).await, [first.id, last.id], "{stem}");
        assert_eq!(
            ids(&store, ListRange::All, 1).await,
            [last.id, first.id],
            "{stem}"
        );
    }
}

/// A page reads the records that it lists, and one more: whatever the others are.
#[tokio::test]
async fn a_page_reads_no_records_beside_those_that_it_lists() {
    let server = redis_server!();
    let store = started(&server).await;
    super::bulk::add(&server, 1, 3_000, "other", "");
    let mut rare: KeyRecord = owned(1 << 90, "a");
    rare.label = "Rare".to_owned();
    store.insert(&rare, &WriteOptions::new()).await.unwrap();
    store.list(&ListQuery::first(1)).await.unwrap();
    let read = || {
        let stats = server.command(&["INFO", "commandstats"]).text();
        let (_, rest) = stats
            .split_once("cmdstat_hgetall:calls=")
            .unwrap_or(("", "0,"));
        rest.split_once(',').unwrap().0.parse::<u32>().unwrap()
    };
    for range in [
        ListRange::Label("ra".to_owned()),
        ListRange::Owner("a".to_owned()),
    ] {
        let before = read();
        assert_eq!(ids(&store, range, 100).await, [rare.id]);
        assert_eq!(read() - before, 1);
    }
    let before = read();
    store.list(&ListQuery::first(100)).await.unwrap();
    assert_eq!(read() - before, 101);
}
