//! What lists, counts and the audit log cost at 1,000,000 keys.
//!
//! `cargo test --workspace --all-features --test stores page_cost -- --ignored --nocapture`

use std::time::{Duration, Instant};

use apikey_runtime::store::{
    AuditQuery, AuditStore, KeyPatch, ListQuery, ListRange, OwnerStore, WriteOptions,
};
use apikey_runtime::{KeyRecord, KeyStore};
use sqlx::SqliteConnection;

use crate::{Place, at, id, number};

const KEYS: u32 = 1_000_000;

/// Adds keys of 1,000 owners, of which most are live, and as many entries of the audit log. Without the
/// triggers of an insert, which would write the same rows one by one.
async fn add_many(tool: &mut SqliteConnection) {
    let triggers = "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = 'api_keys' \
        AND sql LIKE '% INSERT ON api_keys%'";
    let triggers: Vec<(String, String)> = sqlx::query_as(triggers)
        .fetch_all(&mut *tool)
        .await
        .unwrap();
    let mut sql = "PRAGMA cache_size = -400000; PRAGMA synchronous = OFF; BEGIN;".to_owned();
    for (name, _) in &triggers {
        sql += &format!("DROP TRIGGER {name};");
    }
    sql += &format!(
        "INSERT INTO api_key_owners (owner) VALUES ('many'); \
         WITH RECURSIVE n (i) AS (VALUES (0) UNION ALL SELECT i + 1 FROM n WHERE i < 999) \
         INSERT INTO api_key_owners (owner) SELECT 'owner ' || i FROM n; \
         WITH RECURSIVE n (i) AS (VALUES (0) UNION ALL SELECT i + 1 FROM n WHERE i < {KEYS} - 1) \
         INSERT INTO api_keys (id, prefix, label, label_key, owner, digest, scopes, metadata, created_at, expires_at, \
         enabled, version) SELECT printf('%08d', i * 7919 % {KEYS}) || printf('%014d', i), 'p', \
         'Label ' || printf('%07d', i), 'label ' || printf('%07d', i), iif(i % 10 = 0, 'many', 'owner ' || (i % 1000)), \
         'sha256$' || hex(zeroblob(32)), 'a:read a:write', '{{}}', 1000000 + i / 3, \
         iif(i % 2 = 0, 4000000000000 + i, NULL), 1, 1 FROM n; \
         INSERT INTO api_key_audit (at, action, key, owner, actor, channel, address, request_id, fields) \
         SELECT created_at, 'created', id, owner, 'anna@example.com', 'page', '192.0.2.7', '4bf92f35', \
         json_object('created_at', json_array(NULL, created_at), 'label', json_array(NULL, label)) FROM api_keys \
         ORDER BY rowid;"
    );
    for (_, trigger) in &triggers {
        sql += trigger;
        sql += ";";
    }
    sql += "COMMIT";
    let sql = sqlx::raw_sql(sqlx::AssertSqlSafe(sql));
    sql.execute(tool).await.unwrap();
}

/// Prints the median of the times of `call`, and the processor time of one.
async fn timed(name: &str, mut call: impl AsyncFnMut(u32)) {
    let mut times = Vec::new();
    let before = processor_time();
    for round in 0..100 {
        let began = Instant::now();
        call(round).await;
        times.push(began.elapsed());
    }
    let processor = processor_time().saturating_sub(before) / 100;
    times.sort_unstable();
    println!("{name}: {:?}, {processor:?} of a processor", times[50]);
}

/// Returns what this process has used: a busy machine does not add to it. Zero if the system does not tell.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // In hundredths of a second: fields 14 and 15 of proc(5), after the name in parentheses.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks = ticks.filter_map(|ticks| ticks.parse::<u64>().ok());
    Duration::from_millis(10 * ticks.sum::<u64>())
}

#[tokio::test]
#[ignore = "takes minutes: it makes 1,000,000 keys, and prints what a page of each range costs"]
async fn a_page_at_a_million_keys() {
    let place = Place::new();
    let store = place.store().await;
    let mut tool = place.tool().await;
    let began = Instant::now();
    add_many(&mut tool).await;
    println!("{KEYS} keys made in {:?}", began.elapsed());
    let middle = KEYS / 2;
    let ranges = [
        ("all", ListRange::All),
        ("owner", ListRange::Owner("owner 7".to_owned())),
        ("owner of a tenth", ListRange::Owner("many".to_owned())),
        ("label", ListRange::Label("label".to_owned())),
        ("rare label", ListRange::Label(format!("label {middle:07}"))),
        ("label of none", ListRange::Label("nothing".to_owned())),
        ("id", ListRange::Id("0".to_owned())),
        (
            "expires",
            ListRange::Expires {
                from: at(4_000_000_000_000 + i64::from(middle)),
                to: at(5_000_000_000_000),
            },
        ),
    ];
    for (name, range) in ranges {
        let mut query = ListQuery::of(range, 100);
        timed(&format!("a page of 100, {name}"), async |_| {
            let page = store.list(&query).await.unwrap();
            query.after = page.next;
        })
        .await;
    }
    for (name, owner, max) in [
        ("an owner of 1,000", "owner 7", 1_000_000),
        ("a tenth, to 100", "many", 100),
        ("a tenth, to 10,000", "many", 10_000),
    ] {
        timed(&format!("live keys of {name}"), async |_| {
            store.count_live_keys(owner, max).await.unwrap();
        })
        .await;
    }
    let owner = Some("many".to_owned());
    let actor = Some("anna@example.com".to_owned());
    let middle = at(1_000_000 + i64::from(middle) / 3);
    let none = AuditQuery::newest(100);
    let mut queries = [(); 5].map(|()| none.clone());
    (queries[1].owner, queries[2].actor) = (owner.clone(), actor.clone());
    queries[3].to = Some(middle);
    (queries[4].owner, queries[4].actor) = (owner, actor);
    let names = ["all", "owner", "actor", "time", "owner and actor"];
    for (name, mut query) in names.into_iter().zip(queries) {
        timed(&format!("a page of 100 entries, {name}"), async |_| {
            let page = store.read_audit(&query).await.unwrap();
            query.before = page.next;
        })
        .await;
    }
    for (name, limit) in [("100", Some(100)), ("no", None)] {
        let options = WriteOptions::new().with_max_live_keys(limit);
        timed(&format!("an insert with {name} bound"), async |round| {
            let number = u128::from(round) + (u128::from(limit.unwrap_or(1)) << 64);
            let mut record = KeyRecord::new(id(number), "p", "label", "sha256$00", at(1));
            record.owner = Some(format!("new {name} {}", round / 100));
            store.insert(&record, &options).await.unwrap();
        })
        .await;
    }
    timed("an update", async |round| {
        let change = KeyPatch::new();
        let key = id(u128::from(round) + (1 << 64));
        store
            .update(&key, &change, &WriteOptions::new())
            .await
            .unwrap();
    })
    .await;
    let began = Instant::now();
    assert!(store.prune_audit(at(1_000_000 + 1_000)).await.unwrap());
    println!("1,000 entries removed in {:?}", began.elapsed());
    measure_bytes(&mut tool).await;
    store.stop().await;
}

/// Prints the bytes of an entry with its share of the indexes.
async fn measure_bytes(tool: &mut SqliteConnection) {
    let bytes = "SELECT sum(pgsize) FROM dbstat WHERE aggregate AND name LIKE 'api_key_audit%'";
    let bytes = number(tool, bytes).await;
    let entries = number(tool, "SELECT count(*) FROM api_key_audit").await;
    println!("{} bytes for each entry of the audit log", bytes / entries);
}
