//! Copies: what is read for a page, and what a change by hand left in the source.

use std::sync::Arc;

use apikey_runtime::audit::{AuditAction, AuditEntry, ChangeOrigin};
use apikey_runtime::store::{
    CopiedEntry, CopyItems, CopyOutcome, CopySection, StoreCopy, StoreError, WriteOptions,
};
use apikey_runtime::{KeyStore, RedisStore, conformance};
use apikey_test_support::servers::redis::RedisServer;

use super::{redis_server, started};
use crate::copying::in_file;
use crate::{at, id, owned, record};

const INDEX: &str = "{apikey}:index";

#[tokio::test]
async fn a_server_is_copied_to_a_file_and_back() {
    let server = redis_server!();
    let files = crate::Place::new();
    let number = std::sync::atomic::AtomicU64::new(0);
    let in_server = || async {
        let number = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let store = RedisStore::new(server.url()).namespace(format!("copy {number}"));
        Arc::new(store) as Arc<dyn KeyStore>
    };
    conformance::copy_between(in_server, || async { in_file(&files) }).await;
    conformance::copy_between(|| async { in_file(&files) }, in_server).await;
}

/// What a section has: its items as texts, and the names of those that cannot be read.
#[derive(Debug, PartialEq)]
struct Read {
    items: Vec<String>,
    unreadable: Vec<String>,
}

fn texts(items: &CopyItems) -> Vec<String> {
    fn each<T: std::fmt::Debug>(items: &[T]) -> Vec<String> {
        items.iter().map(|item| format!("{item:?}")).collect()
    }
    match items {
        CopyItems::Owners(items) => each(items),
        CopyItems::Keys(items) => each(items),
        CopyItems::SharedSecrets(items) => each(items),
        CopyItems::LimitCounters(items) => each(items),
        CopyItems::Usage(items) => each(items),
        CopyItems::SecretUses(items) => each(items),
        CopyItems::Networks(items) => each(items),
        CopyItems::Audit(items) => each(items),
        other => panic!("an unknown section {}", other.section()),
    }
}

/// Reads a section in pages, and writes each to `target`.
async fn copied(
    source: &dyn StoreCopy,
    section: CopySection,
    limit: u32,
    target: Option<&dyn StoreCopy>,
) -> (Read, CopyOutcome) {
    let (mut items, mut unreadable) = (Vec::new(), Vec::new());
    let (mut outcome, mut after) = (CopyOutcome::default(), None);
    loop {
        let page = source.read_copy(section, after.as_deref(), limit).await;
        let page = page.unwrap();
        assert!(page.items.len() <= limit as usize);
        if let Some(target) = target {
            outcome.add(target.write_copy(&page.items).await.unwrap());
        }
        items.extend(texts(&page.items));
        unreadable.extend(page.unreadable);
        assert!(page.next.is_none() || page.next != after, "{after:?}");
        after = page.next;
        if after.is_none() {
            return (Read { items, unreadable }, outcome);
        }
    }
}

async fn section(source: &RedisStore, section: CopySection, limit: u32) -> Read {
    copied(source, section, limit, None).await.0
}

/// Runs a script by hand.
fn script(server: &RedisServer, text: &str, keys: &[&str], arguments: &[&str]) {
    let count = keys.len().to_string();
    let reply = server.command(&[&["EVAL", text, &count], keys, arguments].concat());
    reply.text();
}

/// Returns what the server has sent in all: in bytes.
fn sent(server: &RedisServer) -> u64 {
    let info = server.command(&["INFO", "stats"]).text();
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("total_net_output_bytes:"));
    line.unwrap().trim().parse().unwrap()
}

/// Adds usage of the first days after 1970 to a key: of two routes, in each hour.
const USE: &str = "for day = 0, ARGV[1] - 1 do \
    for hour = 0, 23 do \
        for _, route in ipairs({ 'a', 'b' }) do \
            local field = hour .. '|allowed|/' .. route \
            redis.call('HSET', KEYS[1] .. day, field, 7 + hour, 'c' .. field, 3) \
        end \
    end \
    redis.call('ZADD', KEYS[2], 'GT', 4102444800000, day) \
end";

