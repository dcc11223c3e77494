//! The future that ends when a key may not go on.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use tokio::sync::oneshot;

use super::end::WatchEnd;
use super::table::{KnownEnd, WatchNumber, WatchedRequest};
use super::watchers::{Watchers, WatchersId};
use crate::key::KeyId;

/// A future that ends when a key may not go on; see [`ApiKey::watch`](crate::ApiKey::watch).
///
/// It is `Send + 'static` and cancel safe, and runs on any runtime. When it is dropped, the manager
/// forgets it. If it is polled after its end, it returns the same end.
#[must_use = "a watch does nothing unless it is awaited"]
pub struct KeyWatch(KeyWatchState);

enum KeyWatchState {
    Waiting {
        end: oneshot::Receiver<WatchEnd>,
        /// Dropped with the state, at the end or with the watch.
        _registration: WatchRegistration,
    },
    Ended(WatchEnd),
    /// A key that a test acts as does not change.
    Endless,
}

impl KeyWatch {
    /// Starts a watch with a manager. It has ended if the manager is gone. `known_end` is what the record tells that the
    /// request was allowed by: the store may not answer before the key ends.
    pub(crate) fn start(
        manager: WatchersId,
        id: KeyId,
        owner: Option<&str>,
        request: WatchedRequest,
        known_end: Option<KnownEnd>,
    ) -> Self {
        let start = || {
            let watchers = Watchers::of(manager)?;
            let (number, end) = watchers.add(id, owner, request, known_end)?;
            let watchers = Arc::downgrade(&watchers);
            let registration = WatchRegistration {
                watchers,
                id,
                number,
            };
            Some(KeyWatchState::Waiting {
                end,
                _registration: registration,
            })
        };
        Self(start().unwrap_or(KeyWatchState::Ended(WatchEnd::Unknown)))
    }

    /// Returns a watch that never ends.
    pub(crate) const fn endless() -> Self {
        Self(KeyWatchState::Endless)
    }
}

impl Future for KeyWatch {
    type Output = WatchEnd;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<WatchEnd> {
        let state = &mut self.get_mut().0;
        let end = match state {
            // The sender is dropped unsent only if the manager is gone.
            KeyWatchState::Waiting { end, .. } => {
                ready!(Pin::new(end).poll(context)).unwrap_or(WatchEnd::Unknown)
            }
            KeyWatchState::Ended(end) => return Poll::Ready(*end),
            KeyWatchState::Endless => return Poll::Pending,
        };
        *state = KeyWatchState::Ended(end);
        Poll::Ready(end)
    }
}

impl fmt::Debug for KeyWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = match self.0 {
            KeyWatchState::Ended(end) => Some(end),
            KeyWatchState::Waiting { .. } | KeyWatchState::Endless => None,
        };
        f.debug_struct("KeyWatch")
            .field("end", &end)
            .finish_non_exhaustive()
    }
}

/// The place of a watch in the map of its manager, which it leaves when it is dropped.
struct WatchRegistration {
    watchers: Weak<Watchers>,
    id: KeyId,
    number: WatchNumber,
}

impl Drop for WatchRegistration {
    fn drop(&mut self) {
        if let Some(watchers) = self.watchers.upgrade() {
            watchers.remove(self.id, self.number);
        }
    }
}
