//! `store copy` of many keys, between all stores: time and memory. `COPY_KEYS=1000000` takes the size of a large store:
//!
//! `COPY_KEYS=1000000 cargo test --release --workspace --all-features --test cli -- --nocapture many_keys`

use std::process::Stdio;
use std::time::{Duration, Instant};

use apikey_runtime::audit::{AuditAction, AuditEntry, ChangeOrigin};
use apikey_runtime::limit::CounterState;
use apikey_runtime::store::{
    CopiedCounter, CopiedEntry, CopyItems, ListedOwner, Outcome, OwnerState, SecretUse, UsageRow,
};
use apikey_runtime::{KeyId, KeyRecord, KeyStore, SqliteStore, Timestamp};
use apikey_test_support::fleet;
use apikey_test_support::servers::postgres::Postgres;
use apikey_test_support::servers::redis::{self, RedisServer};

use crate::program::Program;

/// The number of keys of the smaller store: more than a page, so that what is made once has been made, and one page has followed
/// another.
const FEW: u32 = 2_000;

/// By how much the most memory of two runs differs at most, whatever they copy, in bytes: pages of keys, by how the threads of a busy
/// machine take turns.
const NOISE: u64 = 24 << 20;

/// How much larger the keys of the larger store are than those of the smaller one, in bytes.
const MORE: u64 = 2 * NOISE;

/// Returns the number of keys of the larger store.
fn many() -> u32 {
    let keys = std::env::var("COPY_KEYS").ok();
    keys.map_or(6_000, |keys| keys.parse().unwrap())
}

fn at(millis: u32) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + i64::from(millis))
}

fn record(number: u32) -> KeyRecord {
    let id = KeyId::from_u128(u128::from(number) << 64 | 7);
    let mut record = KeyRecord::new(
        id,
        "my_api",
        format!("key {number}"),
        format!("sha256${number:064x}"),
        at(number),
    );
    record.owner = Some(format!("owner {}", number % 1_000));
    let size = usize::try_from(MORE / u64::from(many() - FEW)).unwrap();
    record
        .metadata
        .insert("text".to_owned(), "x".repeat(size).into());
    record
}

/// Returns a page of each section: the keys from `first` on, 1,000 at most, and what belongs to them.
fn pages(first: u32, last: u32) -> [CopyItems; 5] {
    let records: Vec<_> = (first..last).map(record).collect();
    let counter = |record: &KeyRecord| {
        let mut state = CounterState::default();
        (state.period, state.used) = (20_000, 5);
        CopiedCounter::new(record.id, "daily/day", state)
    };
    let used = |record: &KeyRecord| SecretUse::new(record.id, 0, at(first), None);
    let elapsed = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let hour = i64::try_from(elapsed.as_secs() / 3_600).unwrap();
    let usage = |record: &KeyRecord| {
        let mut row = UsageRow::new(record.id, "/orders", hour, Outcome::Allowed);
        (row.requests, row.cost) = (9, 9);
        row
    };
    let entry = |record: &KeyRecord| {
        let origin = ChangeOrigin::new();
        let mut entry = AuditEntry::new("", record.created, AuditAction::Updated, origin);
        (entry.key, entry.owner) = (Some(record.id), record.owner.clone());
        CopiedEntry::new(0, entry)
    };
    [
        CopyItems::LimitCounters(records.iter().map(counter).collect()),
        CopyItems::SecretUses(records.iter().map(used).collect()),
        CopyItems::Usage(records.iter().map(usage).collect()),
        CopyItems::Audit(records.iter().map(entry).collect()),
        CopyItems::Keys(records),
    ]
}

/// Makes a store with this many keys, in a file.
async fn fill(program: &Program, size: u32) {
    let store = SqliteStore::new(program.path("keys.db"));
    store.start().await.unwrap();
    let copying = store.copying().unwrap();
    let owners =
        (0..1_000).map(|number| ListedOwner::new(format!("owner {number}"), OwnerState::new()));
    copying
        .write_copy(&CopyItems::Owners(owners.collect()))
        .await
        .unwrap();
    for first in (0..size).step_by(1_000) {
        let [counters, uses, usage, audit, keys] = pages(first, size.min(first + 1_000));
        for items in [keys, counters, uses, usage, audit] {
            copying.write_copy(&items).await.unwrap();
        }
    }
    store.stop().await;
}

/// Runs a copy to its end, and returns its time and the most memory that it had, in KiB.
fn copy(program: &Program, from: &str, to: &str, more: &[&str]) -> (Duration, u64) {
    // A page of these keys has 12 MB, which a busy server takes long to write.
    let patient = ["store", "copy", from, to, "--timeout", "60s"];
    let mut command = program.command(&[&patient, more].concat());
    command.stdout(Stdio::inherit()).stderr(Stdio::inherit());
    // glibc keeps what threads freed for each of them.
    command.env("MALLOC_ARENA_MAX", "1");
    let (began, mut most) = (Instant::now(), 0);
    let mut child = command.spawn().unwrap();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()));
        let status = status.unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|peak| peak.trim().strip_suffix(" kB")?.parse().ok());
        most = peak.unwrap_or(0).max(most);
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(status.success(), "{from} {to}: {status}");
    (began.elapsed(), most)
}

const COPIES: [(&str, &str, &[&str]); 4] = [
    ("sqlite:keys.db", "file:postgres", &[]),
    ("sqlite:keys.db", "file:postgres", &["--verify"]),
    ("file:postgres", "file:redis", &[]),
    ("file:postgres", "file:redis", &["--verify"]),
];

/// Copies this many keys through all stores, and returns the most memory of each of [`COPIES`], in KiB.
async fn peaks(size: u32, postgres: &Postgres, redis: &RedisServer) -> [u64; 4] {
    let program = Program::sqlite();
    fill(&program, size).await;
    for (name, address) in [
        ("postgres", fleet::database(postgres).await),
        ("redis", format!("{}?namespace=copy{size}", redis.url())),
    ] {
        std::fs::write(program.path(name), address).unwrap();
        let create = ["store", "migrate", "--create", "--store-file", name];
        program.run(&create).ok();
    }
    COPIES.map(|(from, to, more)| {
        let (took, most) = copy(&program, from, to, more);
        println!("{from} {to} {more:?}: {size} keys in {took:.1?}, at most {most} KiB");
        most
    })
}

/// The memory of a copy does not depend on the number of keys. One that kept what it has read would need [`MORE`] for the larger
/// store.
#[tokio::test]
async fn many_keys_are_copied_through_all_stores_in_flat_memory() {
    let Some(postgres) = fleet::postgres() else {
        return;
    };
    if !redis::is_installed("apikey_cli::many_keys_are_copied_through_all_stores") {
        return;
    }
    let redis = RedisServer::start(&[]);
    let few = peaks(FEW, postgres, &redis).await;
    let more = peaks(many(), postgres, &redis).await;
    for ((few, more), copy) in few.into_iter().zip(more).zip(COPIES) {
        let grown = more.saturating_sub(few) * 1_024;
        assert!(grown < NOISE, "{copy:?}: {few} KiB, then {more} KiB");
    }
}