fn use_days(server: &RedisServer, number: u128, days: &str) {
    let usage = format!("{{apikey}}:usage:{}:", id(number));
    script(server, USE, &[&usage, "{apikey}:usage_days"], &[days]);
}

async fn insert(store: &RedisStore, numbers: impl IntoIterator<Item = u128>) {
    for number in numbers {
        let options = WriteOptions::new();
        store.insert(&record(number), &options).await.unwrap();
    }
}

/// Each page reads about as much as it has. If it read all days of the key, these would be 87 pages with 4,800 counts.
#[tokio::test]
async fn a_page_of_usage_reads_the_days_that_it_has() {
    let server = redis_server!();
    let store = started(&server).await;
    insert(&store, [1, 2]).await;
    use_days(&server, 1, "100");
    use_days(&server, 2, "5");
    let before = sent(&server);
    for day in 0..100 {
        let name = format!("{{apikey}}:usage:{}:{day}", id(1));
        server.command(&["HGETALL", &name]);
    }
    let all = sent(&server) - before;
    let before = sent(&server);
    let paged = section(&store, CopySection::Usage, 55).await;
    let paged_bytes = sent(&server) - before;
    assert!(paged_bytes < 4 * all, "{paged_bytes} bytes for {all}");
    let whole = section(&store, CopySection::Usage, 1_000).await;
    assert_eq!(whole.items.len(), 105 * 48);
    assert_eq!(paged, whole);
    let mut sorted = whole.items.clone();
    sorted.dedup();
    assert_eq!(sorted.len(), whole.items.len());

    let files = crate::Place::new();
    let target = files.store().await;
    copied(&store, CopySection::Keys, 10, Some(&target)).await;
    let (_, outcome) = copied(&store, CopySection::Usage, 1_000, Some(&target)).await;
    assert_eq!(outcome.written, 105 * 48);
    let (found, _) = copied(&target, CopySection::Usage, 777, None).await;
    assert_eq!(found, whole);
}

/// A day with many routes: what a page reads of it are the hours that it has.
#[tokio::test]
async fn a_page_of_a_large_day_reads_the_hours_that_it_has() {
    let server = redis_server!();
    let store = started(&server).await;
    insert(&store, [1]).await;
    use_days(&server, 1, "3");
    let usage = format!("{{apikey}}:usage:{}:1", id(1));
    let many = "for hour = 0, 23 do for route = 1, 98 do \
        redis.call('HSET', KEYS[1], hour .. '|allowed|/' .. route, 5, 'c' .. hour .. '|allowed|/' .. route, 6) end end";
    script(&server, many, &[&usage], &[]);
    for field in ["24|allowed|/", "5", "+5|allowed|/", "7|later|/"] {
        server.command(&["HSET", &usage, field, "1"]);
    }
    let before = sent(&server);
    server.command(&["HGETALL", &usage]);
    let all = sent(&server) - before;
    let before = sent(&server);
    let paged = section(&store, CopySection::Usage, 60).await;
    let paged_bytes = sent(&server) - before;
    assert!(paged_bytes < 4 * all, "{paged_bytes} bytes for {all}");
    assert_eq!(paged.items.len(), 2 * 48 + 24 * 100);
    let name = format!("a count of usage of {}", id(1));
    assert_eq!(paged.unreadable, vec![name; 4]);
    for limit in [7, 1_000] {
        assert_eq!(section(&store, CopySection::Usage, limit).await, paged);
    }
    // As a store that sorts by itself.
    server.command(&["HDEL", &usage, "7|later|/"]);
    let files = crate::Place::new();
    let target = files.store().await;
    copied(&store, CopySection::Keys, 10, Some(&target)).await;
    copied(&store, CopySection::Usage, 1_000, Some(&target)).await;
    let (found, _) = copied(&target, CopySection::Usage, 1_000, None).await;
    assert_eq!(found.items, paged.items);
}

