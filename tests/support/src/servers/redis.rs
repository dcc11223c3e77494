//! A test's own Redis server, on a free port and in its own folder. Uses only the standard library.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::running::free_port;
use crate::skip::Requirement;

/// The longest time for a server to start or to stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// Settings under which the server keeps what it acknowledged.
pub const DURABLE: &[(&str, &str)] = &[("appendonly", "yes"), ("appendfsync", "always")];

/// The setting of the port for the other nodes of a cluster. A start sets it to a free one.
const BUS: &str = "cluster-port";

const SERVER: Requirement = Requirement {
    program: "redis-server",
    remedy: "on Debian, `apt-get install redis-server`",
};

/// Returns whether a server can be started. If not, `test` is recorded as skipped; with `CI` set it
/// fails.
pub fn is_installed(test: &str) -> bool {
    let found = Command::new("redis-server")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !found {
        SERVER.is_missing(test);
    }
    found
}

/// A server that runs, or was stopped and can be restarted. The server and its folder end with the
/// value.
#[derive(Debug)]
pub struct RedisServer {
    child: Option<Child>,
    directory: PathBuf,
    port: u16,
    settings: Vec<(String, String)>,
    /// Ends the server and removes its folder when this process ends in any way, because its input
    /// is then closed.
    _undertaker: ChildStdin,
}

