//! A disk that is full for a while: what was acknowledged is kept, and everything works again as
//! soon as there is room, in the same process.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use apikey_runtime::store::{
    Charge, LimitCounter, LimitStore, Membership, NodeId, StoreError, UsageStore, WriteOptions,
};
use apikey_runtime::usage::{Outcome, UsageBatch, UsageQuery, UsageRow};
use apikey_runtime::{
    ApiKeyManager, Config, DenyReason, KeyId, KeyStore, NewKey, Quota, SqliteStore, Timestamp,
};
use apikey_test_support::soon;

use crate::{Place, because, connection, id, owned, record, run};

/// Names the folder to the child process; without it the child's test does nothing.
const FOLDER: &str = "APIKEY_TEST_FULL_FOLDER";

/// Set for a child whose folder is a small file system of its own.
const IS_SMALL: &str = "APIKEY_TEST_FULL_SMALL";

const CHILD: &str = "full_disk::child_whose_disk_is_full_for_a_while";

const QUOTA: u64 = 1_000_000;

/// The most calls that succeed on a full disk: what is beside them may have left some room.
const STRAYS: u128 = 500;

/// SQLITE_FULL: a file system that is full. It is mounted for the child alone, in a namespace, which
/// not every system allows.
#[test]
fn on_a_full_file_system() {
    const MOUNT: &str =
        "mount -t tmpfs -o size=32m none \"$APIKEY_TEST_FULL_FOLDER\" && exec \"$0\" \"$@\"";
    let place = Place::new();
    let mount = |program: &Path, arguments: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", MOUNT]);
        command.arg(program).args(arguments);
        command.env(FOLDER, place.0.path()).env(IS_SMALL, "1");
        command.stdin(Stdio::null()).output()
    };
    let can_mount = mount(Path::new("true"), &[]);
    if can_mount.is_ok_and(|output| output.status.success()) {
        let exe = std::env::current_exe().unwrap();
        passed(&mount(&exe, &["--exact", CHILD, "--nocapture"]).unwrap());
    } else {
        let said = "skipped: a file system cannot be mounted here without more rights";
        writeln!(std::io::stderr(), "{said}").unwrap();
    }
}

/// SQLITE_IOERR: no file may grow, which a process can set for itself.
#[cfg(target_os = "linux")]
#[test]
fn beyond_a_limit_of_the_size_of_files() {
    let place = Place::new();
    // Without this, the signal at the limit ends the process.
    let ignore = "trap '' XFSZ; exec \"$0\" \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", ignore]);
    command.arg(std::env::current_exe().unwrap());
    command.args(["--exact", CHILD, "--nocapture"]);
    command.env(FOLDER, place.0.path());
    passed(&command.stdin(Stdio::null()).output().unwrap());
}

fn passed(output: &Output) {
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    assert!(text.contains("1 passed"), "{text}");
}

/// The disk of the child.
struct Disk {
    folder: PathBuf,
    is_small: bool,
}

impl Disk {
    fn store(&self) -> SqliteStore {
        SqliteStore::new(self.folder.join("keys.db"))
    }

    fn filler(&self) -> PathBuf {
        self.folder.join("filler")
    }

    async fn fill(&self) {
        // Otherwise SQLite overwrites its log, for which there is room.
        let mut tool = connection(&self.folder.join("keys.db")).await;
        run(&mut tool, "PRAGMA wal_checkpoint(TRUNCATE)")
            .await
            .unwrap();
        if self.is_small {
            let mut filler = std::fs::File::create(self.filler()).unwrap();
            for size in [1 << 20, 1 << 12] {
                while filler.write_all(&vec![1; size]).is_ok() {}
            }
        } else {
            limit_files("--fsize=1:");
        }
    }

    fn free(&self) {
        if self.is_small {
            std::fs::remove_file(self.filler()).unwrap();
        } else {
            limit_files("--fsize=unlimited:");
        }
    }
}

/// Sets the limit of this process, from which on writes fail; its hard limit stays.
fn limit_files(option: &str) {
    let own = std::process::id().to_string();
    let set = Command::new("prlimit")
        .args(["--pid", &own, option])
        .status();
    assert!(set.unwrap().success());
}

fn batch(number: u128, rows: usize) -> UsageBatch {
    let number = u64::try_from(number).unwrap();
    let mut batch = UsageBatch::new(NodeId::from_u128(7), number, Duration::from_secs(60));
    let long = "/a/route/whose/name/is/long".repeat(4);
    // The manager removes what is old.
    let hour = Timestamp::from(SystemTime::now()).as_millis() / 3_600_000;
    let routes = (0..rows).map(|row| format!("{long}/{number}/{row}"));
    let row = |route| {
        let mut row = UsageRow::new(id(1), route, hour, Outcome::Allowed);
        row.requests = 1;
        row
    };
    batch.rows = routes.map(row).collect();
    batch
}

/// The calls of a store that write.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Write {
    Charge,
    /// SQLite writes before the commit what it has no memory for: a statement fails.
    AddMuchUsage,
    /// Its commit fails.
    AddUsage,
    Join,
    Insert,
    Revoke,
}

const WRITES: [Write; 6] = [
    Write::Charge,
    Write::AddMuchUsage,
    Write::AddUsage,
    Write::Join,
    Write::Insert,
    Write::Revoke,
];

