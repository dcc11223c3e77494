//! Files that are moved, removed or replaced while a store has them open. Another process then writes
//! what this one does not see, so that the store stops.
#![cfg(unix)]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use apikey_runtime::store::{
    Charge, LimitCounter, LimitStore, ListQuery, Membership, NodeId, StoreError, UsageStore,
    WriteOptions,
};
use apikey_runtime::{ApiKeyManager, DenyReason, KeyId, KeyStore, Policy, Quota, SqliteStore};
use apikey_test_support::{PATIENCE, soon, within};
use sqlx::{Connection, SqliteConnection};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::{Place, because, connection, id, number, record, run};

/// What an operator did to the files.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mishap {
    LogRemoved,
    IndexRemoved,
    BothRemoved,
    LogReplaced,
    IndexReplaced,
    FileRemoved,
    FileMoved,
    FileReplaced,
    FolderMoved,
    FolderReplaced,
    LinkSwitched,
    LinkedTwice,
    /// An older copy was written over the file, which stays the same file.
    RestoredInPlace,
}

const MISHAPS: [Mishap; 12] = [
    Mishap::BothRemoved,
    Mishap::LogRemoved,
    Mishap::IndexRemoved,
    Mishap::LogReplaced,
    Mishap::IndexReplaced,
    Mishap::FileRemoved,
    Mishap::FileMoved,
    Mishap::FileReplaced,
    Mishap::FolderMoved,
    Mishap::FolderReplaced,
    Mishap::LinkSwitched,
    Mishap::LinkedTwice,
];

/// A store's file, to which a link leads.
struct Data {
    place: Place,
    file: PathBuf,
    link: PathBuf,
}

impl Data {
    fn new() -> Self {
        let place = Place::new();
        let folder = place.0.path().join("data");
        fs::create_dir(&folder).unwrap();
        let (file, link) = (folder.join("keys.db"), place.0.path().join("link.db"));
        Self { place, file, link }
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut path = self.file.clone().into_os_string();
        path.push(suffix);
        path.into()
    }

    fn other(&self) -> PathBuf {
        self.place.0.path().join("other")
    }

    /// Returns the path by which the store opens the file: a link, if it will be switched.
    fn path(&self, mishap: Mishap) -> PathBuf {
        if mishap == Mishap::LinkSwitched {
            fs::write(&self.file, "").unwrap();
            std::os::unix::fs::symlink(&self.file, &self.link).unwrap();
            return self.link.clone();
        }
        self.file.clone()
    }

    /// Lets it happen.
    fn suffer(&self, mishap: Mishap) {
        let (log, index) = (self.beside("-wal"), self.beside("-shm"));
        let folder = self.file.parent().unwrap();
        let replace = |path: &Path| {
            fs::copy(path, self.other()).unwrap();
            fs::rename(self.other(), path).unwrap();
        };
        match mishap {
            Mishap::LogRemoved => fs::remove_file(log).unwrap(),
            Mishap::IndexRemoved => fs::remove_file(index).unwrap(),
            Mishap::BothRemoved => {
                fs::remove_file(log).unwrap();
                fs::remove_file(index).unwrap();
            }
            Mishap::LogReplaced => replace(&log),
            Mishap::IndexReplaced => replace(&index),
            Mishap::FileRemoved => fs::remove_file(&self.file).unwrap(),
            Mishap::FileMoved => fs::rename(&self.file, self.other()).unwrap(),
            Mishap::FileReplaced => replace(&self.file),
            Mishap::FolderMoved => fs::rename(folder, self.other()).unwrap(),
            Mishap::FolderReplaced => {
                fs::rename(folder, self.other()).unwrap();
                fs::create_dir(folder).unwrap();
                for name in ["keys.db", "keys.db-wal", "keys.db-shm"] {
                    fs::copy(self.other().join(name), folder.join(name)).unwrap();
                }
            }
            Mishap::LinkSwitched => {
                fs::copy(&self.file, self.other()).unwrap();
                fs::remove_file(&self.link).unwrap();
                std::os::unix::fs::symlink(self.other(), &self.link).unwrap();
            }
            Mishap::LinkedTwice => fs::hard_link(&self.file, self.other()).unwrap(),
            Mishap::RestoredInPlace => {
                let copy = fs::read(self.other()).unwrap();
                fs::write(&self.file, copy).unwrap();
            }
        }
    }
}

/// Each call of a store.
async fn every_call(store: &SqliteStore) -> Vec<Result<(), StoreError>> {
    let quota = LimitCounter::new("a limit", Quota::lifetime(9));
    let node = NodeId::from_u128(1);
    let charge = |cost| Charge::new(id(1), cost, vec![quota.clone()]);
    vec![
        store.find(&id(1)).await.map(drop),
        store.list(&ListQuery::first(1)).await.map(drop),
        store.insert(&record(9), &WriteOptions::new()).await,
        store
            .revoke(&id(1), &because("lost"), &WriteOptions::new())
            .await
            .map(drop),
        store.charge(&charge(0)).await.map(drop),
        store.charge(&charge(1)).await.map(drop),
        store.refill(&id(1), &quota, 1).await,
        store.join(&node).await,
        store.members().await.map(drop),
        store.leave(&node).await,
        store.last_used(&[id(1)]).await.map(drop),
        store
            .change_log()
            .unwrap()
            .changes(None, None)
            .await
            .map(drop),
    ]
}

