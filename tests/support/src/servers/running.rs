//! Programs that run as long as a test.

use std::hash::BuildHasher as _;
use std::io::{self, Write as _};
use std::net::TcpListener;
use std::process::{Child, ChildStdin, Command, Stdio};

/// A running program, which is killed when this is dropped, and when this process ends in any way.
#[derive(Debug)]
pub struct Running {
    child: Child,
    /// Kills the program when its input is closed before a line came.
    undertaker: ChildStdin,
}

impl Running {
    /// Starts a program.
    ///
    /// # Errors
    ///
    /// Returns why it was not started, such as that it is not installed.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        let child = command.stdin(Stdio::null()).spawn()?;
        const WAIT: &str = r#"trap '' INT TERM HUP; read -r _ || kill -KILL "$1" 2>/dev/null"#;
        let undertaker = Command::new("sh")
            .args(["-c", WAIT, "undertaker", &child.id().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let undertaker = undertaker.unwrap().stdin.take().unwrap();
        Ok(Self { child, undertaker })
    }

    /// Returns the program's standard output, if it is piped and was not taken before.
    pub fn output(&mut self) -> Option<std::process::ChildStdout> {
        self.child.stdout.take()
    }

    /// Returns whether the program has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Its id may belong to another process from now on.
        let _ = self.undertaker.write_all(b"ended\n");
    }
}

/// Returns a port on 127.0.0.1 that was free a moment ago. The system gives it to no listener on port 0 and to no
/// outgoing connection, so a server finds it free, also after a restart.
pub fn free_port() -> u16 {
    let draws = std::hash::RandomState::new();
    let given = first_given_port();
    let ports = (0_u64..).map(|draw| LOWEST_PORT + draws.hash_one(draw) % (given - LOWEST_PORT));
    let mut ports = ports.map(|port| u16::try_from(port).unwrap());
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    ports.find(is_free).unwrap()
}

/// The lowest port that a test's server gets.
const LOWEST_PORT: u64 = 10_000;

/// Returns the first port of those that the system gives by itself: ip(7), `ip_local_port_range`.
fn first_given_port() -> u64 {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let first = range
        .ok()
        .and_then(|range| range.split_whitespace().next()?.parse().ok());
    // If the system gives nearly all ports, none is better than another.
    first
        .filter(|first| *first > 2 * LOWEST_PORT)
        .unwrap_or(32_768)
}