/// Adds entries of one millisecond to the audit log, as a script that changes many keys does.
const AUDITED: &str = "for number = 0, ARGV[1] - 1 do \
    redis.call('XADD', KEYS[1], ARGV[2] .. '-' .. number, 'action', 'revoked', 'key', '', 'owner', '=' .. number, \
        'former_owner', '', 'actor', '', 'channel', 'unknown', 'address', '', 'request_id', '', 'reason', '', 'fields', '{}') \
end";

/// A bulk change has many entries of one millisecond. If a page read all of them to find its own, these would be 30 times 3,000.
#[tokio::test]
async fn a_page_within_a_millisecond_reads_the_entries_that_it_has() {
    let server = redis_server!();
    let store = started(&server).await;
    for (count, millis) in [("7", "1000"), ("3000", "1001"), ("2", "1002")] {
        script(&server, AUDITED, &["{apikey}:audit"], &[count, millis]);
    }
    let before = sent(&server);
    server.command(&["XRANGE", "{apikey}:audit", "-", "+"]);
    let all = sent(&server) - before;
    let whole = section(&store, CopySection::Audit, 1_000).await;
    assert_eq!(whole.items.len(), 3_009);
    assert_eq!(section(&store, CopySection::Audit, 99).await, whole);

    let files = crate::Place::new();
    let file = files.store().await;
    let other = RedisStore::new(server.url()).namespace("other");
    other.start().await.unwrap();
    let targets: [&dyn StoreCopy; 2] = [&file, &other];
    for target in targets {
        let (_, outcome) = copied(&store, CopySection::Audit, 100, Some(target)).await;
        assert_eq!(outcome.written, 3_009, "{outcome:?}");
        let (found, _) = copied(target, CopySection::Audit, 1_000, None).await;
        assert_eq!(found, whole);
    }
    // Source and target are on the same server.
    let before = sent(&server);
    let (_, again) = copied(&store, CopySection::Audit, 100, Some(&other)).await;
    let read = sent(&server) - before;
    assert_eq!((again.unchanged, again.written), (3_009, 0), "{again:?}");
    assert!(again.kept.is_empty(), "{again:?}");
    assert!(read < 4 * all, "{read} bytes for {all}");
    let (_, back) = copied(&other, CopySection::Audit, 1_000, Some(&store)).await;
    assert_eq!((back.unchanged, back.written), (3_009, 0), "{back:?}");
}

/// A copy that found an entry which cannot be read is repeated: the others have the same numbers as before.
#[tokio::test]
async fn an_entry_that_cannot_be_read_does_not_shift_the_others() {
    let server = redis_server!();
    let store = started(&server).await;
    script(&server, AUDITED, &["{apikey}:audit"], &["3", "1000"]);
    server.command(&["XADD", "{apikey}:audit", "1000-3", "by", "hand"]);
    for number in ["4", "5"] {
        let id = format!("1000-{number}");
        server.command(&["XADD", "{apikey}:audit", &id, "action", "purged"]);
    }
    let other = RedisStore::new(server.url()).namespace("other");
    other.start().await.unwrap();
    for (limit, written, unchanged) in [(2, 5, 0), (100, 0, 5), (4, 0, 5)] {
        let (read, outcome) = copied(&store, CopySection::Audit, limit, Some(&other)).await;
        assert_eq!(read.unreadable, ["the audit entry 1000-3"]);
        assert_eq!(read.items.len(), 5);
        assert!(outcome.kept.is_empty(), "{outcome:?}");
        assert_eq!((outcome.written, outcome.unchanged), (written, unchanged));
    }
}

