//! Runs three servers on one store, revokes a key on one of them, and shows when the others deny it.
//!
//! ```sh
//! cargo run -p cluster
//! STORE_URL=redis://127.0.0.1/ cargo run -p cluster       # or postgres://user:password@host/database
//! ```
//!
//! By default the servers share an SQLite file in a temporary directory (`STORE_URL=sqlite:FILE`
//! names another one). Clients send requests to all three servers without a pause. Then the key is
//! revoked on the first server, with `.confirmed()`. The example prints when each server last
//! accepted the key, and how many requests sent after the confirmation were accepted (always 0).

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use actix_web::{App, HttpResponse, HttpServer, get, post, web};
use apikey_runtime::{
    ApiKey, ApiKeyManager, KeyId, KeyStore, PostgresStore, RedisStore, SqliteStore,
    api_key_required,
};
use serde_json::{Value, json};

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

const NODES: usize = 3;

/// How long the clients send requests before and after the revocation.
const BEFORE: Duration = Duration::from_millis(2_500);
const AFTER: Duration = Duration::from_millis(2_500);

// A node: one server in a process of its own.

#[get("/who")]
#[api_key_required]
async fn who(key: ApiKey) -> String {
    key.label().to_owned()
}

#[post("/revoke/{id}")]
#[api_key_required(scope = "keys:revoke")]
async fn revoke(id: web::Path<KeyId>, manager: web::Data<ApiKeyManager>) -> HttpResponse {
    match manager.revoke(*id).reason("example").confirmed().await {
        Ok(confirmed) => HttpResponse::Ok().json(json!({
            "acknowledged": confirmed.propagation.acknowledged.len(),
            "waited_out": confirmed.propagation.waited_out.len(),
        })),
        Err(error) => HttpResponse::InternalServerError().body(error.to_string()),
    }
}

fn main() -> Outcome {
    match std::env::args().nth(1).as_deref() {
        Some("node") => actix_web::rt::System::new().block_on(node()),
        _ => actix_web::rt::System::new().block_on(cluster()),
    }
}

async fn manager_on(url: &str) -> Outcome<ApiKeyManager> {
    let store: Arc<dyn KeyStore> = match url.split_once(':') {
        Some(("sqlite", path)) => Arc::new(SqliteStore::new(path)),
        Some(("redis" | "rediss", _)) => Arc::new(RedisStore::new(url)),
        Some(("postgres" | "postgresql", _)) => Arc::new(PostgresStore::new(url)),
        _ => {
            return Err("`STORE_URL` does not name a store; \
                        write `sqlite:FILE`, `redis://..` or `postgres://..`"
                .into());
        }
    };
    Ok(ApiKeyManager::builder().shared_store(store).start().await?)
}

/// Serves until standard input is closed, and prints its address first.
async fn node() -> Outcome {
    let manager = manager_on(&std::env::var("STORE_URL")?).await?;
    let served = manager.clone();
    let app = move || {
        App::new()
            .configure(|app| served.init_app(app))
            .service((who, revoke))
    };
    let server = HttpServer::new(app).workers(1).bind(("127.0.0.1", 0))?;
    println!("{}", server.addrs()[0]);
    let running = server.run();
    let handle = running.handle();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read(&mut [0]);
        actix_web::rt::System::new().block_on(handle.stop(false));
    });
    running.await?;
    manager.shutdown().await?;
    Ok(())
}

// The cluster: three nodes and their clients.

struct Node {
    process: Child,
    address: SocketAddr,
}

impl Node {
    fn start(url: &str) -> Outcome<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg("node")
            .env("STORE_URL", url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = process
            .stdout
            .take()
            .ok_or("cannot read the output of a node")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let address = line
            .trim()
            .parse()
            .map_err(|_| "a node did not start; see its error above")?;
        Ok(Self { process, address })
    }

    fn stop(mut self) -> Outcome {
        drop(self.process.stdin.take());
        self.process.wait()?;
        Ok(())
    }
}