impl RedisServer {
    /// Starts a server with these settings, as in redis.conf, in addition to those for tests.
    pub fn start(settings: &[(&str, &str)]) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("apikey-redis-{}-{number}", std::process::id());
        let directory = super::data_root().join(name);
        std::fs::create_dir_all(&directory).unwrap();
        let mut server = Self {
            child: None,
            _undertaker: undertaker(&directory),
            directory,
            port: 0,
            settings: settings
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        };
        // Another process may take a port before the server does.
        for _ in 0..10 {
            server.port = free_port();
            let mut settings = server.settings.iter_mut();
            if let Some((_, bus)) = settings.find(|(name, _)| name == BUS) {
                *bus = free_port().to_string();
            }
            server.launch();
            if server.answers_soon() {
                return server;
            }
            server.kill();
        }
        panic!("redis-server does not start: {}", server.log());
    }

    /// Starts a cluster of one node, which has all slots.
    pub fn start_cluster(settings: &[(&str, &str)]) -> Self {
        let server = Self::start_cluster_node(settings);
        server.command(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
        server.wait_for_cluster();
        server
    }

    /// Starts a node without slots, outside of a cluster.
    pub fn start_cluster_node(settings: &[(&str, &str)]) -> Self {
        let cluster = [("cluster-enabled", "yes"), (BUS, "")];
        Self::start(&[settings, cluster.as_slice()].concat())
    }

    /// Adds a node to the cluster of another.
    pub fn meet(&self, other: &Self) {
        let (port, bus) = (other.port.to_string(), other.setting(BUS));
        let bus = bus.expect("a node of a cluster");
        self.command(&["CLUSTER", "MEET", "127.0.0.1", &port, bus]);
        self.wait_for_cluster();
    }

    fn wait_for_cluster(&self) {
        let started = Instant::now();
        while !self
            .command(&["CLUSTER", "INFO"])
            .text()
            .contains("cluster_state:ok")
        {
            assert!(started.elapsed() < PATIENCE, "the cluster does not come up");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Returns the URL, with the password if `requirepass` is set.
    pub fn url(&self) -> String {
        match self.password() {
            Some(password) => format!("redis://:{password}@127.0.0.1:{}", self.port),
            None => format!("redis://127.0.0.1:{}", self.port),
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the folder of the server's files.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns the server's log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    /// Sends a command on a new connection. An error of the server is a reply.
    pub fn command(&self, words: &[&str]) -> Reply {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        self.try_command(&words).unwrap()
    }

    /// Sends any bytes, as [`command`](Self::command) does.
    pub fn try_command(&self, words: &[&[u8]]) -> io::Result<Reply> {
        let stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut stream = BufReader::new(stream);
        if let Some(password) = self.password() {
            ask(&mut stream, &[b"AUTH", password.as_bytes()])?;
        }
        ask(&mut stream, words)
    }

    /// Stops the server as an operator does.
    pub fn stop(&mut self) {
        self.signal("-TERM");
        self.wait();
    }

    /// Kills the server, as a crash does.
    pub fn kill(&mut self) {
        if let Some(child) = &mut self.child {
            child.kill().unwrap();
        }
        self.wait();
    }

    /// Restarts a stopped or killed server, on the same port and files.
    pub fn restart(&mut self) {
        assert!(self.child.is_none(), "it is still running");
        self.launch();
        assert!(self.answers_soon(), "does not restart: {}", self.log());
        self.mend_log();
    }

    /// If Redis 7.0.15 is killed while it writes a transaction, its next start cuts the log within
    /// the transaction, and the start after that joins the next transaction to the rest. A
    /// rewritten log does not have such an end.
    fn mend_log(&self) {
        if self.setting("appendonly") != Some("yes") {
            return;
        }
        self.command(&["BGREWRITEAOF"]);
        let started = Instant::now();
        while ["in_progress", "scheduled"].iter().any(|state| {
            let info = self.command(&["INFO", "persistence"]).text();
            info.contains(&format!("aof_rewrite_{state}:1"))
        }) {
            assert!(started.elapsed() < PATIENCE, "the log is not rewritten");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Stops the server's process: it keeps its connections and does not answer.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Ends a [`freeze`](Self::freeze).
    pub fn resume(&self) {
        self.signal("-CONT");
    }

    fn password(&self) -> Option<&str> {
        self.setting("requirepass")
    }

    fn setting(&self, wanted: &str) -> Option<&str> {
        let mut settings = self.settings.iter();
        settings
            .find(|(name, _)| name == wanted)
            .map(|(_, value)| value.as_str())
    }

    fn launch(&mut self) {
        let mut command = Command::new("redis-server");
        command
            .args(["--bind", "127.0.0.1", "--save", "", "--logfile", "log"])
            .args(["--pidfile", "pid"])
            .arg("--port")
            .arg(self.port.to_string())
            .arg("--dir")
            .arg(&self.directory);
        for (name, value) in &self.settings {
            command.arg(format!("--{name}")).arg(value);
        }
        let child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    /// Waits until the server serves; returns `false` if it has ended.
    fn answers_soon(&mut self) -> bool {
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            if ended.is_some() {
                self.child = None;
                return false;
            }
            if matches!(self.try_command(&[b"PING"]), Ok(Reply::Text(pong)) if pong == b"PONG") {
                // The port may belong to another server, if this one is about to find it taken.
                let id = self.child.as_ref().unwrap().id();
                let info = self.command(&["INFO", "server"]).text();
                return info.contains(&format!("process_id:{id}\r\n"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }

    fn signal(&self, signal: &str) {
        let child = self.child.as_ref().expect("it is running");
        let status = Command::new("kill")
            .args([signal, &child.id().to_string()])
            .status();
        assert!(status.unwrap().success());
    }

    fn wait(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.wait().unwrap();
            // A killed server leaves the file, and another process may get the id.
            let _ = std::fs::remove_file(self.directory.join("pid"));
        }
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn undertaker(directory: &Path) -> ChildStdin {
    // `read` ends when this process does. Then the server must end soon, whatever it does.
    const WAIT: &str = r#"
        trap '' INT TERM HUP
        read -r _
        [ -d "$1" ] || exit 0
        pid=$(cat "$1/pid" 2>/dev/null) && kill -KILL "$pid" 2>/dev/null
        rm -rf "$1"
    "#;
    let child = Command::new("sh")
        .args(["-c", WAIT, "undertaker"])
        .arg(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    child.unwrap().stdin.take().unwrap()
}

/// A server's reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    Nil,
    Number(i64),
    Text(Vec<u8>),
    Error(String),
    List(Vec<Reply>),
}

impl Reply {
    /// Returns the reply as text; a list is joined by line ends.
    pub fn text(&self) -> String {
        match self {
            Self::Nil => String::new(),
            Self::Number(number) => number.to_string(),
            Self::Text(text) => String::from_utf8_lossy(text).into_owned(),
            Self::Error(error) => panic!("the server answers {error}"),
            Self::List(list) => list.iter().map(Self::text).collect::<Vec<_>>().join("\n"),
        }
    }

    /// Returns the bytes of a text.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text,
            other => panic!("{other:?} is not a text"),
        }
    }

    /// Returns the members of a list.
    pub fn list(&self) -> &[Self] {
        match self {
            Self::List(list) => list,
            other => panic!("{other:?} is not a list"),
        }
    }
}

/// <https://redis.io/docs/latest/develop/reference/protocol-spec/>
fn ask(stream: &mut BufReader<TcpStream>, words: &[&[u8]]) -> io::Result<Reply> {
    let mut request = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        request.extend(format!("${}\r\n", word.len()).into_bytes());
        request.extend_from_slice(word);
        request.extend(b"\r\n");
    }
    stream.get_mut().write_all(&request)?;
    reply(stream)
}

fn reply(stream: &mut BufReader<TcpStream>) -> io::Result<Reply> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let Some((kind, rest)) = line.trim_end().split_at_checked(1) else {
        return Err(io::ErrorKind::UnexpectedEof.into());
    };
    let number = || rest.parse::<i64>().map_err(io::Error::other);
    Ok(match kind {
        "+" => Reply::Text(rest.as_bytes().to_vec()),
        "-" => Reply::Error(rest.to_owned()),
        ":" => Reply::Number(number()?),
        "$" => match usize::try_from(number()?) {
            Ok(length) => {
                let mut text = vec![0; length + 2];
                stream.read_exact(&mut text)?;
                text.truncate(length);
                Reply::Text(text)
            }
            Err(_) => Reply::Nil,
        },
        "*" => match usize::try_from(number()?) {
            Ok(length) => Reply::List(
                (0..length)
                    .map(|_| reply(stream))
                    .collect::<Result<_, _>>()?,
            ),
            Err(_) => Reply::Nil,
        },
        _ => return Err(io::Error::other(format!("`{kind}` begins no reply"))),
    })
}
