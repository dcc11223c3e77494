//! A forwarder to a server that counts round trips.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A port that forwards to another.
pub(crate) struct Turns {
    port: u16,
    count: Arc<AtomicUsize>,
}

impl Turns {
    /// Starts forwarding to this local port.
    pub(crate) fn to(target: u16) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let (port, count) = (listener.local_addr()?.port(), Arc::<AtomicUsize>::default());
        let shared = Arc::clone(&count);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // If the server is gone, the client's connection is closed.
                let _ = join(client, target, &shared);
            }
        });
        Ok(Self { port, count })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Returns the number of round trips on all connections: how often a client sent after a server
    /// did.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }
}

fn join(client: TcpStream, target: u16, count: &Arc<AtomicUsize>) -> std::io::Result<()> {
    let server = TcpStream::connect(("127.0.0.1", target))?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let answered = Arc::new(AtomicBool::new(true));
    let (from, to) = (client.try_clone()?, server.try_clone()?);
    let (spoke, count) = (Arc::clone(&answered), Arc::clone(count));
    std::thread::spawn(move || {
        pass_on(from, to, || {
            if spoke.swap(false, Ordering::SeqCst) {
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
    });
    std::thread::spawn(move || pass_on(server, client, || answered.store(true, Ordering::SeqCst)));
    Ok(())
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, seen: impl Fn()) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        seen();
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}
