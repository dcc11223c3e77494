//! Throughput of `/verify` and of a rule, compared with a guarded route: one server with one worker, over persistent
//! loopback connections, with the same requests of a trusted gateway.
//!
//! All are measured in turns, since figures of different runs are not comparable. The server's CPU time counts, so that other
//! load on the machine does not.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;

use actix_web::{App, HttpResponse, HttpServer, rt, web};
use apikey_portal::Gateway;
use apikey_runtime::{ApiKeyManager, Config, MemoryStore, Policy, ScopeExpr, api_key_required};
use rustix::time::{ClockId, clock_gettime};

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

const CONNECTIONS: usize = 32;
const ROUNDS: usize = 100;
const BATCHES: usize = 100;

const READ: Policy = Policy::new().scopes(ScopeExpr::One("orders:read"));

/// The paths, of which the first is that of the guarded route.
const PATHS: [&str; 4] = [
    "/guarded",
    "/gateway/verify",
    "/gateway/verify?scope=orders:read&for=nginx",
    "/gateway/verify-rule/orders/some/path?of=a&client",
];

#[api_key_required(scope = "orders:read")]
async fn guarded() -> HttpResponse {
    HttpResponse::Ok().finish()
}

fn main() -> Outcome {
    // `cargo test --all-targets` runs benches too, and should not wait for them.
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("not measured; run `cargo bench -p apikey-portal --bench gateway`");
        return Ok(());
    }
    let (manager, key) = rt::System::new().block_on(manager())?;
    let address = serve(manager)?;
    let clients = PATHS.map(|path| Client::connect(address, path, &key));
    let mut clients = clients.into_iter().collect::<Outcome<Vec<Client>>>()?;
    let mut nanos = vec![Vec::new(); clients.len()];
    for round in 0..ROUNDS + ROUNDS / 10 {
        for (client, nanos) in clients.iter_mut().zip(&mut nanos) {
            let start = server_time();
            for _ in 0..BATCHES {
                client.send_on_each()?;
            }
            // The first rounds warm up.
            if round >= ROUNDS / 10 {
                nanos.push((server_time() - start) / (BATCHES * CONNECTIONS) as f64);
            }
        }
    }
    println!("requests per second of the server's CPU time; ratio to the guarded route");
    for (path, own) in PATHS.iter().zip(&nanos) {
        let ratios = nanos[0].iter().zip(own).map(|(guarded, own)| guarded / own);
        let (rate, ratio) = (1e9 / median(own.iter().copied()), median(ratios));
        println!("{rate:>9.0} /s  {ratio:.2}  {path}");
    }
    Ok(())
}

async fn manager() -> Outcome<(ApiKeyManager, String)> {
    let config = Config::builder()
        .trusted_proxies(["127.0.0.1"])
        .forwarded_header("X-Forwarded-For")
        .build()?;
    let builder = ApiKeyManager::builder().config(config);
    let manager = builder.store(MemoryStore::new()).start().await?;
    let key = manager
        .create("bench")
        .owner("acme")
        .scopes(["orders:read"]);
    let key = key.await?.expose_secret().to_owned();
    Ok((manager, key))
}

/// Starts a server with one worker, which runs until the process ends.
fn serve(manager: ApiKeyManager) -> Outcome<SocketAddr> {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let app = move || {
            let gateway = Gateway::new(manager.clone()).rule("orders", READ);
            App::new()
                .configure(|app| manager.init_app(app))
                .route("/guarded", web::get().to(guarded))
                .service(gateway.mount("/gateway"))
        };
        let server = HttpServer::new(app).workers(1).bind(("127.0.0.1", 0))?;
        let _ = tell.send(server.addrs());
        rt::System::new().block_on(server.run())
    });
    Ok(*told.recv()?.first().ok_or("the server has no address")?)
}

/// Connections, and the request to send on each.
struct Client {
    connections: Vec<TcpStream>,
    request: String,
}

impl Client {
    fn connect(address: SocketAddr, path: &str, key: &str) -> Outcome<Self> {
        let connect = |_| {
            let connection = TcpStream::connect(address)?;
            connection.set_nodelay(true)?;
            Ok::<_, std::io::Error>(connection)
        };
        let connections = (0..CONNECTIONS).map(connect).collect::<Result<_, _>>()?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {key}\r\n\
             x-forwarded-for: 192.0.2.7\r\nx-forwarded-proto: https\r\nx-forwarded-method: GET\r\n\r\n"
        );
        Ok(Self {
            connections,
            request,
        })
    }

    /// Sends a request on each connection, and reads the responses.
    fn send_on_each(&mut self) -> Outcome {
        for connection in &mut self.connections {
            connection.write_all(self.request.as_bytes())?;
        }
        for connection in &mut self.connections {
            let mut answer = [0; 1024];
            let mut length = 0;
            while !answer[..length].ends_with(b"\r\n\r\n") {
                match connection.read(&mut answer[length..])? {
                    0 => return Err("the server closed a connection".into()),
                    read => length += read,
                }
            }
            if !answer.starts_with(b"HTTP/1.1 200") {
                return Err("a request was denied".into());
            }
        }
        Ok(())
    }
}

/// Returns the CPU time of the process without that of the client, which is this thread, in nanoseconds.
fn server_time() -> f64 {
    let nanos = |clock| {
        let time = clock_gettime(clock);
        time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
    };
    nanos(ClockId::ProcessCPUTime) - nanos(ClockId::ThreadCPUTime)
}

fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
