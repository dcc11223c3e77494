//! A copy is killed in the middle of each section, at a gate: the target's statement for the last item of the section waits for a lock
//! that the test holds. The page with it is the second one.

use std::process::Child;

use apikey_runtime::audit::{AuditAction, AuditEntry, ChangeOrigin};
use apikey_runtime::limit::CounterState;
use apikey_runtime::store::{
    CopiedCounter, CopiedEntry, CopiedSecret, CopyItems, CopySection, ListedOwner, NetworkUse,
    Outcome, OwnerState, SecretUse, UsageRow,
};
use apikey_runtime::{KeyId, KeyRecord, KeyStore, SqliteStore, Timestamp};
use apikey_test_support::{PATIENCE, fleet, within};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::program::Program;

const ITEMS: u32 = 600;
const PAGE: i64 = 500;

/// Each section, the table that has it in PostgreSQL, and the column by which it is sorted first.
const TABLES: [(CopySection, &str, &str); 8] = [
    (CopySection::Owners, "api_key_owners", "owner"),
    (CopySection::Keys, "api_keys", "id"),
    (CopySection::SharedSecrets, "api_key_shared_secrets", "name"),
    (CopySection::LimitCounters, "api_key_limit_counters", "key"),
    (CopySection::Usage, "api_key_usage", "key"),
    (CopySection::SecretUses, "api_key_secret_uses", "key"),
    (CopySection::Networks, "api_key_networks", "key"),
    (CopySection::Audit, "api_key_audit", "key"),
];

fn owner(number: u32) -> String {
    format!("owner {number:03}")
}

fn record(number: u32) -> KeyRecord {
    let id = KeyId::from_u128(u128::from(number) << 64 | 7);
    let at = Timestamp::from_millis(1_700_000_000_000 + i64::from(number));
    let mut record = KeyRecord::new(id, "my_api", "a label", format!("sha256${number:064x}"), at);
    record.owner = Some(owner(number));
    record
}

/// Makes a store with as many items in each section.
async fn fill(program: &Program) {
    let records: Vec<_> = (0..ITEMS).map(record).collect();
    let secret = |number| CopiedSecret::new(format!("secret {number:03}"), [7; 32]);
    let hour = |record: &KeyRecord| record.created.as_millis() / 3_600_000;
    let usage = |record: &KeyRecord| {
        let mut row = UsageRow::new(record.id, "/", hour(record), Outcome::Allowed);
        row.requests = 9;
        row
    };
    let counter = |record: &KeyRecord| {
        let mut state = CounterState::default();
        (state.period, state.used) = (20_000, 5);
        CopiedCounter::new(record.id, "daily/day", state)
    };
    let network = |record: &KeyRecord| {
        let network = "192.0.2.0/24".parse().unwrap();
        NetworkUse::new(record.id, network, record.created)
    };
    let entry = |record: &KeyRecord| {
        let origin = ChangeOrigin::new();
        let mut entry = AuditEntry::new("", record.created, AuditAction::Created, origin);
        entry.key = Some(record.id);
        CopiedEntry::new(0, entry)
    };
    let owners = (0..ITEMS).map(|number| ListedOwner::new(owner(number), OwnerState::new()));
    let used = |record: &KeyRecord| SecretUse::new(record.id, 0, record.created, None);
    let store = SqliteStore::new(program.path("keys.db"));
    store.start().await.unwrap();
    let copying = store.copying().unwrap();
    for items in [
        CopyItems::Owners(owners.collect()),
        CopyItems::Keys(records.clone()),
        CopyItems::SharedSecrets((0..ITEMS).map(secret).collect()),
        CopyItems::LimitCounters(records.iter().map(counter).collect()),
        CopyItems::Usage(records.iter().map(usage).collect()),
        CopyItems::SecretUses(records.iter().map(used).collect()),
        CopyItems::Networks(records.iter().map(network).collect()),
        CopyItems::Audit(records.iter().map(entry).collect()),
    ] {
        copying.write_copy(&items).await.unwrap();
    }
    store.stop().await;
}