#[tokio::test]
async fn a_store_whose_files_are_not_those_of_others_keeps_the_reason() {
    for mishap in MISHAPS {
        // A read is the first to notice, or a poll, or many calls at once.
        for first in 0..3 {
            let data = Data::new();
            let store = Arc::new(SqliteStore::new(data.path(mishap)));
            store.start().await.unwrap();
            store
                .insert(&record(1), &WriteOptions::new())
                .await
                .unwrap();
            data.suffer(mishap);
            match first {
                0 => assert!(store.find(&id(1)).await.is_err(), "{mishap:?}"),
                1 => {
                    let polled = store.change_log().unwrap().changes(None, None).await;
                    assert!(polled.is_err(), "{mishap:?}");
                }
                _ => {
                    let mut tasks = JoinSet::new();
                    for number in 10..20 {
                        let store = Arc::clone(&store);
                        tasks.spawn(async move {
                            store
                                .insert(&record(number), &WriteOptions::new())
                                .await
                                .is_err()
                        });
                    }
                    assert_eq!(tasks.join_all().await, [true; 10], "{mishap:?}");
                }
            }
            let folder = data.place.0.path().to_str().unwrap().to_owned();
            for _ in 0..2 {
                for answer in every_call(&store).await {
                    let said = answer.unwrap_err().to_string();
                    assert!(said.contains(&folder), "{mishap:?}: {said}");
                    assert!(said.contains("start again"), "{mishap:?}: {said}");
                }
                store.stop().await;
            }
        }
    }
}

/// What was acknowledged is only in the removed log, and the connections still have it.
#[tokio::test]
async fn a_log_that_was_removed_is_written_into_the_file() {
    for mishap in [
        Mishap::LogRemoved,
        Mishap::IndexRemoved,
        Mishap::BothRemoved,
    ] {
        let data = Data::new();
        let [first, second] = [(); 2].map(|()| SqliteStore::new(&data.file));
        for store in [&first, &second] {
            store.start().await.unwrap();
        }
        for number in 1..=50 {
            first
                .insert(&record(number), &WriteOptions::new())
                .await
                .unwrap();
            second
                .revoke(&id(number), &because("lost"), &WriteOptions::new())
                .await
                .unwrap();
        }
        data.suffer(mishap);
        for store in [&first, &second] {
            assert!(store.find(&id(1)).await.is_err());
        }
        for number in [1, 25, 50] {
            let found = revoked(&data.file, id(number));
            assert_eq!(found, Found::RevokedBefore, "{mishap:?}: {number}");
        }
    }
}

/// Begins to save a removed log in a call that is given up while another has the writer's connection, lets `meanwhile`
/// happen, and ends the other call.
async fn save_after_a_call_that_was_given_up(data: &Data, meanwhile: impl FnOnce()) {
    let store = Arc::new(SqliteStore::new(&data.file));
    store.start().await.unwrap();
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    let mut tool = connection(&data.file).await;
    run(&mut tool, "PRAGMA wal_checkpoint(FULL)").await.unwrap();
    store
        .revoke(&id(1), &because("lost"), &WriteOptions::new())
        .await
        .unwrap();
    run(&mut tool, "BEGIN IMMEDIATE").await.unwrap();
    let writing = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.insert(&record(2), &WriteOptions::new()).await }
    });
    let pause = Duration::from_millis(200);
    sleep(pause).await;
    data.suffer(Mishap::BothRemoved);
    assert!(timeout(pause, store.find(&id(1))).await.is_err());
    meanwhile();
    run(&mut tool, "ROLLBACK").await.unwrap();
    assert!(writing.await.unwrap().is_err());
    soon(store.stop()).await;
}

/// Returns whether the file has the revocation, without its log. Copied by another process: this one would drop its
/// locks on the file.
async fn is_revoked_in(data: &Data) -> bool {
    let mut copy = Command::new("cp");
    let copied = copy.arg(&data.file).arg(data.other()).status().unwrap();
    assert!(copied.success());
    let mut tool = connection(&data.other()).await;
    let revoked = "SELECT count(*) FROM api_keys WHERE revoked_at IS NOT NULL";
    number(&mut tool, revoked).await == 1
}

#[tokio::test]
async fn a_log_that_was_removed_is_written_even_if_the_call_is_given_up() {
    let data = Data::new();
    save_after_a_call_that_was_given_up(&data, || {}).await;
    assert!(is_revoked_in(&data).await);
}

/// Another process that has begun a new log writes into the file too.
#[tokio::test]
async fn a_log_that_was_replaced_meanwhile_is_not_written() {
    let data = Data::new();
    save_after_a_call_that_was_given_up(&data, || fs::write(data.beside("-wal"), "").unwrap())
        .await;
    assert!(!is_revoked_in(&data).await);
}

