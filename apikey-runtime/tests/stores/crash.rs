//! S-03: a process that writes is killed, again and again, and never leaves a change half done.

use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use apikey_runtime::audit::ChangeOrigin;
use apikey_runtime::store::{KeyPatch, ListQuery, OwnerRevocation, OwnerStore, WriteOptions};
use apikey_runtime::{KeyId, KeyStore, SqliteStore};
use sqlx::Row;

use crate::{InSteps, Place, at, because, connection, id, number, owned, run};

/// Names the file to the child process; without it the child's test does nothing.
const FILE: &str = "APIKEY_TEST_CRASH_FILE";
const FIRST: &str = "APIKEY_TEST_CRASH_FIRST";
/// Set for a child that revokes an owner's keys one by one.
const TORN: &str = "APIKEY_TEST_CRASH_TORN";

/// The number of keys of an owner that are revoked together.
const GROUP: u128 = 5;

const ROUNDS: u128 = 12;

fn random(below: u64) -> u64 {
    RandomState::new().hash_one(()) % below
}

/// The child process; not a test by itself.
#[tokio::test]
async fn child_that_writes_until_it_is_killed() {
    let Some(file) = std::env::var_os(FILE) else {
        return;
    };
    let first: u128 = std::env::var(FIRST).unwrap().parse().unwrap();
    let store = SqliteStore::new(file);
    store.start().await.unwrap();
    // Prints one line for every change that has returned.
    let say = |what: &str, id: KeyId| writeln!(std::io::stdout(), "\ndone {what} {id}").unwrap();
    for group in 0.. {
        let owner = format!("owner {first} {group}");
        let base = first + group * GROUP;
        for number in base..base + GROUP {
            store
                .insert(&owned(number, &owner), &WriteOptions::new())
                .await
                .unwrap();
            say("insert", id(number));
        }
        let mut patch = KeyPatch::new();
        patch.label = Some("changed".to_owned());
        patch.enabled = Some(false);
        store
            .update(&id(base), &patch, &WriteOptions::new())
            .await
            .unwrap();
        say("update", id(base));
        if std::env::var_os(TORN).is_some() {
            for number in base..base + GROUP {
                store
                    .revoke(&id(number), &because("left"), &WriteOptions::new())
                    .await
                    .unwrap();
                say("revoke", id(number));
                if number == base + 1 {
                    // It is killed here.
                    std::future::pending::<()>().await;
                }
            }
        }
        let left = OwnerRevocation::new(at(3_000)).with_reason(Some("left".to_owned()));
        store
            .revoke_owner_keys(&owner, &left, &ChangeOrigin::new())
            .await
            .unwrap();
        say("revoke", id(base));
        if group % 2 == 1 {
            while store.mark_revoked_keys().await.unwrap() {}
        }
        if group % 4 == 3 {
            store.purge_all(at(i64::MAX)).await.unwrap();
            say("purge", id(base));
        }
    }
}

/// Returns a child on `file`; its first key has the number `first`.
fn child(file: &Path, first: u128) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([
            "--exact",
            "crash::child_that_writes_until_it_is_killed",
            "--nocapture",
        ])
        .env(FILE, file)
        .env(FIRST, first.to_string());
    command
}

/// Runs the child and kills it some time after it reported `changes`; returns what it reported.
fn killed(child: &mut Command, changes: u64, pause: Duration) -> Vec<(String, KeyId)> {
    let mut child = child
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut told = Vec::new();
    let mut shot = false;
    while let Some(Ok(line)) = lines.next() {
        told.extend(done(&line));
        if told.len() as u64 == changes && !std::mem::replace(&mut shot, true) {
            std::thread::sleep(pause);
            child.kill().unwrap();
        }
    }
    assert!(!child.wait().unwrap().success(), "the child was killed");
    told
}

fn done(line: &str) -> Option<(String, KeyId)> {
    let (what, id) = line.strip_prefix("done ")?.split_once(' ')?;
    Some((what.to_owned(), id.parse().ok()?))
}

#[tokio::test]
async fn s03_a_killed_process_leaves_all_of_a_change_or_nothing() {
    let place = Place::new();
    for round in 0..ROUNDS {
        let mut child = child(&place.file(), (round + 1) * 1_000_000);
        let pause = Duration::from_micros(random(3_000));
        let told = killed(&mut child, 1 + random(40), pause);
        assert!(!told.is_empty());
        look(&place.file(), &told).await;
    }
}

/// Negative control: a change made of several transactions is found half done.
#[tokio::test]
async fn s03_a_change_in_several_steps_is_found_out() {
    let place = Place::new();
    let file = place.file();
    // Five inserts, an update, and the second of five revocations.
    let told = killed(child(&file, 1_000_000).env(TORN, "1"), 8, Duration::ZERO);
    let looked = tokio::spawn(async move { look(&file, &told).await }).await;
    let panic = looked.unwrap_err().into_panic();
    let said = panic.downcast_ref::<String>().unwrap();
    assert!(said.contains("are revoked in part"), "{said}");
}

