//! The proxy does what its state says: a fault without effect would let every run pass.

use std::io::ErrorKind;

use tokio::io::AsyncWriteExt;

use super::*;
use crate::soon;

/// The wait that shows that bytes do not arrive.
const SILENCE: Duration = Duration::from_millis(300);

/// Starts a server that echoes.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    address
}

struct Client(TcpStream);

impl Client {
    async fn on(proxy: &Proxy) -> Self {
        Self(TcpStream::connect(proxy.address()).await.unwrap())
    }

    /// Sends it, and returns the reply.
    async fn send(&mut self, text: &str) -> Result<String, ErrorKind> {
        let sent = self.0.write_all(text.as_bytes()).await;
        sent.map_err(|error| error.kind())?;
        self.receive(text.len()).await
    }

    async fn receive(&mut self, length: usize) -> Result<String, ErrorKind> {
        let mut bytes = vec![0; length];
        let read = soon(self.0.read_exact(&mut bytes)).await;
        read.map_err(|error| error.kind())?;
        Ok(String::from_utf8(bytes).unwrap())
    }

    /// Sends it, and returns whether nothing comes back for a while, not even an end.
    async fn is_silent_after(&mut self, text: &str) -> bool {
        self.0.write_all(text.as_bytes()).await.unwrap();
        let mut byte = [0];
        let arrives = self.0.peek(&mut byte);
        tokio::time::timeout(SILENCE, arrives).await.is_err()
    }
}

fn back(text: &str) -> Result<String, ErrorKind> {
    Ok(text.to_owned())
}

#[tokio::test]
async fn a_wire_that_is_cut_or_reset_closes_what_is_open_and_what_comes() {
    let proxy = Proxy::to(echo().await);
    for (wire, how) in [
        (Wire::Cut, ErrorKind::UnexpectedEof),
        (Wire::Reset, ErrorKind::ConnectionReset),
    ] {
        let mut client = Client::on(&proxy).await;
        assert_eq!(client.send("a").await, back("a"));
        proxy.set(wire);
        assert_eq!(client.receive(1).await, Err(how), "{wire:?}");
        // The reset of a new connection may arrive before its client knows that it was accepted.
        let late = match TcpStream::connect(proxy.address()).await {
            Ok(stream) => Client(stream).receive(1).await,
            Err(error) => Err(error.kind()),
        };
        assert_eq!(late, Err(how), "{wire:?}");
        proxy.set(Wire::Whole);
    }
}

#[tokio::test]
async fn a_half_open_wire_swallows_bytes_for_good_and_a_held_one_for_a_while() {
    let proxy = Proxy::to(echo().await);
    let mut half_open = Client::on(&proxy).await;
    assert_eq!(half_open.send("a").await, back("a"));
    proxy.set(Wire::HalfOpen);
    assert!(half_open.is_silent_after("b").await);
    proxy.set(Wire::Whole);
    assert!(half_open.is_silent_after("c").await);

    let mut held = Client::on(&proxy).await;
    assert_eq!(held.send("a").await, back("a"));
    proxy.set(Wire::Held);
    assert!(held.is_silent_after("b").await);
    proxy.set(Wire::Whole);
    assert_eq!(held.receive(1).await, back("b"));
}

#[tokio::test]
async fn a_slow_wire_and_a_dripping_one_lose_nothing() {
    let proxy = Proxy::to(echo().await);
    let mut client = Client::on(&proxy).await;
    for wire in [
        Wire::Slow(Duration::from_millis(20)),
        Wire::Uneven(Duration::from_millis(20)),
        Wire::Drip,
    ] {
        proxy.set(wire);
        let begun = std::time::Instant::now();
        assert_eq!(client.send("a few bytes").await, back("a few bytes"));
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(10), "{wire:?} took {took:?}");
    }
}

#[tokio::test]
async fn only_the_push_is_cut_where_only_that_is_to_be() {
    let proxy = Proxy::to(echo().await);
    let mut calls = Client::on(&proxy).await;
    assert_eq!(calls.send("GET").await, back("GET"));
    for text in ["listen \"a\"", "SUBSCRIBE"] {
        let mut push = Client::on(&proxy).await;
        assert_eq!(push.send(text).await, back(text));
        proxy.set(Wire::PushHalfOpen);
        assert!(push.is_silent_after("a").await);
        proxy.set(Wire::PushCut);
        assert_eq!(push.receive(1).await, Err(ErrorKind::UnexpectedEof));
        assert_eq!(calls.send("GET").await, back("GET"));
        proxy.set(Wire::Whole);
    }
}
