//! Runs the program.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use apikey_runtime::key::{Pepper, Sha256Hasher};
use apikey_runtime::{ApiKeyManager, KeyStore, PostgresStore, RedisStore, SqliteStore};
use apikey_test_support::fleet;
use apikey_test_support::servers::data_folder;

/// The secret of each pepper.
pub(crate) const PEPPER: &str = "0123456789abcdef";

/// A folder with a store's address, and the program that uses it.
pub(crate) struct Program {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) address: String,
    pub(crate) place: Place,
}

pub(crate) enum Place {
    File,
    Postgres(String),
    /// The server's URL, and the namespace.
    Redis(String, String),
}

/// What a run left.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Program {
    /// Names a new SQLite file, which a manager has still to make.
    pub(crate) fn sqlite() -> Self {
        let folder = data_folder();
        let address = format!("sqlite:{}", folder.path().join("keys.db").display());
        Self {
            folder,
            address,
            place: Place::File,
        }
    }

    /// Names a new store of each kind whose server is installed.
    pub(crate) async fn every() -> Vec<Self> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let mut every = vec![Self::sqlite()];
        if let Some(server) = fleet::postgres() {
            let url = fleet::database(server).await;
            every.push(Self::at(url.clone(), Place::Postgres(url)));
        }
        if let Some(server) = fleet::redis() {
            let namespace = format!("cli{}", COUNT.fetch_add(1, Ordering::Relaxed));
            let address = format!("{}?namespace={namespace}", server.url());
            every.push(Self::at(address, Place::Redis(server.url(), namespace)));
        }
        every
    }

    fn at(address: String, place: Place) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            folder,
            address,
            place,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Returns a store for one more node.
    pub(crate) fn store(&self) -> Arc<dyn KeyStore> {
        match &self.place {
            Place::File => Arc::new(SqliteStore::new(self.path("keys.db"))),
            Place::Postgres(url) => Arc::new(PostgresStore::new(url)),
            Place::Redis(url, namespace) => Arc::new(RedisStore::new(url).namespace(namespace)),
        }
    }

    /// Starts a manager on the store, as a server does.
    pub(crate) async fn server(&self) -> ApiKeyManager {
        let builder = ApiKeyManager::builder().shared_store(self.store());
        builder.start().await.unwrap()
    }

    /// Starts a manager with these peppers, of which the first is for new secrets.
    pub(crate) async fn peppered_server(&self, peppers: &[&str]) -> ApiKeyManager {
        let pepper = |id: &&str| Pepper::new(*id, PEPPER).unwrap();
        let hasher = Sha256Hasher::with_peppers(peppers.iter().map(pepper).collect());
        let builder = ApiKeyManager::builder().shared_store(self.store());
        builder.hasher(hasher.unwrap()).start().await.unwrap()
    }

    /// Writes the file `name` with these peppers.
    pub(crate) fn peppers(&self, name: &str, peppers: &[&str]) {
        let lines = peppers.iter().map(|id| format!("{id}:{PEPPER}\n"));
        std::fs::write(self.path(name), lines.collect::<String>()).unwrap();
    }

    /// Prepares a run: without a terminal, and with no variables but the store's address.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_apikey"));
        command
            .args(arguments)
            .env_clear()
            .env("APIKEYS_STORE", &self.address)
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        self.command(arguments).output().unwrap().into()
    }

    /// Starts the program, for a test that ends it.
    pub(crate) fn start(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(arguments);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    }

    /// Runs the program with this text on stdin.
    pub(crate) fn run_with_input(&self, arguments: &[&str], input: &str) -> Ran {
        let mut command = self.command(arguments);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // The program may end without reading it.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        child.wait_with_output().unwrap().into()
    }

    /// Runs the program with `--output json`, and returns what it wrote.
    #[track_caller]
    pub(crate) fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let arguments = [arguments, &["--output", "json"]].concat();
        serde_json::from_str(&self.run(&arguments).ok()).unwrap()
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ran {
    /// Returns stdout, if the run exited with 0.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.stdout
    }

    /// Returns stderr, if the run exited with this code and wrote nothing to stdout.
    #[track_caller]
    pub(crate) fn failed(self, code: i32) -> String {
        assert_eq!(self.code, code, "{self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
        self.stderr
    }
}