/// Names the file to the child process; without it the child's test does nothing.
const FILE: &str = "APIKEY_TEST_MOVED_FILE";
const KEY: &str = "APIKEY_TEST_MOVED_KEY";

const CHILD: &str = "moved_files::child_that_revokes_a_key";

/// The child process, which revokes a key by hand if it is not revoked; not a test by itself.
#[tokio::test]
async fn child_that_revokes_a_key() {
    let Some(file) = std::env::var_os(FILE) else {
        return;
    };
    let key = std::env::var(KEY).unwrap();
    let sql = "UPDATE api_keys SET revoked_at = 1 WHERE id = ? AND revoked_at IS NULL";
    let began = Instant::now();
    // Until the store has written its log into the file, the index may name parts of the log that the
    // new one does not have.
    let (mut tool, revoked) = loop {
        let mut tool = connection(Path::new(&file)).await;
        match sqlx::query(sql).bind(&key).execute(&mut tool).await {
            Ok(revoked) => break (tool, revoked),
            Err(error) => assert!(began.elapsed() < PATIENCE, "{error}"),
        }
    };
    let keys = sqlx::query_scalar("SELECT count(*) FROM api_keys WHERE id = ?");
    let keys: i64 = keys.bind(&key).fetch_one(&mut tool).await.unwrap();
    tool.close().await.unwrap();
    let count = revoked.rows_affected();
    writeln!(std::io::stdout(), "\nkeys: {keys}, revoked: {count}").unwrap();
}

#[derive(Debug, PartialEq)]
enum Found {
    /// The other process revoked it.
    Live,
    RevokedBefore,
    Missing,
}

/// Revokes the key in another process.
fn revoked(file: &Path, key: KeyId) -> Found {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", CHILD, "--nocapture"]);
    command.env(FILE, file).env(KEY, key.as_str());
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    let kinds = [
        ("keys: 1, revoked: 1", Found::Live),
        ("keys: 1, revoked: 0", Found::RevokedBefore),
        ("keys: 0, revoked: 0", Found::Missing),
    ];
    let kind = kinds.into_iter().find(|(said, _)| text.contains(said));
    kind.unwrap_or_else(|| panic!("{text}")).1
}

async fn refusal(manager: &ApiKeyManager, key: &str, policy: &Policy) -> Option<DenyReason> {
    let checked = soon(manager.verify_for(key, policy)).await;
    checked.err().map(|denied| denied.reason())
}

/// Waits until the node has removed what it acknowledged from the change log. From then on, it writes
/// only its heartbeats, of which the other process reads nothing.
async fn is_trimmed(tool: &mut SqliteConnection) {
    let rows = "SELECT count(*) FROM api_key_changes";
    let trimmed = within(PATIENCE, async || number(tool, rows).await == 1).await;
    assert!(trimmed.is_some());
}

/// V-20: a key that another process revokes is refused, whatever happened to the files before.
#[tokio::test]
async fn a_revocation_by_another_process_is_not_missed() {
    for mishap in MISHAPS.into_iter().chain([Mishap::RestoredInPlace]) {
        if matches!(
            mishap,
            Mishap::FileRemoved | Mishap::FileMoved | Mishap::FolderMoved
        ) {
            continue; // The other process does not have the key.
        }
        let data = Data::new();
        let path = data.path(mishap);
        let manager = ApiKeyManager::builder().store(SqliteStore::new(&path));
        let manager = manager.start().await.unwrap();
        let key = manager.create("a").await.unwrap();
        let secret = key.expose_secret();
        assert_eq!(refusal(&manager, secret, &Policy::new()).await, None);
        // Into the file, since the other process may have that alone.
        let mut tool = connection(&path).await;
        let save = "PRAGMA wal_checkpoint(FULL)";
        is_trimmed(&mut tool).await;
        run(&mut tool, save).await.unwrap();
        if mishap == Mishap::RestoredInPlace {
            fs::copy(&data.file, data.other()).unwrap();
            manager.create("b").await.unwrap();
            is_trimmed(&mut tool).await;
            run(&mut tool, save).await.unwrap();
        }
        tool.close().await.unwrap();

        data.suffer(mishap);
        let path = match mishap {
            Mishap::LinkedTwice => data.other(),
            _ => path,
        };
        assert_eq!(revoked(&path, key.id()), Found::Live, "{mishap:?}");
        let fresh = refusal(&manager, secret, &Policy::new().fresh()).await;
        assert!(fresh.is_some(), "{mishap:?}: a fresh route accepts it");
        let refused = async || refusal(&manager, secret, &Policy::new()).await.is_some();
        let denied = within(PATIENCE, refused).await;
        assert!(
            denied.is_some(),
            "{mishap:?}: it is accepted beyond the lease"
        );
        for _ in 0..20 {
            assert!(refused().await, "{mishap:?}: it is accepted again");
        }
        manager.shutdown().await.unwrap();
        let later = revoked(&path, key.id());
        assert_eq!(later, Found::RevokedBefore, "{mishap:?}");
    }
}
