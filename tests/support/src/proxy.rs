//! A TCP proxy between a client and a server, which can be cut, frozen and slowed down.

#[cfg(test)]
mod tests;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::dice::Dice;

/// What the proxy does with traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    Whole,
    /// Open connections are closed; new ones are closed at once.
    Cut,
    /// As `Cut`, but with a reset.
    Reset,
    /// Connections stay open and new ones are accepted, but all bytes are lost. A connection that
    /// has lost bytes stays silent until it is closed.
    HalfOpen,
    /// Bytes are held back until the state changes, and then delivered.
    Held,
    /// Each piece is delayed by this time.
    Slow(Duration),
    /// Each piece is delayed by this time, and by up to as long again.
    Uneven(Duration),
    /// One byte at a time, a millisecond apart.
    Drip,
    /// Only connections that carry the push are closed.
    PushCut,
    /// Only connections that carry the push lose their bytes.
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

/// The orders of the proxy. Connections are numbered as they are accepted.
#[derive(Debug, Clone, Copy)]
struct Orders {
    wire: Wire,
    /// Connections with a lower number are closed.
    closed: u64,
    /// Connections with a lower number are silent until the proxy ends; neither side is informed.
    silenced: u64,
}

#[derive(Debug, Default)]
struct Counts {
    opened: AtomicU64,
    turns: AtomicU64,
}

/// A proxy to one address, with its own address. It runs on its own thread, so that it goes on
/// while a test's runtime is busy, and ends with the value.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    orders: watch::Sender<Orders>,
    counts: Arc<Counts>,
}

impl Proxy {
    /// Starts a proxy to `target`.
    pub fn to(target: SocketAddr) -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (orders, state) = watch::channel(Orders {
            wire: Wire::Whole,
            closed: 0,
            silenced: 0,
        });
        let counts = Arc::<Counts>::default();
        let shared = Arc::clone(&counts);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(accept(listener, target, state, shared));
        });
        Self {
            address,
            orders,
            counts,
        }
    }

    /// Starts a proxy to this port of the machine.
    pub fn to_port(port: u16) -> Self {
        Self::to((Ipv4Addr::LOCALHOST, port).into())
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Sets the state from now on.
    pub fn set(&self, wire: Wire) {
        self.orders.send_modify(|orders| orders.wire = wire);
    }

    /// Closes the open connections; new ones are not affected.
    pub fn close_all(&self) {
        let opened = self.opened();
        self.orders.send_modify(|orders| orders.closed = opened);
    }

    /// Silences the open connections permanently; new ones are not affected.
    pub fn silence_all(&self) {
        let opened = self.opened();
        self.orders.send_modify(|orders| orders.silenced = opened);
    }

    /// Returns how many connections were opened.
    pub fn opened(&self) -> u64 {
        self.counts.opened.load(Ordering::SeqCst)
    }

    /// Returns how often a client sent after a server did: the round trips of all connections.
    pub fn turns(&self) -> u64 {
        self.counts.turns.load(Ordering::SeqCst)
    }
}

async fn accept(
    listener: std::net::TcpListener,
    target: SocketAddr,
    mut orders: watch::Receiver<Orders>,
    counts: Arc<Counts>,
) {
    let listener = TcpListener::from_std(listener).unwrap();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            // The proxy was dropped, and its connections end with the runtime.
            () = gone(&mut orders) => return,
        };
        if let Ok((client, _)) = accepted {
            let link = Link {
                number: counts.opened.fetch_add(1, Ordering::SeqCst),
                orders: orders.clone(),
                shared: Arc::default(),
                counts: Arc::clone(&counts),
                dice: Dice::new(u64::from(target.port())),
            };
            tokio::spawn(carry(client, target, link));
        }
    }
}

async fn gone(orders: &mut watch::Receiver<Orders>) {
    while orders.changed().await.is_ok() {}
}

