//! Programs that run as long as a test.

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

/// Returns a port on 127.0.0.1 that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}