/// The sessions that wait at the gate.
const WAITING: &str = "pg_locks WHERE locktype = 'advisory' AND NOT granted \
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";

/// Holds the gate of the target.
struct Operator(PgConnection);

impl Operator {
    async fn at(url: &str) -> Self {
        let mut operator = Self(PgConnection::connect(url).await.unwrap());
        operator
            .run(
                "CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql \
                 AS 'BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NEW; END'",
            )
            .await;
        operator
    }

    async fn run(&mut self, sql: &str) {
        let run = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.0).await;
        run.unwrap();
    }

    async fn count(&mut self, from: &str) -> i64 {
        let count = format!("SELECT count(*) FROM {from}");
        let count = sqlx::query_scalar(AssertSqlSafe(count)).fetch_one(&mut self.0);
        count.await.unwrap()
    }

    async fn shut(&mut self, table: &str, column: &str, last: &str) {
        self.run(&format!(
            "SELECT pg_advisory_lock(7); CREATE TRIGGER gate BEFORE INSERT ON {table} FOR EACH ROW \
             WHEN (NEW.{column} = '{last}') EXECUTE FUNCTION gate()"
        ))
        .await;
    }

    async fn open(&mut self, table: &str) {
        self.run(&format!(
            "DROP TRIGGER gate ON {table}; SELECT pg_advisory_unlock(7)"
        ))
        .await;
    }

    /// Kills the copy once it waits at the gate, and ends its session there, so that the server does not complete the statement.
    async fn kill_at_gate(&mut self, mut copy: Child) {
        let waits = within(PATIENCE, async || self.count(WAITING).await > 0).await;
        copy.kill().unwrap();
        copy.wait().unwrap();
        assert!(waits.is_some(), "the copy does not come to the gate");
        self.run(&format!("SELECT pg_terminate_backend(pid) FROM {WAITING}"))
            .await;
        let gone = within(PATIENCE, async || self.count(WAITING).await == 0).await;
        assert!(gone.is_some(), "the killed copy's session stays");
    }
}

#[tokio::test]
async fn a_copy_that_is_killed_in_each_section_is_continued() {
    let Some(server) = fleet::postgres() else {
        return;
    };
    let (program, url) = (Program::sqlite(), fleet::database(server).await);
    fill(&program).await;
    std::fs::write(program.path("target"), &url).unwrap();
    program
        .run(&["store", "migrate", "--create", "--store-file", "target"])
        .ok();
    let copy = ["store", "copy", "sqlite:keys.db", "file:target"];
    let mut operator = Operator::at(&url).await;
    let last_key = (0..ITEMS).map(|number| record(number).id.to_string()).max();
    let last_key = last_key.unwrap();
    for (place, (section, table, column)) in TABLES.into_iter().enumerate() {
        let last = match section {
            CopySection::Owners => owner(ITEMS - 1),
            CopySection::SharedSecrets => format!("secret {:03}", ITEMS - 1),
            _ => last_key.clone(),
        };
        operator.shut(table, column, &last).await;
        operator.kill_at_gate(program.start(&copy)).await;
        operator.open(table).await;
        // The sections before are whole, this one has its first page, and those after it have nothing.
        for (other, (section, table, _)) in TABLES.into_iter().enumerate() {
            let expected = match other.cmp(&place) {
                std::cmp::Ordering::Less => i64::from(ITEMS),
                std::cmp::Ordering::Equal => PAGE,
                std::cmp::Ordering::Greater => 0,
            };
            assert_eq!(operator.count(table).await, expected, "{section}");
        }
    }
    let whole = [&copy[..], &["--verify", "--output", "csv"]].concat();
    let report = program.run(&whole).ok();
    for (section, ..) in TABLES {
        let line = match section {
            CopySection::Audit => format!("{section},{ITEMS},100,{PAGE},0,0,0\r\n"),
            _ => format!("{section},{ITEMS},0,{ITEMS},0,0,0\r\n"),
        };
        assert!(report.contains(&line), "{line} {report}");
    }
}
