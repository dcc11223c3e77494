//! A test's own PostgreSQL: new, on a free port, ended with the process that started it.
//!
//! It needs only `std` and the server's programs.

use std::fs::File;
use std::io;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::running::free_port;
use crate::skip::Requirement;

/// Unique, so that a test can search for it.
pub const PASSWORD: &str = "b3tter-n0t-be-seen";

/// The only user, a superuser.
pub const USER: &str = "keeper";

/// Takes epochs from a sequence and when the statement runs, as a naive change log would; for a
/// negative control. Run it in the schema of the tables.
pub const EPOCHS_FROM_A_SEQUENCE: &str = "\
    CREATE SEQUENCE epochs START 1000000; \
    CREATE OR REPLACE FUNCTION api_key_append_change(changed text, changed_kind text DEFAULT 'member') RETURNS void \
        LANGUAGE plpgsql SET search_path FROM CURRENT AS $$ DECLARE push_to text; BEGIN \
            SELECT meta.channel INTO STRICT push_to FROM api_key_meta AS meta; \
            INSERT INTO api_key_changes (epoch, key_id, kind) VALUES (nextval('epochs'), changed, changed_kind); \
            PERFORM pg_notify(push_to, ''); \
            PERFORM pg_sleep(random() * 0.02); \
        END $$; \
    CREATE OR REPLACE FUNCTION api_keys_log_change() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER \
        SET search_path FROM CURRENT AS $$ BEGIN \
            PERFORM api_key_append_change(CASE TG_OP WHEN 'DELETE' THEN OLD.id ELSE NEW.id END, 'key'); \
            RETURN NULL; \
        END $$";

const SERVER: Requirement = Requirement {
    program: "PostgreSQL",
    remedy: "on Debian, `apt-get install postgresql`",
};

const PATIENCE: Duration = Duration::from_secs(60);

/// A server with an empty database `postgres`.
pub struct Postgres {
    folder: PathBuf,
    programs: PathBuf,
    port: u16,
    settings: Vec<&'static str>,
    /// The user that the server runs as, if this process runs as root.
    user: Option<User>,
    server: Mutex<Option<Child>>,
    /// Ends the server and removes its folder when this process ends in any way, because its input
    /// is then closed.
    _undertaker: ChildStdin,
}

impl Postgres {
    /// Starts a server. Returns `None` if PostgreSQL is not installed: the test of this thread is then
    /// recorded as skipped; with `CI` set it fails.
    pub fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// Starts a server with these settings too, as in `wal_level=logical`.
    pub fn start_with(settings: &[&'static str]) -> Option<Self> {
        let programs = installed()?;
        let folder = new_folder();
        let user = User::unprivileged();
        if let Some(user) = &user {
            chown(&folder, Some(user.id), Some(user.group)).unwrap();
        }
        let undertaker = undertaker(&folder);
        let mut server = Self {
            folder,
            programs,
            port: 0,
            settings: settings.to_vec(),
            user,
            server: Mutex::new(None),
            _undertaker: undertaker,
        };
        server.make();
        // Another process may take the port before the server does.
        for _ in 0..10 {
            server.port = free_port();
            server.launch();
            server.wait_until("is ready or ends", || {
                server.has_ended() || server.is_ready()
            });
            if !server.has_ended() {
                return Some(server);
            }
        }
        panic!("PostgreSQL does not start: {:#?}", server.last_of_log());
    }

    /// Returns the port on 127.0.0.1. A restart keeps it.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the URL of the database `postgres`.
    pub fn url(&self) -> String {
        self.url_at(self.port)
    }

    /// Returns the URL with another port, such as that of a proxy.
    pub fn url_at(&self, port: u16) -> String {
        format!("postgres://{USER}:{PASSWORD}@127.0.0.1:{port}/postgres")
    }

    /// Restarts the server after [`stop`](Self::stop) or [`kill`](Self::kill).
    pub fn run(&self) {
        self.launch();
        // A killed server may leave a process behind for a moment, which still holds its shared
        // memory.
        self.wait_until("is ready", || {
            if self.has_ended() {
                self.launch();
            }
            self.is_ready()
        });
    }

    fn has_ended(&self) -> bool {
        match self.server.lock().unwrap().as_mut() {
            Some(server) => server.try_wait().unwrap().is_some(),
            None => true,
        }
    }

    fn launch(&self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.join("log"))
            .unwrap();
        let mut command = self.command("postgres");
        command
            .arg("-D")
            .arg(self.data())
            .arg("-p")
            .arg(self.port.to_string());
        for setting in [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "max_connections=300",
            "shared_buffers=32MB",
            "deadlock_timeout=200ms",
            // In its folder, which is removed, also if the server is killed.
            "dynamic_shared_memory_type=mmap",
        ]
        .iter()
        .chain(&self.settings)
        {
            command.arg("-c").arg(setting);
        }
        let child = command
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        *self.server.lock().unwrap() = Some(child);
    }

