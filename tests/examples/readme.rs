//! README's program, built and run as it stands there. Only its port and the path of the crate are
//! replaced.

use super::STORE_TIMEOUT;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use apikey_runtime::{ApiKeyManager, SqliteStore};
use apikey_test_support::http::{Answer, Client};
use apikey_test_support::locations::{Location, Message};
use apikey_test_support::{forge, soon};

const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

/// Returns the first block of a language in README.
fn block(language: &str) -> String {
    let readme = std::fs::read_to_string(Path::new(REPOSITORY).join("README.md")).unwrap();
    let (_, rest) = readme.split_once(&format!("```{language}\n")).unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

/// Replaces a text that has to be there once.
fn replaced(text: &str, from: &str, to: &str) -> String {
    assert_eq!(text.matches(from).count(), 1, "{from} in {text}");
    text.replace(from, to)
}

/// Builds README's program as a package of its own, with README's dependencies, the lock file of this
/// repository and its target directory, so that what has been built already is not built again.
static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| {
    let repository = Path::new(REPOSITORY);
    let package = tempfile::tempdir().unwrap();
    let manifest = |name: &str| std::fs::read_to_string(repository.join(name)).unwrap();
    let workspace = manifest("Cargo.toml");
    let (_, profiles) = workspace.split_once("[profile.dev]").unwrap();
    let path = format!("{REPOSITORY}/apikey-runtime");
    let dependencies = replaced(&block("toml"), "../apikey/apikey-runtime", &path);
    let head = "[workspace]\n[package]\nname = \"readme_program\"\nedition = \"2024\"\n";
    let write = |name: &str, text: &str| std::fs::write(package.path().join(name), text).unwrap();
    write(
        "Cargo.toml",
        &format!("{head}{dependencies}\n[profile.dev]{profiles}"),
    );
    write("Cargo.lock", &manifest("Cargo.lock"));
    std::fs::create_dir(package.path().join("src")).unwrap();
    write("src/main.rs", &replaced(&block("rust"), "8080", "0"));

    let target = super::profile_directory().parent().unwrap().to_owned();
    let mut cargo = super::cargo();
    cargo
        .args(["build", "--offline", "--target-dir"])
        .arg(&target);
    cargo.current_dir(package.path());
    assert!(cargo.status().unwrap().success(), "{cargo:?}");
    target.join("debug/readme_program")
});

/// A process, which is killed when this is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The running program.
struct Program {
    child: Running,
    address: SocketAddr,
    /// Kept open, so that it can go on logging.
    _log: BufReader<ChildStderr>,
}

impl Program {
    /// Starts it, and waits until its log has the address on which it listens.
    async fn start(folder: &Path) -> Self {
        let mut command = Command::new(&*PROGRAM);
        command
            .current_dir(folder)
            .env(STORE_TIMEOUT.0, STORE_TIMEOUT.1);
        command.stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = Running(command.spawn().unwrap());
        let mut log = BufReader::new(child.0.stderr.take().unwrap());
        let listening = tokio::task::spawn_blocking(move || {
            let mut lines = String::new();
            while log.read_line(&mut lines).unwrap() > 0 {
                if let Some((_, address)) = lines.trim_end().split_once("listening on: ") {
                    return (address.parse().unwrap(), log);
                }
            }
            panic!("the log does not name the address: {lines}")
        });
        let (address, log) = soon(listening).await.unwrap();
        Self {
            child,
            address,
            _log: log,
        }
    }

    async fn get(&self, path: &str, key: Option<&str>) -> Answer {
        let message = Message::get(path);
        let message = key.map_or(message.clone(), |key| message.with(Location::Bearer, key));
        let mut client = Client::connect(self.address).await;
        client.send(message.bytes()).await;
        client.answer().await
    }

    /// Asks it to stop, waits for its end, and returns what it printed.
    async fn stop(mut self) -> String {
        let child = &mut self.child.0;
        super::terminate(child).await;
        assert!(child.wait().unwrap().success());
        let mut printed = String::new();
        let output = child.stdout.as_mut().unwrap();
        output.read_to_string(&mut printed).unwrap();
        printed
    }
}

/// Returns how many requests of the key are kept in the file, after the program has ended.
async fn kept(file: &Path, key: &str) -> u64 {
    let store = SqliteStore::new(file);
    let manager = ApiKeyManager::builder().store(store).start().await.unwrap();
    let labelled = manager.list().label("MY_FIRST_KEY").await.unwrap().keys;
    assert_eq!(
        labelled.len(),
        1,
        "a start creates a key only if there is none"
    );
    let id = labelled[0].id;
    assert_eq!(id.to_string(), forge::parts(key).id);
    let day = Duration::from_secs(86_400);
    let (from, to) = (SystemTime::now() - day, SystemTime::now() + day);
    let usage = manager.usage(id).between(from, to).await.unwrap();
    manager.shutdown().await.unwrap();
    usage.total().requests
}

#[actix_web::test]
async fn the_program_of_readme_runs_and_keeps_its_key_and_its_usage() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("apikeys.db");
    let first = Program::start(folder.path()).await;
    first.get("/orders", None).await.refused(401, "missing-key");
    let printed = first.stop().await;
    let key = printed.trim_end();
    assert!(
        key.starts_with("my_api_") && !key.contains('\n'),
        "{printed}"
    );

    for starts in 1..=2 {
        let later = Program::start(folder.path()).await;
        later
            .get("/orders", Some(key))
            .await
            .says("hello, MY_FIRST_KEY");
        assert_eq!(later.stop().await, "", "another key");
        assert_eq!(kept(&file, key).await, starts, "the usage is written");
    }
}
