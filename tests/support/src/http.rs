//! A server on a socket, and a client that sends exactly the given bytes.

use std::net::{IpAddr, SocketAddr};

use actix_web::dev::ServerHandle;
use actix_web::web::ServiceConfig;
use actix_web::{App, HttpServer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::{PATIENCE, soon};

/// A running server; stops when dropped.
pub struct Server {
    pub address: SocketAddr,
    handle: ServerHandle,
}

impl Server {
    /// Serves the configured app, with one worker, on a free port.
    pub fn start(configure: impl Fn(&mut ServiceConfig) + Clone + Send + 'static) -> Self {
        let factory = move || App::new().configure(configure.clone());
        let server = HttpServer::new(factory).workers(1).disable_signals();
        let server = server.bind(("127.0.0.1", 0)).unwrap();
        Self::of(server.addrs()[0], server.run())
    }

    /// Wraps a server that was started elsewhere and listens on `address`.
    pub fn of(address: SocketAddr, server: actix_web::dev::Server) -> Self {
        let handle = server.handle();
        actix_web::rt::spawn(server);
        Self { address, handle }
    }

    /// Connects to the server.
    pub async fn connect(&self) -> Client {
        Client::connect(self.address).await
    }

    /// Sends `GET path` on a new connection, with the key as a bearer token.
    pub async fn get(&self, path: &str, key: impl Into<Option<&str>>) -> Answer {
        let authorization = key.into().map(|key| format!("Bearer {key}"));
        let header = authorization
            .as_deref()
            .map(|value| ("Authorization", value));
        self.connect().await.get(path, header.as_slice()).await
    }

    /// Sends `GET path` on a new connection, with these headers.
    pub async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.connect().await.get(path, headers).await
    }

    /// Sends these bytes on a new connection.
    pub async fn send(&self, bytes: impl AsRef<[u8]>) -> Answer {
        let mut client = self.connect().await;
        client.send(bytes).await;
        client.answer().await
    }

    /// Sends `POST path` with a body on a new connection.
    pub async fn post(&self, path: &str, key: impl Into<Option<&str>>, body: &str) -> Answer {
        self.connect().await.post(path, key, body).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // `stop` takes effect at once; its future only waits for the end.
        drop(self.handle.stop(false));
    }
}

/// A running server on a Unix socket; stops when dropped.
#[cfg(unix)]
pub struct UnixServer {
    folder: tempfile::TempDir,
    handle: ServerHandle,
}

#[cfg(unix)]
impl UnixServer {
    /// Serves the configured app, with one worker, on a socket in a new folder.
    pub fn start(configure: impl Fn(&mut ServiceConfig) + Clone + Send + 'static) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let factory = move || App::new().configure(configure.clone());
        let server = HttpServer::new(factory).workers(1).disable_signals();
        let server = server.bind_uds(folder.path().join("socket")).unwrap().run();
        let handle = server.handle();
        actix_web::rt::spawn(server);
        Self { folder, handle }
    }

    /// Sends `GET path` on a new connection, with these headers.
    pub async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let stream = tokio::net::UnixStream::connect(self.folder.path().join("socket"));
        let mut client = Client {
            stream: Box::new(soon(stream).await.unwrap()),
            received: Vec::new(),
        };
        client.get(path, headers).await
    }
}

#[cfg(unix)]
impl Drop for UnixServer {
    fn drop(&mut self) {
        drop(self.handle.stop(false));
    }
}

/// A connection's two directions.
trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

/// One connection.
pub struct Client {
    stream: Box<dyn Stream>,
    received: Vec<u8>,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        Self {
            stream: Box::new(soon(TcpStream::connect(address)).await.unwrap()),
            received: Vec::new(),
        }
    }

    /// Connects from another address of this machine, such as 127.0.0.2.
    pub async fn connect_from(source: IpAddr, address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((source, 0).into()).unwrap();
        Self {
            stream: Box::new(soon(socket.connect(address)).await.unwrap()),
            received: Vec::new(),
        }
    }

    /// Sends these bytes.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        soon(self.stream.write_all(bytes.as_ref())).await.unwrap();
    }

    /// Sends bytes that the server may no longer read.
    pub async fn send_in_vain(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = soon(self.stream.write_all(bytes.as_ref())).await;
    }

    pub async fn get(&mut self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send(get_request(path, headers)).await;
        self.answer().await
    }

    pub async fn post(&mut self, path: &str, key: impl Into<Option<&str>>, body: &str) -> Answer {
        // In one piece: a server that answers before it has read the body closes the connection.
        self.send(post_head(path, key, body.len()) + body).await;
        self.answer().await
    }

    /// Reads the next answer on the connection.
    pub async fn answer(&mut self) -> Answer {
        self.try_answer()
            .await
            .expect("the server closed the connection")
    }

    /// Reads the next answer on the connection; `None` if the server closed it first.
    pub async fn try_answer(&mut self) -> Option<Answer> {
        let head_end = self.head_end().await?;
        let mut answer = Answer::of_head(&self.received[..head_end]);
        if answer.header("transfer-encoding") == Some("chunked") {
            answer.body = self.chunks(head_end).await?;
            return Some(answer);
        }
        let length = answer
            .header("content-length")
            .map_or(0, |text| text.parse().unwrap());
        while self.received.len() < head_end + length {
            self.receive().await?;
        }
        answer.body = self.received[head_end..head_end + length].to_vec();
        self.received.drain(..head_end + length);
        Some(answer)
    }

    /// Reads the chunks that begin at `at` (RFC 9112 section 7.1), up to the last.
    async fn chunks(&mut self, mut at: usize) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = loop {
                let mut lines = self.received[at..].windows(2);
                match lines.position(|window| window == b"\r\n") {
                    Some(length) => break at..at + length,
                    None => self.receive().await?,
                }
            };
            let start = line.end + 2;
            let size = String::from_utf8_lossy(&self.received[line]).into_owned();
            let end = start + usize::from_str_radix(&size, 16).unwrap();
            while self.received.len() < end + 2 {
                self.receive().await?;
            }
            body.extend_from_slice(&self.received[start..end]);
            at = end + 2;
            if start == end {
                self.received.drain(..at);
                return Some(body);
            }
        }
    }

    /// Reads the next answer on the connection, which does not have a body, whatever its head says.
    pub async fn head_only(&mut self) -> Answer {
        let head_end = self
            .head_end()
            .await
            .expect("the server closed the connection");
        let answer = Answer::of_head(&self.received[..head_end]);
        self.received.drain(..head_end);
        answer
    }

    /// Reads this many bytes after the last answer.
    pub async fn bytes(&mut self, count: usize) -> Vec<u8> {
        while self.received.len() < count {
            self.receive()
                .await
                .expect("the server closed the connection");
        }
        self.received.drain(..count).collect()
    }

    async fn head_end(&mut self) -> Option<usize> {
        loop {
            if let Some(at) = self
                .received
                .windows(4)
                .position(|window| window == b"\r\n\r\n")
            {
                return Some(at + 4);
            }
            self.receive().await?;
        }
    }

    async fn receive(&mut self) -> Option<()> {
        let read = self.stream.read_buf(&mut self.received);
        match tokio::time::timeout(PATIENCE, read)
            .await
            .expect("the server says nothing")
        {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(()),
        }
    }
}

