//! Acknowledgements and heartbeats: what this node writes about itself.

use std::time::Duration;

use tokio::time::timeout;

use super::poller::{ChangePoller, WRITE_FACTOR};
use crate::error::ErrorChain;
use crate::shared::CallClass;
use crate::store::Cursor;

/// The minimum interval between heartbeats if there is nothing to acknowledge.
const MIN_HEARTBEAT_INTERVAL: Duration = Duration::from_millis(250);

/// The pause before the first retry of an acknowledgement. Each pause is twice the one before.
const FIRST_RETRY_PAUSE: Duration = Duration::from_millis(50);

impl ChangePoller {
    /// Acknowledges what the polls have followed, and sends a heartbeat when there is nothing to
    /// acknowledge. This is a separate task, so that a slow write does not delay polls.
    pub(crate) async fn send_heartbeats(&self) {
        let mut followed = self.followed.subscribe();
        let mut pause = FIRST_RETRY_PAUSE;
        loop {
            let cursor = followed
                .borrow_and_update()
                .as_ref()
                .map(|followed| followed.cursor.clone());
            let sent = match &cursor {
                Some(cursor) => self.acknowledge(cursor).await,
                None => true,
            };
            let silence = if !sent {
                // Until the store has it, other nodes wait for the end of the lease.
                pause
            } else if self.is_member() {
                self.heartbeat_interval()
            } else {
                // A store without membership does not expect heartbeats.
                Duration::MAX
            };
            pause = if sent {
                FIRST_RETRY_PAUSE
            } else {
                self.heartbeat_interval().min(pause * 2)
            };
            // The sender is dropped with the manager itself.
            if let Ok(Err(_)) = timeout(silence, followed.changed()).await {
                return;
            }
        }
    }

    /// Writes to the store that this node has followed all changes up to `cursor`. Returns `false` if
    /// this must be retried.
    async fn acknowledge(&self, cursor: &Cursor) -> bool {
        let Some(membership) = self.shared.store.membership() else {
            return true;
        };
        let write = membership.acknowledge(&self.node, cursor);
        let deadline = self.shared.deadline * WRITE_FACTOR;
        let written = self.write_own(deadline, write).await;
        let turned = self.shared.status.record(CallClass::Heartbeats, &written);
        match &written {
            // Logged once instead of at each retry.
            Err(error) if turned => {
                tracing::warn!(error = %ErrorChain(error), "the key store does not accept this node's heartbeat");
            }
            Ok(()) if turned => tracing::info!("the key store accepts this node's heartbeat again"),
            _ => {}
        }
        written.is_ok()
    }

    /// Returns the interval between heartbeats: half a lease, and at least 250 ms.
    pub(super) fn heartbeat_interval(&self) -> Duration {
        let length = self.cache.lease.length().unwrap_or_default();
        (length / 2).max(MIN_HEARTBEAT_INTERVAL)
    }
}