/// What a change by hand, or a later release, wrote would be lost in the copy of an entry.
#[tokio::test]
async fn an_entry_is_copied_as_a_whole_or_named() {
    let server = redis_server!();
    let store = started(&server).await;
    insert(&store, [1]).await;
    let broken: [&[&str]; 7] = [
        &["action", "merged"],
        &["action", "revoked", "key", "short"],
        &["action", "revoked", "owner", "ann"],
        &["action", "revoked", "channel", "later"],
        &["action", "revoked", "address", "home"],
        &["action", "revoked", "fields", "{"],
        &["action", "revoked", "another", "field"],
    ];
    for fields in broken {
        server.command(&[&["XADD", "{apikey}:audit", "*"], fields].concat());
    }
    for limit in [1, 3, 100] {
        let read = section(&store, CopySection::Audit, limit).await;
        let counts = (read.items.len(), read.unreadable.len());
        assert_eq!(counts, (1, broken.len()), "{read:?}");
    }
}

/// Entries of owners that are not texts: some without anything of an owner, and more than a page has.
#[tokio::test]
async fn owners_that_cannot_be_read_do_not_end_the_section() {
    let server = redis_server!();
    let store = started(&server).await;
    for (number, owner) in [(1, "a"), (2, "b"), (3, "\u{e9}")] {
        let options = WriteOptions::new();
        store.insert(&owned(number, owner), &options).await.unwrap();
    }
    let clean = section(&store, CopySection::Owners, 10).await;
    assert_eq!(clean.items.len(), 3);
    let many = "for i = 1, 30 do redis.call('ZADD', KEYS[1], 0, 'pa\\255' .. i) end";
    script(&server, many, &[INDEX], &[]);
    for name in [&b"a\xff"[..], b"c\xff"] {
        let entry = [b"p", name].concat();
        server
            .try_command(&[b"ZADD", INDEX.as_bytes(), b"0", &entry])
            .unwrap();
        server
            .try_command(&[b"HSET", b"{apikey}:owners", name, b"1 0 0"])
            .unwrap();
    }
    for limit in [1, 2, 5, 100] {
        let read = section(&store, CopySection::Owners, limit).await;
        assert_eq!(read.items, clean.items, "{limit}");
        assert_eq!(read.unreadable, ["a\u{fffd}", "c\u{fffd}"], "{limit}");
    }
}

/// The sections of what is kept for each key.
const OF_KEYS: [CopySection; 5] = [
    CopySection::Keys,
    CopySection::LimitCounters,
    CopySection::Usage,
    CopySection::SecretUses,
    CopySection::Networks,
];

/// Writes something of each section for an id, which need not be valid.
fn keep(server: &RedisServer, id: &str) {
    let name = |what: &str| format!("{{apikey}}:{what}:{id}");
    let commands: [&[&str]; 5] = [
        &["HSET", &name("limit_counters"), "life/lifetime", "0:5"],
        &["HSET", &format!("{}:7", name("usage")), "3|allowed|/a", "4"],
        &["HSET", "{apikey}:last_used", id, "1700 192.0.2.0/24"],
        &["ZADD", &name("networks"), "1700", "192.0.2.0/24"],
        &["ZADD", "{apikey}:usage_days", "4102444800000", "7"],
    ];
    for command in commands {
        server.command(command).text();
    }
}

async fn sections(store: &RedisStore, limit: u32) -> Vec<Read> {
    let mut found = Vec::new();
    for name in OF_KEYS {
        found.push(section(store, name, limit).await);
    }
    found
}

