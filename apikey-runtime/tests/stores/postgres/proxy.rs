//! A TCP proxy in the way of a store, for what goes wrong on a link.

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What becomes of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    /// They arrive after this long.
    Up(Duration),
    /// They arrive when the link is up again, and nobody is told.
    Hole,
}

/// A proxy, which ends with the value.
pub(super) struct Proxy {
    pub(super) port: u16,
    link: watch::Sender<Link>,
    /// Counts up when the connections there are end; new ones are as good as before.
    generation: watch::Sender<(u64, End)>,
    accepting: tokio::task::JoinHandle<()>,
}

/// How connections end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Both sides are told.
    Reset,
    /// Neither side is ever told anything again.
    Forgotten,
}

impl Proxy {
    pub(super) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let link = watch::Sender::new(Link::Up(Duration::ZERO));
        let generation = watch::Sender::new((0, End::Reset));
        let (links, generations) = (link.clone(), generation.clone());
        let accepting = tokio::spawn(async move {
            loop {
                let (inner, _) = listener.accept().await.unwrap();
                tokio::spawn(carry(
                    inner,
                    port,
                    links.subscribe(),
                    generations.subscribe(),
                ));
            }
        });
        Self {
            port: own,
            link,
            generation,
            accepting,
        }
    }

    pub(super) fn set(&self, link: Link) {
        self.link.send_replace(link);
    }

    pub(super) fn reset(&self) {
        self.generation
            .send_modify(|generation| *generation = (generation.0 + 1, End::Reset));
    }

    pub(super) fn forget(&self) {
        self.generation
            .send_modify(|generation| *generation = (generation.0 + 1, End::Forgotten));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn carry(
    inner: TcpStream,
    port: u16,
    links: watch::Receiver<Link>,
    mut generations: watch::Receiver<(u64, End)>,
) {
    let Ok(outer) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else {
        return;
    };
    generations.mark_unchanged();
    let (inner_reads, inner_writes) = inner.into_split();
    let (outer_reads, outer_writes) = outer.into_split();
    let mut there = tokio::spawn(copy(
        inner_reads,
        outer_writes,
        links.clone(),
        generations.clone(),
    ));
    let mut back = tokio::spawn(copy(outer_reads, inner_writes, links, generations.clone()));
    tokio::select! {
        _ = &mut there => back.abort(),
        _ = &mut back => there.abort(),
        changed = generations.changed() => {
            // The sockets of those forgotten stay open in the tasks, which say nothing more.
            if changed.is_err() || generations.borrow().1 == End::Reset {
                there.abort();
                back.abort();
            }
        }
    }
}

async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut links: watch::Receiver<Link>,
    generations: watch::Receiver<(u64, End)>,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let Ok(count) = from.read(&mut buffer).await else {
            return;
        };
        // The end of a connection does not pass a hole either.
        let up = links
            .wait_for(|link| *link != Link::Hole)
            .await
            .map(|link| *link);
        if let Ok(Link::Up(delay)) = up {
            tokio::time::sleep(delay).await;
        }
        if generations.has_changed().unwrap_or(false) && generations.borrow().1 == End::Forgotten {
            std::future::pending::<()>().await;
        }
        if count == 0 || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
