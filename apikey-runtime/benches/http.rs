//! Throughput of a guarded route compared with an open one: real servers with one worker each, over
//! persistent loopback connections.

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;

use actix_web::{App, HttpServer, rt};

use support::measure::{Work, in_turns};
use support::routes::{Bench, Guard};
use support::table::{Table, times};
use support::{Outcome, clock};

const CONNECTIONS: usize = 32;

fn main() -> Outcome {
    if !support::asked_for() {
        return Ok(());
    }
    let bench = rt::System::new().block_on(Bench::start())?;
    let guards = [
        Guard::Open,
        Guard::HandWrittenShared,
        Guard::Plain,
        Guard::WithScope,
    ];
    let clients = guards.map(|guard| Client::connect(serve(&bench, guard)?, &bench));
    let mut clients = clients.into_iter().collect::<Outcome<Vec<Client>>>()?;
    let whats = [
        "open",
        "hand-written, boxed, identity shared",
        "#[api_key_required]",
        "... with a scope",
    ];

    let wall = measure(&mut clients, |client, count| {
        let start = clock::wall();
        client.send(count);
        clock::wall() - start
    });
    print(
        "throughput as the client sees it; ratio to the open route",
        &whats,
        &wall,
    );
    // Other load on the machine slows the client too, which is not the server's cost.
    let cpu = measure(&mut clients, |client, count| {
        let start = clock::process() - clock::thread();
        client.send(count);
        clock::process() - clock::thread() - start
    });
    print(
        "requests per second of the server's CPU time; ratio to the open route",
        &whats,
        &cpu,
    );
    Ok(())
}

fn measure(
    clients: &mut [Client],
    timed: impl Fn(&mut Client, usize) -> u64 + Copy,
) -> support::measure::Rounds {
    let subjects = clients.iter_mut();
    let mut subjects: Vec<Work<'_>> = subjects
        .map(|client| Box::new(move |count| timed(client, count)) as Work<'_>)
        .collect();
    in_turns(100, 100 * CONNECTIONS, &mut subjects)
}

fn print(title: &'static str, whats: &[&str], rounds: &support::measure::Rounds) {
    let mut table = Table::new(title);
    for (subject, what) in whats.iter().enumerate() {
        let figure = format!("{:.0} /s", 1e9 / rounds.median(subject));
        let target = match subject {
            0 | 1 => String::new(),
            _ => format!("{:.2}", rounds.ratio(0, 1) - 0.02),
        };
        table.row(*what, figure, times(rounds.ratio(0, subject)), &target);
    }
    table.print();
}

/// Starts a server with one worker, which runs until the process ends.
fn serve(bench: &Bench, guard: Guard) -> Outcome<SocketAddr> {
    let bench = bench.clone();
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let app = move || {
            let bench = bench.clone();
            App::new().configure(move |app| bench.route(guard, app))
        };
        let server = HttpServer::new(app).workers(1).bind(("127.0.0.1", 0))?;
        let _ = tell.send(server.addrs());
        rt::System::new().block_on(server.run())
    });
    Ok(*told.recv()?.first().ok_or("the server has no address")?)
}

/// Connections to one server, and the request to send on each.
struct Client {
    connections: Vec<TcpStream>,
    request: String,
}

impl Client {
    fn connect(address: SocketAddr, bench: &Bench) -> Outcome<Self> {
        let connect = |_| {
            let connection = TcpStream::connect(address)?;
            connection.set_nodelay(true)?;
            Ok::<_, std::io::Error>(connection)
        };
        let connections = (0..CONNECTIONS).map(connect).collect::<Result<_, _>>()?;
        let request = format!(
            "GET / HTTP/1.1\r\nhost: {address}\r\nauthorization: {}\r\n\r\n",
            bench.authorization()
        );
        Ok(Self {
            connections,
            request,
        })
    }

    /// Sends `count` requests, one in flight on each connection, and reads their responses.
    fn send(&mut self, count: usize) {
        for _ in 0..count / CONNECTIONS {
            if let Err(error) = self.send_on_each() {
                panic!("a request failed: {error}");
            }
        }
    }

    fn send_on_each(&mut self) -> std::io::Result<()> {
        for connection in &mut self.connections {
            connection.write_all(self.request.as_bytes())?;
        }
        for connection in &mut self.connections {
            let mut answer = [0; 1024];
            let mut length = 0;
            while !answer[..length].ends_with(b"\r\n\r\n{}") {
                match connection.read(&mut answer[length..])? {
                    0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                    read => length += read,
                }
            }
            assert!(
                answer.starts_with(b"HTTP/1.1 200"),
                "the request was denied"
            );
        }
        Ok(())
    }
}
