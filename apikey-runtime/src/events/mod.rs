//! What happened to keys, told to those who listen.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use serde::Serialize;
use tokio::sync::broadcast::{self, Sender};
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;

use crate::clock::Timestamp;
use crate::denied::DenyReason;
use crate::key::KeyId;

/// How many events are kept for a reader that lags; a power of two, as the channel rounds up to one.
const ROOM: usize = 1024;

/// Something that happened to a key, or a request that was refused; see
/// [`ApiKeyManager::events`](crate::ApiKeyManager::events).
///
/// It holds no secret and no digest. Serialised it is one flat object: `at` (milliseconds), `kind`,
/// the kind's own members, `key_id`, `actor`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Event {
    /// When it was told, by the manager's clock.
    pub at: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
    /// To which key. For [`EventKind::Denied`] the id that the request named, whether or not there
    /// is such a key and the secret is right; `None` where no id can be read.
    pub key_id: Option<KeyId>,
    /// Who did it, where the caller said so: see [`CreateKey::actor`](crate::CreateKey::actor) and
    /// the same method of the other calls.
    pub actor: Option<String>,
}

/// What an [`Event`] tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum EventKind {
    /// A key was made.
    Created,
    /// Something about a key was changed: its label, owner, scopes, times, networks and so on.
    Updated,
    /// A key was given a new secret.
    Rotated,
    /// A key was revoked that was not before.
    #[non_exhaustive]
    Revoked {
        /// Why, where that was said.
        reason: Option<String>,
    },
    /// A key was switched on.
    Enabled,
    /// A key was switched off.
    Disabled,
    /// The record of a key was removed.
    Purged,
    /// A request was refused, or a check that the application asked for.
    #[non_exhaustive]
    Denied {
        /// Why; serialised as its [code](DenyReason::code).
        reason: DenyReason,
    },
    /// A quota of a key is used up to this part. PollGuard where a charge crosses it, by the process that
    /// charged it; units that were [taken ahead](crate::ConfigBuilder::limit_prefetch) count, also where
    /// they are given back later.
    #[non_exhaustive]
    LimitReached {
        /// The limit's name.
        limit: String,
        /// 80 or 100.
        percent: u8,
    },
    /// This reader was too slow: events were overwritten before it read them. `at` is the time of
    /// the oldest one that is left.
    #[non_exhaustive]
    Lagged {
        /// How many.
        count: u64,
    },
}

/// A stream of what happens to a manager's keys; see
/// [`ApiKeyManager::events`](crate::ApiKeyManager::events).
///
/// It is a [`Stream`] too, for those who combine streams.
#[must_use = "events are kept for as long as this is held, and are read with `next`"]
pub struct EventStream {
    stream: BroadcastStream<Event>,
    /// The event after a [`EventKind::Lagged`], which has told its time already.
    read: Option<Event>,
}

impl EventStream {
    /// The next event, when there is one; `None` when the manager was shut down and all was read.
    ///
    /// A call that is dropped before its end loses nothing.
    pub async fn next(&mut self) -> Option<Event> {
        poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }
}

impl Stream for EventStream {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        let Self { stream, read } = self.get_mut();
        if let Some(event) = read.take() {
            return Poll::Ready(Some(event));
        }
        let mut missed = 0;
        loop {
            match ready!(Pin::new(&mut *stream).poll_next(context)) {
                // A reader that lags has a whole ring to read, so this loop does not wait.
                Some(Err(BroadcastStreamRecvError::Lagged(count))) => missed += count,
                Some(Ok(event)) if missed > 0 => {
                    let at = event.at;
                    *read = Some(event);
                    return Poll::Ready(Some(Event {
                        at,
                        kind: EventKind::Lagged { count: missed },
                        key_id: None,
                        actor: None,
                    }));
                }
                other => return Poll::Ready(other.and_then(Result::ok)),
            }
        }
    }
}

impl std::fmt::Debug for EventStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventStream").finish_non_exhaustive()
    }
}

/// Sends a manager's events. Streams end when this is closed or dropped.
///
/// The channel is made for the first reader; it has no sender after the end.
#[derive(Debug, Default)]
pub(crate) struct EventSender(OnceLock<Mutex<Option<Sender<Event>>>>);

impl EventSender {
    /// Sends what happened to the readers. Without a reader `event` is not made, and before the
    /// first one this costs one load.
    pub(crate) fn emit(&self, event: impl FnOnce() -> Event) {
        // A waker may run what it wakes at once, so the lock is released before one is called.
        let sender = self.0.get().and_then(|channel| lock(channel).clone());
        if let Some(sender) = sender.filter(|sender| sender.receiver_count() > 0) {
            // Fails if the last reader has left meanwhile.
            let _ = sender.send(event());
        }
    }

    pub(crate) fn subscribe(&self) -> EventStream {
        let channel = self.0.get_or_init(|| Mutex::new(Some(Sender::new(ROOM))));
        let receiver = match &*lock(channel) {
            Some(sender) => sender.subscribe(),
            // Ends at once.
            None => broadcast::channel(1).1,
        };
        EventStream {
            stream: BroadcastStream::new(receiver),
            read: None,
        }
    }

    /// Takes no event any more. Readers still get what was sent before.
    pub(crate) fn close(&self) {
        let sender = lock(self.0.get_or_init(Mutex::default)).take();
        drop(sender);
    }
}

fn lock(channel: &Mutex<Option<Sender<Event>>>) -> MutexGuard<'_, Option<Sender<Event>>> {
    channel.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