/// Asserts that the file is intact, that the reported changes are in it, and that log and records
/// agree.
async fn look(file: &Path, told: &[(String, KeyId)]) {
    let store = SqliteStore::new(file);
    store.start().await.unwrap();
    let mut tool = connection(file).await;
    let check: String = sqlx::query_scalar("PRAGMA integrity_check")
        .fetch_one(&mut tool)
        .await
        .unwrap();
    assert_eq!(check, "ok");

    let page = store.list(&ListQuery::first(1_000)).await.unwrap();
    assert!(page.next.is_none() && page.unreadable.is_empty());
    let mut groups: BTreeMap<&str, Vec<bool>> = BTreeMap::new();
    for record in &page.records {
        let owner = record.owner.as_deref().unwrap();
        groups
            .entry(owner)
            .or_default()
            .push(record.revoked.is_some());
        assert_eq!(
            record.label == "changed",
            !record.enabled,
            "half an update: {record:?}"
        );
    }
    while store.mark_revoked_keys().await.unwrap() {}
    let marked = store.list(&ListQuery::first(1_000)).await.unwrap();
    assert_eq!(
        marked, page,
        "marking goes on after a crash, and changes nothing"
    );
    for (owner, revoked) in groups {
        let all_or_none = revoked.iter().all(|one| *one) || !revoked.iter().any(|one| *one);
        assert!(all_or_none, "the keys of {owner} are revoked in part");
        assert!(
            revoked.len() == 5 || !revoked[0],
            "revoked before all were made"
        );
    }

    let kept: HashSet<KeyId> = page.records.iter().map(|record| record.id).collect();
    let purged: HashSet<KeyId> = gone(&mut tool, &kept).await;
    for (what, id) in told {
        assert!(
            kept.contains(id) || purged.contains(id),
            "{what} of {id} was reported, and is lost"
        );
        if what == "revoke" && kept.contains(id) {
            let record = store.find(id).await.unwrap().unwrap();
            assert!(
                record.revoked.is_some() && record.label == "changed",
                "{record:?}"
            );
        }
    }
    audited(&mut tool).await;
    let sql = "SELECT id, version, (SELECT count(*) FROM api_key_changes WHERE key_id = id) FROM api_keys";
    for row in sqlx::query(sql).fetch_all(&mut tool).await.unwrap() {
        let (id, version, logged): (String, i64, i64) = (row.get(0), row.get(1), row.get(2));
        assert_eq!(
            version, logged,
            "{id} has changed {version} times, and the log says {logged}"
        );
    }
    store.stop().await;
}

/// Asserts that each change of a key or an owner is in the audit log once, with what it was made by.
async fn audited(tool: &mut sqlx::SqliteConnection) {
    let differing = "\
        WITH log (item, count) AS (SELECT coalesce(owner, key_id), count(*) FROM api_key_changes \
            WHERE owner IS NOT NULL OR key_id <> '' GROUP BY 1), \
        audit (item, count) AS (SELECT coalesce(key, owner), count(*) FROM api_key_audit GROUP BY 1) \
        SELECT item FROM (SELECT * FROM log EXCEPT SELECT * FROM audit) \
        UNION ALL SELECT item FROM (SELECT * FROM audit EXCEPT SELECT * FROM log)";
    let differing: Vec<String> = sqlx::query_scalar(differing)
        .fetch_all(&mut *tool)
        .await
        .unwrap();
    assert!(
        differing.is_empty(),
        "the audit log has other changes of {differing:?}"
    );
    let by_other = "SELECT count(*) FROM api_key_audit WHERE channel <> 'code'";
    assert_eq!(number(tool, by_other).await, 0);
    let left_over =
        "SELECT (SELECT count(*) FROM api_key_origin) + (SELECT count(*) FROM api_key_numbering)";
    assert_eq!(number(tool, left_over).await, 0);
}

/// Negative control: an entry that is written apart from its change is found out.
#[tokio::test]
async fn s03_an_entry_without_its_change_is_found_out() {
    let place = Place::new();
    let file = place.file();
    let told = killed(&mut child(&file, 1_000_000), 8, Duration::ZERO);
    let mut tool = connection(&file).await;
    let again = "INSERT INTO api_key_audit (at, action, key, owner, channel, fields) \
        SELECT at, action, key, owner, channel, fields FROM api_key_audit LIMIT 1";
    run(&mut tool, again).await.unwrap();
    let looked = tokio::spawn(async move { look(&file, &told).await }).await;
    let panic = looked.unwrap_err().into_panic();
    let said = panic.downcast_ref::<String>().unwrap();
    assert!(said.contains("the audit log has other changes"), "{said}");
}

/// Returns the ids in the log that do not have a record.
async fn gone(tool: &mut sqlx::SqliteConnection, kept: &HashSet<KeyId>) -> HashSet<KeyId> {
    let sql = "SELECT DISTINCT key_id FROM api_key_changes WHERE key_id <> ''";
    let logged: Vec<String> = sqlx::query_scalar(sql).fetch_all(tool).await.unwrap();
    logged
        .iter()
        .map(|id| id.parse().unwrap())
        .filter(|id| !kept.contains(id))
        .collect()
}