/// Sends requests over one connection until `stop` is set. Returns when each accepted one was sent.
fn client(node: SocketAddr, key: &str, stop: &AtomicBool) -> Outcome<Vec<Instant>> {
    let mut connection = Connection::open(node)?;
    let mut accepted = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let sent = Instant::now();
        match connection.send("GET", "/who", key)?.0 {
            200 => accepted.push(sent),
            // A node answers 503 if its lease has ended and the store does not answer in time.
            401 | 503 => {}
            status => return Err(format!("a node answered with status {status}").into()),
        }
    }
    Ok(accepted)
}

async fn cluster() -> Outcome {
    let folder = tempfile::tempdir()?;
    let url = match std::env::var("STORE_URL") {
        Ok(url) => url,
        Err(_) => format!("sqlite:{}", folder.path().join("keys.db").display()),
    };
    let manager = manager_on(&url).await?;
    let admin = manager.create("admin").scopes(["keys:revoke"]).await?;
    let key = manager.create("MY_FIRST_KEY").await?;
    let nodes = (0..NODES)
        .map(|_| Node::start(&url))
        .collect::<Outcome<Vec<_>>>()?;

    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = nodes
        .iter()
        .map(|node| {
            let (address, stop) = (node.address, Arc::clone(&stop));
            let key = key.expose_secret().to_owned();
            std::thread::spawn(move || client(address, &key, &stop))
        })
        .collect();
    actix_web::rt::time::sleep(BEFORE).await;

    let began = Instant::now();
    let path = format!("/revoke/{}", key.id());
    let (status, reach) =
        Connection::open(nodes[0].address)?.send("POST", &path, admin.expose_secret())?;
    let confirmed = Instant::now();
    actix_web::rt::time::sleep(AFTER).await;
    stop.store(true, Ordering::Relaxed);
    if status != 200 {
        return Err(format!("cannot revoke the key: {status} {reach}").into());
    }
    let reach: Value = serde_json::from_str(&reach)?;
    println!(
        "revoked on node 1, confirmed after {:.1} ms: acknowledged by {} other managers, waited out {}",
        millis(confirmed - began),
        reach["acknowledged"],
        reach["waited_out"],
    );
    let mut late = 0;
    for (number, client) in (1..).zip(clients) {
        let accepted = client.join().map_err(|_| "a client panicked")??;
        late += accepted.iter().filter(|sent| **sent >= confirmed).count();
        print_seen(number, &accepted, began);
    }
    nodes.into_iter().try_for_each(Node::stop)?;
    manager.shutdown().await?;
    println!("accepts after confirmation: {late}");
    Ok(())
}

fn print_seen(number: usize, accepted: &[Instant], revoked: Instant) {
    let Some(last) = accepted.iter().max() else {
        return println!("node {number}: never accepted the key");
    };
    let when = match last.checked_duration_since(revoked) {
        Some(after) => format!("{:.1} ms after the revocation began", millis(after)),
        None => format!(
            "{:.1} ms before the revocation began",
            millis(revoked - *last)
        ),
    };
    println!(
        "node {number}: accepted the key {} times, the last request of which was sent {when}",
        accepted.len()
    );
}

fn millis(span: Duration) -> f64 {
    span.as_secs_f64() * 1_000.0
}

/// A minimal HTTP client that sends one request after another.
struct Connection(BufReader<TcpStream>);

impl Connection {
    fn open(address: SocketAddr) -> Outcome<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Sends a request and returns the status and the body of the response.
    fn send(&mut self, method: &str, path: &str, key: &str) -> Outcome<(u16, String)> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nContent-Length: 0\r\n\r\n"
        );
        self.0.get_mut().write_all(request.as_bytes())?;
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        let status = line
            .split(' ')
            .nth(1)
            .ok_or("the response is not HTTP")?
            .parse()?;
        let mut length = 0;
        loop {
            line.clear();
            self.0.read_line(&mut line)?;
            match line.trim().split_once(": ") {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.parse()?;
                }
                Some(_) => {}
                None => break,
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        Ok((status, String::from_utf8(body)?))
    }
}
