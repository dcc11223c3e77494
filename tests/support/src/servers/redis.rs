//! A Redis server of a test's own, on a free port and in a folder of its own. Uses nothing but the
//! standard library.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long a server may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(20);

/// Settings under which the server keeps what it acknowledges.
pub const DURABLE: &[(&str, &str)] = &[("appendonly", "yes"), ("appendfsync", "always")];

/// Whether a server can be started. Where it cannot, says so in the name of `test`; in CI that is a
/// failure.
pub fn is_installed(test: &str) -> bool {
    let found = Command::new("redis-server")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !found {
        assert!(
            std::env::var_os("CI").is_none_or(|value| value != "true"),
            "{test}: redis-server is not installed"
        );
        eprintln!("skipped: {test}: redis-server is not installed");
    }
    found
}

/// A running server, or one that was stopped and can be started again. It ends with the value, and
/// so does its folder.
#[derive(Debug)]
pub struct RedisServer {
    child: Option<Child>,
    directory: PathBuf,
    port: u16,
    settings: Vec<(String, String)>,
    /// Ends the server and removes its folder when this process is gone, however it went: its input
    /// is then closed.
    _undertaker: ChildStdin,
}

impl RedisServer {
    /// Starts a server with these settings, as in redis.conf, beside those of a test's server.
    pub fn start(settings: &[(&str, &str)]) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("apikey-redis-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
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
        // Somebody else may take the port before the server does.
        for _ in 0..10 {
            server.port = free_port();
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

    /// Starts a node that has no slots, and belongs to no cluster yet.
    pub fn start_cluster_node(settings: &[(&str, &str)]) -> Self {
        let bus = free_port().to_string();
        let cluster = [("cluster-enabled", "yes"), ("cluster-port", bus.as_str())];
        Self::start(&[settings, cluster.as_slice()].concat())
    }

    /// Brings a node into the cluster of another.
    pub fn meet(&self, other: &Self) {
        let (port, bus) = (other.port.to_string(), other.setting("cluster-port"));
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

    /// The URL, with the password where `requirepass` is set.
    pub fn url(&self) -> String {
        match self.password() {
            Some(password) => format!("redis://:{password}@127.0.0.1:{}", self.port),
            None => format!("redis://127.0.0.1:{}", self.port),
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where the server keeps its files.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What the server has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    /// Sends a command on a connection of its own. An error of the server is a reply.
    pub fn command(&self, words: &[&str]) -> Reply {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        self.try_command(&words).unwrap()
    }

    /// As [`command`](Self::command), with any bytes.
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

    /// Ends the server at once, as a crash does.
    pub fn kill(&mut self) {
        if let Some(child) = &mut self.child {
            child.kill().unwrap();
        }
        self.wait();
    }

    /// Starts a server that was stopped or killed, on the same port and files.
    pub fn restart(&mut self) {
        assert!(self.child.is_none(), "it is still running");
        self.launch();
        assert!(self.answers_soon(), "does not restart: {}", self.log());
        self.mend_log();
    }

    /// Redis 7.0.15, killed while it wrote a transaction, cuts the log within the transaction when it
    /// starts, and joins the next one to what is left when it starts once more. A log that is written
    /// anew has no such end.
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

    /// Stops the server's clock: it keeps its connections and answers nothing.
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

    /// Waits until the server serves; `false` where it has ended.
    fn answers_soon(&mut self) -> bool {
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            if ended.is_some() {
                self.child = None;
                return false;
            }
            if matches!(self.try_command(&[b"PING"]), Ok(Reply::Text(pong)) if pong == b"PONG") {
                // The port may be another server's, if this one is about to find it taken.
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
            // What was killed left it, and the number may be another's next.
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
    // `read` ends when this process does. Whatever the server does then, it is not there for long.
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

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// What a server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    Nil,
    Number(i64),
    Text(Vec<u8>),
    Error(String),
    List(Vec<Reply>),
}

impl Reply {
    /// The reply as text; that of a list joined by line ends.
    pub fn text(&self) -> String {
        match self {
            Self::Nil => String::new(),
            Self::Number(number) => number.to_string(),
            Self::Text(text) => String::from_utf8_lossy(text).into_owned(),
            Self::Error(error) => panic!("the server answers {error}"),
            Self::List(list) => list.iter().map(Self::text).collect::<Vec<_>>().join("\n"),
        }
    }

    /// The bytes of a text.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text,
            other => panic!("{other:?} is no text"),
        }
    }

    /// The members of a list.
    pub fn list(&self) -> &[Self] {
        match self {
            Self::List(list) => list,
            other => panic!("{other:?} is no list"),
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