/// Entries of the index that do not lead to a record: before, between and after the keys, and more than any page has.
#[tokio::test]
async fn entries_without_a_record_do_not_end_a_section() {
    let server = redis_server!();
    let store = started(&server).await;
    insert(&store, 1..=12).await;
    for number in 1..=12 {
        keep(&server, id(number).as_str());
    }
    let clean = sections(&store, 1_000).await;
    for read in &clean {
        assert_eq!((read.items.len(), read.unreadable.len()), (12, 0));
    }
    let between = format!("i{}+", id(6));
    // What ends in an id is not the entry of that id.
    let longer = format!("i!{}", id(3));
    for entry in ["i", "i!", "i~", "i\u{e9}", &between, &longer] {
        server.command(&["ZADD", INDEX, "0", entry]);
        keep(&server, entry.strip_prefix('i').unwrap());
    }
    let stale = id(7 << 64);
    server.command(&["ZADD", INDEX, "0", &format!("i{stale}")]);
    keep(&server, stale.as_str());
    for (start, end) in [("!", 1_200), (id(6).as_str(), 450), ("~", 3)] {
        let many =
            "for i = 1, ARGV[2] do redis.call('ZADD', KEYS[1], 0, 'i' .. ARGV[1] .. '-' .. i) end";
        script(&server, many, &[INDEX], &[start, &end.to_string()]);
    }
    for limit in [1, 5, 1_000] {
        assert_eq!(sections(&store, limit).await, clean, "{limit}");
    }
}

/// A record under an id that is not valid is named in each section that has something of it.
#[tokio::test]
async fn what_an_invalid_id_has_is_named_and_the_rest_is_copied() {
    let server = redis_server!();
    let store = started(&server).await;
    insert(&store, 1..=4).await;
    for number in 1..=4 {
        keep(&server, id(number).as_str());
    }
    let clean = sections(&store, 1_000).await;
    let between = format!("{}+", id(2));
    let invalid = ["!", between.as_str(), "~"];
    for id in invalid {
        server.command(&["ZADD", INDEX, "0", &format!("i{id}")]);
        server.command(&["HSET", &format!("{{apikey}}:key:{id}"), "label", "by hand"]);
        keep(&server, id);
    }
    for limit in [1, 2, 3, 1_000] {
        let found = sections(&store, limit).await;
        for ((read, clean), what) in found.iter().zip(&clean).zip([
            "",
            "a limit counter of ",
            "a count of usage of ",
            "a last use of ",
            "a network of ",
        ]) {
            assert_eq!(read.items, clean.items);
            let names = invalid.map(|id| match what {
                "" => id.to_owned(),
                what => format!("{what}{id:?}"),
            });
            assert_eq!(read.unreadable, names, "{limit}");
        }
    }
}

/// What a change by hand broke of a key is named, and neither ends the section nor hides the rest of the key.
#[tokio::test]
async fn what_cannot_be_read_of_a_key_is_named_and_the_rest_is_copied() {
    let server = redis_server!();
    let store = started(&server).await;
    insert(&store, 1..=3).await;
    for number in 1..=3 {
        keep(&server, id(number).as_str());
    }
    let clean = sections(&store, 1_000).await;
    let key = id(2);
    let name = |what: &str| format!("{{apikey}}:{what}:{key}");
    let commands: [&[&str]; 8] = [
        &["HSET", &name("limit_counters"), "month/month", "many"],
        &["HSET", &format!("{}:7", name("usage")), "9|later|/a", "4"],
        &[
            "HSET",
            &format!("{}:7", name("usage")),
            "24|allowed|/a",
            "4",
        ],
        &[
            "HSET",
            &format!("{}:7", name("usage")),
            "c4|allowed|/a",
            "-",
        ],
        &["SET", &format!("{}:8", name("usage")), "another type"],
        &["ZADD", "{apikey}:usage_days", "4102444800000", "8"],
        &[
            "HSET",
            "{apikey}:last_used",
            key.as_str(),
            "1700 192.0.2.0/24,1800 home 1",
        ],
        &["ZADD", &name("networks"), "1700", "home"],
    ];
    for command in commands {
        server.command(command).text();
    }
    for limit in [1, 2, 1_000] {
        let found = sections(&store, limit).await;
        let counts: Vec<_> = found.iter().map(|read| read.unreadable.len()).collect();
        assert_eq!(counts, [0, 1, 4, 1, 1], "{limit}: {found:?}");
        for (read, clean) in found.iter().zip(&clean) {
            assert_eq!(read.items, clean.items);
            let is_of_key = |name: &String| name.contains(key.as_str());
            assert!(read.unreadable.iter().all(is_of_key), "{read:?}");
        }
    }
    // All of another type, as a whole.
    let names = [name("limit_counters"), name("networks")];
    for name in &names {
        server.command(&["SET", name, "another type"]);
    }
    let found = sections(&store, 1_000).await;
    assert_eq!((found[1].items.len(), found[1].unreadable.len()), (2, 1));
    assert_eq!((found[4].items.len(), found[4].unreadable.len()), (2, 1));
}