/// Returns the bytes of a `GET`.
pub fn get_request(path: &str, headers: &[(&str, &str)]) -> String {
    let lines: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n")
}

/// Returns the bytes of a `POST` up to its body.
pub fn post_head<'k>(path: &str, key: impl Into<Option<&'k str>>, length: usize) -> String {
    let authorization = key
        .into()
        .map(|key| format!("Authorization: Bearer {key}\r\n"))
        .unwrap_or_default();
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\n{authorization}\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    )
}

/// An answer, as received.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub status_line: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    fn of_head(head: &[u8]) -> Self {
        let head = String::from_utf8_lossy(head).into_owned();
        let mut lines = head.split("\r\n").filter(|line| !line.is_empty());
        let status_line = lines.next().unwrap().to_owned();
        let status = status_line.split(' ').nth(1).unwrap().parse().unwrap();
        let header = |line: &str| {
            let (name, value) = line.split_once(':').unwrap();
            (name.to_ascii_lowercase(), value.trim_start().to_owned())
        };
        Self {
            status,
            status_line,
            headers: lines.map(header).collect(),
            body: Vec::new(),
        }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// Returns the values of a header that may be repeated.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let lines = self.headers.iter().filter(|(key, _)| key == name);
        lines.map(|(_, value)| value.as_str()).collect()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Returns all of it except the date, and except `Vary` of a success, which the middleware adds
    /// and the attribute cannot.
    pub fn timeless(&self) -> String {
        let mut lines = vec![self.status_line.clone()];
        let left_out =
            |name: &str| name == "date" || (name == "vary" && self.status_line.contains(" 200 "));
        let dateless = self.headers.iter().filter(|(name, _)| !left_out(name));
        lines.extend(dateless.map(|(name, value)| format!("{name}: {value}")));
        // The order of headers varies, because the server keeps them in a map.
        lines[1..].sort();
        format!("{}\n\n{}", lines.join("\n"), self.text())
    }

    /// Returns the last part of the problem's type, after a check that this is an answer of the
    /// guard: W-02.
    #[track_caller]
    pub fn problem(&self) -> String {
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json"),
            "{self:?}"
        );
        let problem: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        let members = problem.as_object().unwrap();
        for name in ["type", "title", "detail"] {
            assert!(
                members[name].as_str().is_some_and(|text| !text.is_empty()),
                "{name}: {problem}"
            );
        }
        assert_eq!(
            members["status"].as_u64(),
            Some(u64::from(self.status)),
            "{problem}"
        );
        assert!(
            members
                .get("instance")
                .is_none_or(serde_json::Value::is_string),
            "{problem}"
        );
        assert_eq!(
            self.header("www-authenticate").is_some(),
            matches!(self.status, 400 | 401)
                || members["type"]
                    .as_str()
                    .unwrap()
                    .ends_with("insufficient-scope"),
            "{self:?}"
        );
        let kind = members["type"].as_str().unwrap();
        assert!(
            !kind.contains(char::is_whitespace),
            "`type` is a URI reference: {kind}"
        );
        kind.rsplit(':').next().unwrap().to_owned()
    }

    /// Asserts that the guard denied with this status, for this reason.
    #[track_caller]
    pub fn refused(&self, status: u16, reason: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.problem(), reason);
    }

    /// Asserts that the handler answered, with this text.
    #[track_caller]
    pub fn says(&self, text: &str) {
        assert_eq!((self.status, self.text().as_str()), (200, text), "{self:?}");
    }
}
