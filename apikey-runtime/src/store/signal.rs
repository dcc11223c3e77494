//! A push: the news that something changed, with no word on what.

use tokio::sync::watch;

/// What a store raises when it hears that something changed. A clone is the same signal.
///
/// A signal makes whoever listens ask [`changes`](super::KeyStore::changes) at once, and not only at
/// the next third of a lease; one that is lost costs time and no more.
#[derive(Debug, Clone)]
pub struct Signal(watch::Sender<()>);

impl Signal {
    /// A signal to which nobody listens yet.
    #[must_use]
    pub fn new() -> Self {
        Self(watch::Sender::new(()))
    }

    /// Wakes all who listen. Those who are busy notice when they listen again.
    pub fn raise(&self) {
        self.0.send_replace(());
    }

    /// Hears what is raised from now on.
    #[must_use]
    pub fn listen(&self) -> Listener {
        Listener(self.0.subscribe())
    }
}

impl Default for Signal {
    fn default() -> Self {
        Self::new()
    }
}

/// Listens to a [`Signal`].
#[derive(Debug)]
pub struct Listener(watch::Receiver<()>);

impl Listener {
    /// Waits until the signal was raised since this was last called; for ever, where nobody is left
    /// to raise it. Several raises in between count as one.
    pub async fn raised(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