impl Write {
    async fn run(self, store: &SqliteStore, attempt: u128) -> Result<(), StoreError> {
        let quota = LimitCounter::new("a limit", Quota::lifetime(QUOTA));
        match self {
            Self::Charge => {
                let charge = Charge::new(id(1), 1, vec![quota]);
                store.charge(&charge).await.map(drop)
            }
            Self::AddMuchUsage => store.add_usage(&batch(attempt, 20_000)).await,
            Self::AddUsage => store.add_usage(&batch(attempt, 1)).await,
            Self::Join => store.join(&NodeId::from_u128(attempt)).await,
            Self::Insert => {
                store
                    .insert(&owned(attempt, "a"), &WriteOptions::new())
                    .await
            }
            // Each is inserted beforehand.
            Self::Revoke => store
                .revoke(
                    &id(1_000_000 + attempt),
                    &because("lost"),
                    &WriteOptions::new(),
                )
                .await
                .map(drop),
        }
    }
}

/// What the calls of one store acknowledged.
#[derive(Default)]
struct Acknowledged {
    attempt: u128,
    charges: u64,
    usage: u64,
    inserted: Vec<KeyId>,
    revoked: Vec<KeyId>,
}

impl Acknowledged {
    /// Calls once.
    async fn write(&mut self, store: &SqliteStore, write: Write) -> Result<(), StoreError> {
        self.attempt += 1;
        let attempt = self.attempt;
        if write == Write::Revoke {
            // On a full disk, this fails in place of the revocation.
            store
                .insert(&record(1_000_000 + attempt), &WriteOptions::new())
                .await?;
        }
        write.run(store, attempt).await?;
        match write {
            Write::Charge => self.charges += 1,
            Write::AddMuchUsage => self.usage += 20_000,
            Write::AddUsage => self.usage += 1,
            Write::Join => {}
            Write::Insert => self.inserted.push(id(attempt)),
            Write::Revoke => self.revoked.push(id(1_000_000 + attempt)),
        }
        Ok(())
    }

    /// Calls until it fails.
    async fn fail(&mut self, store: &SqliteStore, write: Write) -> StoreError {
        for _ in 0..STRAYS {
            if let Err(error) = self.write(store, write).await {
                return error;
            }
        }
        panic!("{write:?} still succeeds on a full disk");
    }

    /// Asserts that all of it is in the store.
    async fn is_kept(&self, store: &SqliteStore) {
        for key in &self.inserted {
            assert!(store.find(key).await.unwrap().is_some(), "{key} was lost");
        }
        for key in &self.revoked {
            let record = store.find(key).await.unwrap().unwrap();
            assert!(record.revoked.is_some(), "the revocation of {key} was lost");
        }
        let query = UsageQuery::new(vec![id(1)], i64::MIN, i64::MAX);
        let rows = store.read_usage(&query).await.unwrap();
        let requests: u64 = rows.iter().map(|row| row.requests).sum();
        assert!(requests >= self.usage, "{requests} of {}", self.usage);
        let quota = LimitCounter::new("a limit", Quota::lifetime(QUOTA));
        let look = Charge::new(id(1), 0, vec![quota]);
        let left = store.charge(&look).await.unwrap().decisions[0].remaining;
        assert!(left <= QUOTA - self.charges, "{left}, {}", self.charges);
    }
}

/// Returns whether the key is allowed; the only other answer is 503.
async fn is_allowed(manager: &ApiKeyManager, key: &NewKey) -> bool {
    match soon(manager.verify(key.expose_secret())).await {
        Ok(_) => true,
        Err(denied) => {
            assert_eq!(denied.reason(), DenyReason::StoreUnavailable);
            false
        }
    }
}

/// Asserts that the cause is in the error's chain.
fn names_its_cause(error: &StoreError) {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    let causes = ["database or disk is full", "disk I/O error"];
    assert!(causes.iter().any(|cause| text.contains(cause)), "{text}");
}

/// The child process; not a test by itself.
#[tokio::test]
async fn child_whose_disk_is_full_for_a_while() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let disk = Disk {
        folder: folder.into(),
        is_small: std::env::var_os(IS_SMALL).is_some(),
    };
    let config = Config::builder().usage_flush_interval(Duration::from_secs(1));
    let manager = ApiKeyManager::builder()
        .config(config.build().unwrap())
        .store(disk.store());
    let manager = manager.start().await.unwrap();
    let plain = manager.create("plain").await.unwrap();
    let metered = manager
        .create("metered")
        .limit("all", Quota::lifetime(QUOTA));
    let metered = metered.await.unwrap();

    let store = disk.store();
    store.start().await.unwrap();
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    let mut acknowledged = Acknowledged::default();
    for write in WRITES {
        acknowledged.write(&store, write).await.unwrap();
    }
    let mut allowed = 0;
    for _ in 0..2 {
        let doomed = manager.create("doomed").await.unwrap();
        disk.fill().await;
        for write in WRITES {
            for _ in 0..3 {
                names_its_cause(&acknowledged.fail(&store, write).await);
            }
        }
        while is_allowed(&manager, &metered).await {
            allowed += 1;
        }
        assert!(
            is_allowed(&manager, &plain).await,
            "it is read, not written"
        );
        // An error or not, as the log has room.
        let _ = manager.revoke(doomed.id()).await;

        disk.free();
        for write in WRITES {
            let written = acknowledged.write(&store, write).await;
            assert!(written.is_ok(), "{write:?} once there is room: {written:?}");
        }
        assert!(is_allowed(&manager, &metered).await, "once there is room");
        allowed += 1;
        manager.revoke(doomed.id()).await.unwrap();
        let refused = manager.verify(doomed.expose_secret()).await.unwrap_err();
        assert_eq!(refused.reason(), DenyReason::Revoked);
    }
    manager.shutdown().await.unwrap();

    acknowledged.is_kept(&store).await;
    let query = UsageQuery::new(vec![metered.id()], i64::MIN, i64::MAX);
    let rows = store.read_usage(&query).await.unwrap();
    let rows = rows.iter().filter(|row| row.outcome == Outcome::Allowed);
    assert_eq!(rows.map(|row| row.requests).sum::<u64>(), allowed);
    store.stop().await;
}
