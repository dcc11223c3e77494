//! A wire between a node and its store, to be cut, frozen and slowed down.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::dice::Dice;

#[cfg(test)]
#[path = "proxy_tests.rs"]
mod tests;

/// What the wire does with bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    Whole,
    /// Open connections are closed; new ones are closed at once.
    Cut,
    /// The same, with a reset.
    Reset,
    /// Connections stay open, new ones are taken, and no byte arrives: not later either, since a
    /// connection that has lost bytes stays silent until it is closed.
    HalfOpen,
    /// No byte arrives until the wire is whole again; then all do.
    Held,
    /// Each piece takes this long, and up to as long again.
    Slow(Duration),
    /// One byte at a time, a millisecond apart.
    Drip,
    /// Only connections that carry the push are closed.
    PushCut,
    /// Only connections that carry the push are silent.
    PushHalfOpen,
}

impl Wire {
    fn is_severed(self, push: bool) -> bool {
        matches!(self, Self::Cut | Self::Reset) || (push && self == Self::PushCut)
    }

    fn is_silent(self, push: bool) -> bool {
        self == Self::HalfOpen || (push && self == Self::PushHalfOpen)
    }
}

/// A wire to one address, with an address of its own.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    wire: watch::Sender<Wire>,
}

impl Proxy {
    /// A whole wire to `target`.
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (wire, state) = watch::channel(Wire::Whole);
        tokio::spawn(accept(listener, target, state));
        Self { address, wire }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on, this.
    pub fn set(&self, wire: Wire) {
        self.wire.send_replace(wire);
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, mut wire: watch::Receiver<Wire>) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            // The proxy is gone.
            () = gone(&mut wire) => return,
        };
        if let Ok((client, _)) = accepted {
            tokio::spawn(carry(client, target, wire.clone()));
        }
    }
}

async fn gone(wire: &mut watch::Receiver<Wire>) {
    while wire.changed().await.is_ok() {}
}

/// Carries the bytes of one connection both ways, until an end closes it or the wire is cut.
async fn carry(mut client: TcpStream, target: SocketAddr, wire: watch::Receiver<Wire>) {
    let push = Arc::new(AtomicBool::new(false));
    let mut link = Link {
        wire,
        push: Arc::clone(&push),
        lossy: false,
        dice: Dice::new(u64::from(target.port())),
    };
    if link.now().is_severed(false) {
        return close(client, link.now());
    }
    let Ok(mut server) = TcpStream::connect(target).await else {
        return;
    };
    for stream in [&client, &server] {
        // An error means that it is closed already.
        let _ = stream.set_nodelay(true);
    }
    {
        let ((up_from, down_to), (down_from, up_to)) = (client.split(), server.split());
        let (up, down) = (link.clone(), link.clone());
        tokio::select! {
            () = up.pump(up_from, up_to, true) => {}
            () = down.pump(down_from, down_to, false) => {}
            () = link.severed() => {}
        }
    }
    let how = link.now();
    close(client, how);
    close(server, how);
}

fn close(stream: TcpStream, how: Wire) {
    if how == Wire::Reset {
        // An error means that it is closed already.
        let _ = stream.set_zero_linger();
    }
    drop(stream);
}

/// The wire, as one connection has it.
#[derive(Debug, Clone)]
struct Link {
    wire: watch::Receiver<Wire>,
    /// Whether the connection carries the push.
    push: Arc<AtomicBool>,
    /// Whether bytes were lost.
    lossy: bool,
    dice: Dice,
}

impl Link {
    fn now(&self) -> Wire {
        *self.wire.borrow()
    }

    fn is_push(&self) -> bool {
        self.push.load(Ordering::SeqCst)
    }

    async fn severed(&mut self) {
        let push = Arc::clone(&self.push);
        // An error means that the proxy is gone.
        let severed = |wire: &Wire| wire.is_severed(push.load(Ordering::SeqCst));
        let _ = self.wire.wait_for(severed).await;
    }

    async fn pump(mut self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, is_request: bool) {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let length = match from.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(length) => length,
            };
            let bytes = &buffer[..length];
            if is_request && asks_for_push(bytes) {
                self.push.store(true, Ordering::SeqCst);
                // One that is cut now is cut for this connection too.
                if self.now().is_severed(true) {
                    return;
                }
            }
            if self.deliver(bytes, &mut to).await.is_none() {
                return;
            }
        }
    }

    async fn deliver(&mut self, bytes: &[u8], to: &mut WriteHalf<'_>) -> Option<()> {
        self.lossy |= self.now().is_silent(self.is_push());
        if self.lossy {
            return Some(());
        }
        match self.now() {
            Wire::Held => {
                let held = self.wire.wait_for(|wire| *wire != Wire::Held).await;
                held.ok()?;
            }
            Wire::Slow(time) => {
                let more = self.dice.below(time.as_micros() as u64 + 1);
                tokio::time::sleep(time + Duration::from_micros(more)).await;
            }
            Wire::Drip => {
                let mut rest = bytes;
                while let Some((first, others)) = rest.split_first()
                    && self.now() == Wire::Drip
                {
                    to.write_all(&[*first]).await.ok()?;
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    rest = others;
                }
                return to.write_all(rest).await.ok();
            }
            _ => {}
        }
        to.write_all(bytes).await.ok()
    }
}

/// Whether a client subscribes with these bytes: PostgreSQL's `LISTEN`, Redis' `SUBSCRIBE`.
fn asks_for_push(bytes: &[u8]) -> bool {
    ["LISTEN ", "SUBSCRIBE"].iter().any(|word| {
        bytes
            .windows(word.len())
            .any(|window| window.eq_ignore_ascii_case(word.as_bytes()))
    })
}