/// Forwards the bytes of one connection in both directions, until a side closes it or it is cut.
async fn carry(mut client: TcpStream, target: SocketAddr, mut link: Link) {
    if link.wire().is_severed(false) {
        return close(client, link.wire());
    }
    let Ok(mut server) = TcpStream::connect(target).await else {
        return;
    };
    for stream in [&client, &server] {
        // An error means that it is already closed.
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
    let how = link.wire();
    close(client, how);
    close(server, how);
}

fn close(stream: TcpStream, how: Wire) {
    if how == Wire::Reset {
        // An error means that it is already closed.
        let _ = stream.set_zero_linger();
    }
    drop(stream);
}

/// The state as one connection sees it.
#[derive(Debug, Clone)]
struct Link {
    number: u64,
    orders: watch::Receiver<Orders>,
    shared: Arc<Both>,
    counts: Arc<Counts>,
    dice: Dice,
}

/// State that both directions of a connection share.
#[derive(Debug, Default)]
struct Both {
    /// Whether the connection carries the push.
    push: AtomicBool,
    /// Whether bytes were lost.
    lossy: AtomicBool,
    /// Whether the client spoke last.
    asked: AtomicBool,
}

impl Link {
    fn wire(&self) -> Wire {
        self.orders.borrow().wire
    }

    fn is_push(&self) -> bool {
        self.shared.push.load(Ordering::SeqCst)
    }

    fn is_silenced(&self) -> bool {
        self.number < self.orders.borrow().silenced
    }

    async fn severed(&mut self) {
        let (number, shared) = (self.number, Arc::clone(&self.shared));
        let severed = |orders: &Orders| {
            let push = shared.push.load(Ordering::SeqCst);
            number < orders.closed || orders.wire.is_severed(push)
        };
        // An error means that the proxy was dropped.
        let _ = self.orders.wait_for(severed).await;
    }

    /// Waits while bytes are held back. Returns `None` if the proxy was dropped.
    async fn released(&mut self) -> Option<()> {
        let released = |orders: &Orders| orders.wire != Wire::Held;
        self.orders.wait_for(released).await.ok().map(drop)
    }

    async fn pump(mut self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, is_request: bool) {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let length = match from.read(&mut buffer).await {
                Ok(0) | Err(_) => return self.end().await,
                Ok(length) => length,
            };
            let bytes = &buffer[..length];
            if self.shared.asked.swap(is_request, Ordering::SeqCst) != is_request && is_request {
                self.counts.turns.fetch_add(1, Ordering::SeqCst);
            }
            if is_request && asks_for_push(bytes) {
                self.shared.push.store(true, Ordering::SeqCst);
                // A state that is severed now is severed for this connection, too.
                if self.wire().is_severed(true) {
                    return;
                }
            }
            if self.deliver(bytes, &mut to).await.is_none() {
                return;
            }
        }
    }

    /// Returns when the other side may learn that the connection ended.
    async fn end(&mut self) {
        if self.is_silenced() {
            std::future::pending::<()>().await;
        }
        self.released().await;
    }

    async fn deliver(&mut self, bytes: &[u8], to: &mut WriteHalf<'_>) -> Option<()> {
        if self.is_silenced() || self.wire().is_silent(self.is_push()) {
            self.shared.lossy.store(true, Ordering::SeqCst);
        }
        if self.shared.lossy.load(Ordering::SeqCst) {
            return Some(());
        }
        match self.wire() {
            Wire::Held => self.released().await?,
            Wire::Slow(time) => tokio::time::sleep(time).await,
            Wire::Uneven(time) => {
                let more = self.dice.below(time.as_micros() as u64 + 1);
                tokio::time::sleep(time + Duration::from_micros(more)).await;
            }
            Wire::Drip => {
                let mut rest = bytes;
                while let Some((first, others)) = rest.split_first()
                    && self.wire() == Wire::Drip
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

/// Returns whether these bytes subscribe: PostgreSQL's `LISTEN`, Redis' `SUBSCRIBE`.
fn asks_for_push(bytes: &[u8]) -> bool {
    ["LISTEN ", "SUBSCRIBE"].iter().any(|word| {
        bytes
            .windows(word.len())
            .any(|window| window.eq_ignore_ascii_case(word.as_bytes()))
    })
}
