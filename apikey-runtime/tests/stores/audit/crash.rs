//! A process that is killed in the middle of a change leaves the change and its entry, or neither.

use std::process::{Command, Stdio};

use super::*;
use crate::connection;
use apikey_test_support::{PATIENCE, within};

/// Names the file to the child process; without it the child's test does nothing.
const FILE: &str = "APIKEY_TEST_AUDIT_CRASH_FILE";
const CHANGE: &str = "APIKEY_TEST_AUDIT_CRASH_CHANGE";

const CHANGES: [&str; 6] = [
    "insert",
    "update",
    "revoke",
    "purge",
    "revoke owner",
    "suspend",
];

/// The child process; not a test by itself.
#[tokio::test]
async fn child_that_is_killed_in_the_middle_of_a_change() {
    let Some(file) = std::env::var_os(FILE) else {
        return;
    };
    let store = SqliteStore::new(file);
    store.start().await.unwrap();
    let left = OwnerRevocation::new(at(5_000));
    match std::env::var(CHANGE).unwrap().as_str() {
        "insert" => store.insert(&record(9), &options()).await.unwrap(),
        "update" => {
            let mut patch = KeyPatch::new();
            patch.label = Some("changed".to_owned());
            store.update(&id(1), &patch, &options()).await.unwrap();
        }
        "revoke" => {
            let revoked = store.revoke(&id(1), &because("lost"), &options()).await;
            revoked.unwrap();
        }
        "purge" => {
            store.purge_all(at(i64::MAX)).await.unwrap();
        }
        "revoke owner" => {
            let revoked = store.revoke_owner_keys("a", &left, &origin()).await;
            revoked.unwrap();
        }
        _ => {
            let suspended = store.set_owner_suspended("a", true, &origin()).await;
            suspended.unwrap();
        }
    }
    panic!("the change has come to its end");
}

/// All that a change may leave.
async fn rows(tool: &mut SqliteConnection) -> Vec<String> {
    let sql = "SELECT 'key ' || id || label || version || coalesce(revoked_at, '') FROM api_keys \
        UNION ALL SELECT 'owner ' || owner || version || revocations || suspended FROM api_key_owners \
        UNION ALL SELECT 'log ' || epoch FROM api_key_changes UNION ALL SELECT 'entry ' || position FROM api_key_audit \
        UNION ALL SELECT 'origin' FROM api_key_origin UNION ALL SELECT 'numbering' FROM api_key_numbering \
        UNION ALL SELECT 'revocation ' || owner || number FROM api_key_owner_revocations";
    sqlx::query_scalar(sql).fetch_all(tool).await.unwrap()
}

/// Starts the child, which is held by `trigger` in the middle of its change, and kills it there.
async fn killed_in(place: &Place, change: &str, trigger: &'static str) {
    let mut tool = place.tool().await;
    run(&mut tool, trigger).await.unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "audit::crash::child_that_is_killed_in_the_middle_of_a_change",
            "--nocapture",
        ])
        .env(FILE, place.file())
        .env(CHANGE, change)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // It holds the file while it changes it, and starts without doing so for long.
    run(&mut tool, "PRAGMA busy_timeout = 300").await.unwrap();
    let held = within(PATIENCE, async || {
        let lock = run(&mut tool, "BEGIN IMMEDIATE").await;
        if lock.is_ok() {
            run(&mut tool, "ROLLBACK").await.unwrap();
        }
        lock.is_err()
    });
    assert!(held.await.is_some(), "{change}: it is in the middle");
    assert!(child.try_wait().unwrap().is_none(), "{change}: it runs");
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success());
}

/// As long as a test runs, whatever the machine: 10^14 rows.
macro_rules! held {
    ($when:literal) => {
        concat!(
            "CREATE TRIGGER held ",
            $when,
            " INSERT ON api_key_audit BEGIN SELECT count(*) FROM ",
            "json_each('[1,2,3,4,5,6,7,8,9,0]') AS a, json_each('[1,2,3,4,5,6,7,8,9,0]') AS b, ",
            "json_each('[1,2,3,4,5,6,7,8,9,0]') AS c, json_each('[1,2,3,4,5,6,7,8,9,0]') AS d, ",
            "json_each('[1,2,3,4,5,6,7,8,9,0]') AS e, json_each('[1,2,3,4,5,6,7,8,9,0]') AS f, ",
            "json_each('[1,2,3,4,5,6,7,8,9,0]') AS g, json_each('[1,2,3,4,5,6,7,8,9,0]') AS h, ",
            "json_each('[1,2,3,4,5,6,7,8,9,0]') AS i, json_each('[1,2,3,4,5,6,7,8,9,0]') AS j, ",
            "json_each('[1,2,3,4,5,6,7,8,9,0]') AS k, json_each('[1,2,3,4,5,6,7,8,9,0]') AS l; END"
        )
    };
}

/// It is held after the row is changed and before the entry is written, or after both.
#[tokio::test]
async fn s03_a_process_that_is_killed_in_the_middle_of_a_change_leaves_neither_it_nor_its_entry() {
    for trigger in [held!("BEFORE"), held!("AFTER")] {
        for change in CHANGES {
            let place = Place::new();
            let store = place.store().await;
            let mut first = owned(1, "a");
            first.expires = Some(at(2_000));
            store.insert(&first, &options()).await.unwrap();
            store.stop().await;
            let mut tool = connection(&place.file()).await;
            let before = rows(&mut tool).await;
            killed_in(&place, change, trigger).await;
            run(&mut tool, "DROP TRIGGER held").await.unwrap();
            assert_eq!(rows(&mut tool).await, before, "{change}");
            // The next process finds no origin of it.
            let store = place.store().await;
            run(&mut tool, "UPDATE api_keys SET label = 'by hand'")
                .await
                .unwrap();
            let entry = newest(&store).await;
            assert_eq!(entry.origin.channel, ChangeChannel::Sql, "{change}");
            assert_eq!(rows(&mut tool).await.len(), before.len() + 2);
        }
    }
}