/// A roll-up moves a lot of fields after the other: if it ends between them, a cost may be left behind.
#[tokio::test]
async fn a_cost_without_its_requests_is_copied() {
    let server = redis_server!();
    let store = started(&server).await;
    insert(&store, [1]).await;
    keep(&server, id(1).as_str());
    let usage = format!("{{apikey}}:usage:{}:7", id(1));
    server.command(&["HSET", &usage, "c5|allowed|/a", "9"]);
    let read = section(&store, CopySection::Usage, 10).await;
    assert_eq!(read.items.len(), 2);
    assert!(read.items[1].contains("requests: 0, cost: 9"), "{read:?}");
}

/// A page that ends early names what it passed over.
#[tokio::test]
async fn a_shared_secret_that_cannot_be_read_is_named_once() {
    let server = redis_server!();
    let store = started(&server).await;
    for name in ["a", "b", "c", "d"] {
        let secret = if name == "b" {
            "short"
        } else {
            "0123456789abcdef0123456789abcdef"
        };
        server.command(&["HSET", "{apikey}:shared_secrets", name, secret]);
    }
    server
        .try_command(&[b"HSET", b"{apikey}:shared_secrets", b"\xff", b"x"])
        .unwrap();
    for limit in [1, 2, 3, 4, 5] {
        let read = section(&store, CopySection::SharedSecrets, limit).await;
        assert_eq!(read.items.len(), 3, "{limit}");
        assert_eq!(read.unreadable, ["b", "\u{fffd}"], "{limit}");
    }
}

/// The log was pruned: an entry that was removed is still the last one, since a stream takes later ones only.
#[tokio::test]
async fn an_entry_before_the_last_one_is_refused_in_words_and_a_later_one_is_written() {
    const AUDIT: &str = "{apikey}:audit";
    let server = redis_server!();
    let entries = |millis| {
        let entry = AuditEntry::new("", at(millis), AuditAction::Updated, ChangeOrigin::new());
        CopyItems::Audit(vec![CopiedEntry::new(0, entry)])
    };
    let trims: [&[&str]; 3] = [
        &["XTRIM", AUDIT, "MAXLEN", "1"],
        &["XTRIM", AUDIT, "MAXLEN", "0"],
        &["XDEL", AUDIT, "2000-5"],
    ];
    for trim in trims {
        let store = started(&server).await;
        for id in ["1000-0", "2000-5"] {
            server.command(&["XADD", AUDIT, id, "action", "purged"]);
        }
        server.command(trim);
        let refused = store.write_copy(&entries(1_500)).await.unwrap_err();
        assert!(
            matches!(&refused, StoreError::InvalidArgument(why) if why.contains("is older than the last entry")),
            "{trim:?}: {refused:?}"
        );
        if trim[2..] != ["MAXLEN", "1"] {
            // One of the same time follows it.
            let outcome = store.write_copy(&entries(2_000)).await.unwrap();
            assert_eq!(outcome.written, 1);
            let newest = server.command(&["XINFO", "STREAM", AUDIT]).text();
            assert!(newest.contains("2000-6"), "{newest}");
        }
        let outcome = store.write_copy(&entries(3_000)).await.unwrap();
        assert_eq!(outcome.written, 1);
        server.command(&["FLUSHALL"]);
    }
}
