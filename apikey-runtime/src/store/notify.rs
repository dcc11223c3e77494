//! A push: the news that something changed, with no word on what.

use tokio::sync::watch;

/// What a store raises when it hears that something changed. A clone is the same signal.
///
/// A signal makes whoever listens ask [`changes`](super::KeyStore::changes) at once, and not only at
/// the next third of a lease; one that is lost costs time and no more.
#[derive(Debug, Clone)]
pub struct ChangeNotifier(watch::Sender<()>);

impl ChangeNotifier {
    /// A signal to which nobody listens yet.
    #[must_use]
    pub fn new() -> Self {
        Self(watch::Sender::new(()))
    }

    /// Wakes all who listen. Those who are busy notice when they listen again.
    pub fn notify(&self) {
        self.0.send_replace(());
    }

    /// Hears what is raised from now on.
    #[must_use]
    pub fn subscribe(&self) -> ChangeListener {
        ChangeListener(self.0.subscribe())
    }
}

impl Default for ChangeNotifier {
    fn default() -> Self {
        Self::new()
    }
}

/// Listens to a [`ChangeNotifier`].
#[derive(Debug)]
pub struct ChangeListener(watch::Receiver<()>);

impl ChangeListener {
    /// Waits until the signal was raised since this was last called; for ever, where nobody is left
    /// to raise it. Several raises in between count as one.
    pub async fn notified(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