    /// Stops the server in good order: it rolls back transactions in progress.
    pub fn stop(&self) {
        signal("-INT", &[self.pid()]);
        self.reap();
    }

    /// Kills every process of the server at once, as a power failure would.
    pub fn kill(&self) {
        let all = self.processes();
        signal("-KILL", &all);
        self.reap();
        self.wait_until("is gone", || all.iter().all(|pid| !is_alive(*pid)));
    }

    /// Kills one process of the server, which serves a connection. The others then restart.
    pub fn kill_backend(&self, pid: u32) {
        signal("-KILL", &[pid]);
    }

    /// Stops every process of the server, until the value is dropped.
    pub fn freeze(&self) -> Frozen {
        let all = self.processes();
        signal("-STOP", &all);
        Frozen(all)
    }

    /// Makes the stopped server a standby of a primary that does not exist, from its next start on.
    pub fn make_standby(&self) {
        File::create(self.data().join("standby.signal")).unwrap();
    }

    fn make(&self) {
        let password = self.folder.join("password");
        std::fs::write(&password, PASSWORD).unwrap();
        let made = self
            .command("initdb")
            .arg("-D")
            .arg(self.data())
            .args(["--username", USER, "--auth=password", "--no-sync"])
            .args(["--encoding=UTF8", "--locale=C", "--pwfile"])
            .arg(&password)
            .output()
            .unwrap();
        assert!(made.status.success(), "initdb: {made:?}");
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn command(&self, program: &str) -> Command {
        let program = self.programs.join(program);
        let mut command = match &self.user {
            None => Command::new(program),
            Some(user) => {
                let mut command = Command::new("setpriv");
                command
                    .arg(format!("--reuid={}", user.id))
                    .arg(format!("--regid={}", user.group))
                    .args(["--clear-groups", "--"])
                    .arg(program);
                command
            }
        };
        command
            .current_dir(&self.folder)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("LC_ALL", "C")
            .stdin(Stdio::null());
        command
    }

    /// The server writes its process id on the first line.
    fn pid(&self) -> u32 {
        self.own_lines()[0].trim().parse().unwrap()
    }

    fn is_ready(&self) -> bool {
        let lines = self.own_lines();
        lines
            .get(7)
            .is_some_and(|line| matches!(line.trim(), "ready" | "standby"))
            && lines[0].trim()
                == self
                    .server
                    .lock()
                    .unwrap()
                    .as_ref()
                    .unwrap()
                    .id()
                    .to_string()
    }

    fn own_lines(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.data().join("postmaster.pid"));
        text.unwrap_or_default()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    fn processes(&self) -> Vec<u32> {
        let first = self.pid();
        let mut all = vec![first];
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let pid = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok());
            all.extend(pid.filter(|pid| parent(*pid) == Some(first)));
        }
        all
    }

    fn reap(&self) {
        if let Some(mut child) = self.server.lock().unwrap().take() {
            child.wait().unwrap();
        }
    }

    fn wait_until(&self, what: &str, holds: impl Fn() -> bool) {
        let began = Instant::now();
        while !holds() {
            if began.elapsed() > PATIENCE {
                let last = self.last_of_log();
                panic!("not seen that PostgreSQL {what}: {last:#?}");
            }
            sleep(Duration::from_millis(10));
        }
    }

    /// Returns the last lines of the server's log, from the last one on.
    fn last_of_log(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        log.lines().rev().take(20).map(str::to_owned).collect()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.server.lock().unwrap().is_some() {
            signal("-QUIT", &[self.pid()]);
            self.reap();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The server is stopped until this is dropped.
pub struct Frozen(Vec<u32>);

impl Drop for Frozen {
    fn drop(&mut self) {
        signal("-CONT", &self.0);
    }
}

/// An unprivileged user.
struct User {
    id: u32,
    group: u32,
}

impl User {
    /// PostgreSQL does not run as root.
    fn unprivileged() -> Option<Self> {
        (number("-u", None)? == 0).then(|| {
            let named = |name| {
                Some(Self {
                    id: number("-u", Some(name))?,
                    group: number("-g", Some(name))?,
                })
            };
            named("postgres")
                .or_else(|| named("nobody"))
                .expect("an unprivileged user")
        })
    }
}

fn number(what: &str, user: Option<&str>) -> Option<u32> {
    let output = Command::new("id").arg(what).args(user).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

/// Returns the server of a process, which is started for the first test that needs it.
pub fn shared(server: &'static OnceLock<Option<Postgres>>) -> Option<&'static Postgres> {
    installed()?;
    server.get_or_init(Postgres::start).as_ref()
}

/// Returns the directory of the server's programs, or records that the test of this thread is
/// skipped.
fn installed() -> Option<PathBuf> {
    let programs = programs();
    if programs.is_none() {
        let test = std::thread::current();
        SERVER.is_missing(test.name().unwrap_or("a test"));
    }
    programs
}

/// Returns the directory of the server's programs: Debian does not put them on the path.
fn programs() -> Option<PathBuf> {
    let mut folders: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|versions| {
            versions
                .flatten()
                .map(|version| version.path().join("bin"))
                .collect()
        })
        .unwrap_or_default();
    folders.sort();
    folders.reverse();
    folders.extend(std::env::split_paths(
        &std::env::var_os("PATH").unwrap_or_default(),
    ));
    let complete = |folder: &PathBuf| {
        ["initdb", "postgres"]
            .iter()
            .all(|name| folder.join(name).exists())
    };
    folders.into_iter().find(complete)
}

fn new_folder() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!(
        "postgres-{}-{}",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    );
    let folder = super::data_root().join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir(&folder).unwrap();
    folder
}

fn undertaker(folder: &Path) -> ChildStdin {
    // `read` ends when this process does. Then the server must end soon, whatever it does.
    const WAIT: &str = r#"
        trap '' INT TERM HUP
        read -r _
        [ -d "$1" ] || exit 0
        pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null) || pid=
        if [ -n "$pid" ]; then
            kill -QUIT "$pid" 2>/dev/null
            for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
                kill -0 "$pid" 2>/dev/null || break
                sleep 0.2
            done
            kill -KILL "$pid" 2>/dev/null
        fi
        rm -rf "$1"
    "#;
    let child = Command::new("sh")
        .args(["-c", WAIT, "undertaker"])
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    child.unwrap().stdin.take().unwrap()
}

fn signal(signal: &str, pids: &[u32]) {
    let pids = pids.iter().map(u32::to_string);
    // One of several may have ended meanwhile.
    let _: io::Result<_> = Command::new("kill")
        .arg(signal)
        .args(pids)
        .stderr(Stdio::null())
        .status();
}

fn parent(pid: u32) -> Option<u32> {
    stat(pid)?.get(1)?.parse().ok()
}

fn is_alive(pid: u32) -> bool {
    stat(pid).is_some_and(|fields| fields[0] != "Z")
}

/// Returns the state, the parent, and the fields after them.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may contain anything.
    let (_, fields) = text.rsplit_once(')')?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}
