//! Pushes: the signal that something changed, without details.

use tokio::sync::watch;

/// The sender through which a store signals that something changed. Clones share the signal.
///
/// A signal makes listeners poll [`changes`](super::ChangeLog::changes) at once instead of at the
/// next third of a lease. A lost signal only costs time.
#[derive(Debug, Clone)]
pub struct ChangeNotifier(watch::Sender<()>);

impl ChangeNotifier {
    /// Creates a notifier without listeners.
    #[must_use]
    pub fn new() -> Self {
        Self(watch::Sender::new(()))
    }

    /// Wakes all listeners. A busy listener notices when it waits again.
    pub fn notify(&self) {
        self.0.send_replace(());
    }

    /// Returns a listener for the signals from now on.
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

/// Receives the signals of a [`ChangeNotifier`].
#[derive(Debug)]
pub struct ChangeListener(watch::Receiver<()>);

impl ChangeListener {
    /// Waits for a signal since the last call; several signals in between count as one. Waits
    /// forever if all notifiers are dropped.
    pub async fn notified(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
