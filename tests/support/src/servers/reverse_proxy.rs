//! A test's own nginx or Caddy, on a free port of 127.0.0.1, and the service behind it.

use std::io::{self, BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::running::{Running, free_port};
use crate::PATIENCE;
use crate::skip::Requirement;

/// The address that a configuration listens on, which the server's own replaces.
const LISTEN: &str = "127.0.0.1:8000";

const NGINX: Requirement = Requirement {
    program: "nginx",
    remedy: "on Debian, `apt-get install nginx-light`",
};

const CADDY: Requirement = Requirement {
    program: "caddy",
    remedy: "on Debian, `apt-get install caddy`",
};

const PYTHON: Requirement = Requirement {
    program: "python3",
    remedy: "on Debian, `apt-get install python3`",
};

/// What a packaged nginx.conf has around the files of sites, for one process in one folder.
const NGINX_CONF: &str = "\
daemon off;
master_process off;
error_log error.log;
pid nginx.pid;
events {}
http {
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    include site.conf;
}
";

/// A program that is a reverse proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyKind {
    Nginx,
    Caddy,
}

/// A running reverse proxy; ends when dropped.
#[derive(Debug)]
pub struct ReverseProxy {
    pub kind: ProxyKind,
    pub address: SocketAddr,
    _running: Running,
    _folder: tempfile::TempDir,
}

impl ReverseProxy {
    /// Starts nginx or Caddy with this configuration of a site, which listens on 127.0.0.1:8000: a free port is written
    /// in its place. Returns `None` if the program is not installed; `test` is then recorded as skipped.
    pub fn start(kind: ProxyKind, test: &str, site: &str) -> Option<Self> {
        assert!(site.contains(LISTEN), "{site}");
        for _ in 0..10 {
            match Self::try_start(kind, site) {
                Ok(Some(proxy)) => return Some(proxy),
                // Another process took the port first.
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    kind.requirement().is_missing(test);
                    return None;
                }
                Err(error) => panic!("{kind:?} is not started: {error}"),
            }
        }
        panic!("{kind:?} does not start");
    }

    fn try_start(kind: ProxyKind, site: &str) -> io::Result<Option<Self>> {
        let folder = tempfile::tempdir()?;
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let site = site.replace(LISTEN, &address.to_string());
        let mut command = kind.command(folder.path(), &site)?;
        let log = std::fs::File::create(folder.path().join("output"))?;
        command.stdout(log.try_clone()?).stderr(log);
        let mut running = Running::start(&mut command)?;
        let started = Instant::now();
        while TcpStream::connect(address).is_err() {
            if running.has_ended() {
                let said = ["output", "error.log"].map(|file| {
                    std::fs::read_to_string(folder.path().join(file)).unwrap_or_default()
                });
                let said = said.concat();
                assert!(said.contains("ddress already in use"), "{kind:?}: {said}");
                return Ok(None);
            }
            assert!(started.elapsed() < PATIENCE, "{kind:?} does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(Some(Self {
            kind,
            address,
            _running: running,
            _folder: folder,
        }))
    }
}

impl ProxyKind {
    fn requirement(self) -> Requirement {
        match self {
            Self::Nginx => NGINX,
            Self::Caddy => CADDY,
        }
    }

    /// Writes the configuration into the folder, and returns what starts the program there.
    fn command(self, folder: &std::path::Path, site: &str) -> io::Result<Command> {
        let mut command = Command::new(self.requirement().program);
        match self {
            Self::Nginx => {
                std::fs::write(folder.join("site.conf"), site)?;
                std::fs::write(folder.join("nginx.conf"), NGINX_CONF)?;
                // Debian has it where only root's `PATH` leads.
                if let Some(program) =
                    Some("/usr/sbin/nginx").filter(|path| std::fs::exists(path).is_ok_and(|is| is))
                {
                    command = Command::new(program);
                }
                command
                    .arg("-p")
                    .arg(folder)
                    .args(["-e", "error.log", "-c", "nginx.conf"]);
            }
            Self::Caddy => {
                // Without its control port, of which there is one.
                std::fs::write(
                    folder.join("Caddyfile"),
                    format!("{{\n\tadmin off\n}}\n\n{site}"),
                )?;
                command.args(["run", "--config", "Caddyfile", "--adapter", "caddyfile"]);
                for variable in ["HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"] {
                    command.env(variable, folder);
                }
            }
        }
        command.current_dir(folder);
        Ok(command)
    }
}

/// A service in Python that answers each request with what it got; ends when dropped.
#[derive(Debug)]
pub struct EchoService {
    pub address: SocketAddr,
    _running: Running,
}

impl EchoService {
    /// Starts a service. Returns `None` if Python is not installed; `test` is then recorded as skipped.
    pub fn start(test: &str) -> Option<Self> {
        let mut command = Command::new(PYTHON.program);
        command.args(["-c", include_str!("echo_service.py")]);
        let mut running = match Running::start(command.stdout(Stdio::piped())) {
            Ok(running) => running,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                PYTHON.is_missing(test);
                return None;
            }
            Err(error) => panic!("the service is not started: {error}"),
        };
        let mut port = String::new();
        let mut output = BufReader::new(running.output().unwrap());
        output.read_line(&mut port).unwrap();
        let port: u16 = port.trim().parse().unwrap();
        Some(Self {
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            _running: running,
        })
    }
}
