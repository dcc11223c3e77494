//! Events: what happened to keys and owners, for subscribers.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use serde::Serialize;
use tokio::sync::Notify;
use tokio::sync::broadcast::{self, Sender};
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;

use crate::clock::Timestamp;
use crate::denied::DenyReason;
use crate::key::KeyId;

/// The number of events that are kept for a reader that lags; a power of two, as the channel rounds
/// up to one.
pub(crate) const ROOM: usize = 1024;

/// An event of a key or an owner, or a denied request; see
/// [`ApiKeyManager::events`](crate::ApiKeyManager::events).
///
/// It does not contain secrets or digests. Serialised, it is one flat object: `at` (RFC 3339),
/// `kind`, the kind's own members, `key_id`, `owner`, `actor`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Event {
    /// When the event was sent, by the manager's clock.
    pub at: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
    /// The key that it happened to. For [`EventKind::Denied`], the id that the request presented,
    /// whether or not such a key exists and the secret is correct; `None` if it does not have a
    /// valid id.
    pub key_id: Option<KeyId>,
    /// The owner whose keys were all revoked, suspended or resumed at once. `None` for all other kinds.
    pub owner: Option<String>,
    /// The actor, if the caller named one; see [`CreateKey::actor`](crate::manager::CreateKey::actor) and
    /// the same method of other calls.
    pub actor: Option<String>,
}

/// The kind of an [`Event`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum EventKind {
    /// A key was created.
    Created,
    /// A key was changed: its label, owner, scopes, times, networks and so on.
    Updated,
    /// A key got a new secret.
    Rotated,
    /// A key was revoked that was not revoked before.
    #[non_exhaustive]
    Revoked {
        /// The reason, if given.
        reason: Option<String>,
    },
    /// The grace of a key's old secret was ended before its time: by
    /// [`end_grace`](crate::ApiKeyManager::end_grace), or by a caller that
    /// [presented](crate::ApiKeyManager::revoke_presented) this secret. The new secret stays valid.
    #[non_exhaustive]
    GraceEnded {
        /// The reason, if given.
        reason: Option<String>,
    },
    /// A key was enabled.
    Enabled,
    /// A key was disabled.
    Disabled,
    /// The record of a key was purged.
    Purged,
    /// All keys of an owner were revoked at once. Keys that were revoked before are among them.
    #[non_exhaustive]
    OwnerRevoked {
        /// The reason, if given.
        reason: Option<String>,
    },
    /// All keys of an owner were suspended.
    OwnerSuspended,
    /// An owner's keys are not suspended any more.
    OwnerResumed,
    /// A request was denied, or a check that the application requested.
    #[non_exhaustive]
    Denied {
        /// The reason; serialised as its [code](DenyReason::code).
        reason: DenyReason,
    },
    /// A quota of a key was used up to this percentage. The process whose charge crosses it sends
    /// the event. [Prefetched units](crate::ConfigBuilder::limit_prefetch) count, even if they are
    /// refunded later.
    #[non_exhaustive]
    LimitReached {
        /// The limit's name.
        limit: String,
        /// 80 or 100.
        percent: u8,
    },
    /// A key expires soon: a threshold of
    /// [`expiry_notice_days`](crate::ConfigBuilder::expiry_notice_days) was reached. Of all nodes that share a
    /// store, one with a subscriber sends the event, once for each key, expiry and threshold, and again only if
    /// that node died, or was stopped, before it had noted this.
    #[non_exhaustive]
    ExpiringSoon {
        /// The threshold in days.
        days: u32,
        /// The expiry.
        expires: Timestamp,
    },
    /// The reader was too slow, and events were overwritten before it read them. `at` is the time
    /// of the oldest remaining one.
    #[non_exhaustive]
    Lagged {
        /// The number of lost events.
        count: u64,
    },
}

/// A stream of the events of a manager's keys; see
/// [`ApiKeyManager::events`](crate::ApiKeyManager::events).
///
/// It also implements [`Stream`], for use with stream combinators.
#[must_use = "events are kept while this exists, and are read with `next`"]
pub struct EventStream {
    stream: BroadcastStream<Event>,
    /// The lost events that no [`EventKind::Lagged`] has reported yet.
    missed: u64,
    /// The event after an [`EventKind::Lagged`], which already has its time.
    read: Option<Event>,
}

impl EventStream {
    /// Waits for the next event. Returns `None` after the manager was shut down and all events were
    /// read.
    ///
    /// This method is cancel safe: dropping its future does not lose an event.
    pub async fn next(&mut self) -> Option<Event> {
        poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }
}

impl Stream for EventStream {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        let Self {
            stream,
            missed,
            read,
        } = self.get_mut();
        if let Some(event) = read.take() {
            return Poll::Ready(Some(event));
        }
        loop {
            match ready!(Pin::new(&mut *stream).poll_next(context)) {
                // The next poll may be pending if the task's budget is used up, so the count is kept.
                Some(Err(BroadcastStreamRecvError::Lagged(count))) => *missed += count,
                Some(Ok(event)) if *missed > 0 => {
                    let at = event.at;
                    *read = Some(event);
                    return Poll::Ready(Some(Event {
                        at,
                        kind: EventKind::Lagged {
                            count: std::mem::take(missed),
                        },
                        key_id: None,
                        owner: None,
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
/// The channel is created for the first reader. It does not have a sender after `close`.
#[derive(Debug, Default)]
pub(crate) struct EventSender {
    channel: OnceLock<Mutex<Option<Sender<Event>>>>,
    subscribed: Notify,
}

impl EventSender {
    /// Sends an event to the readers, and returns whether there was one. Without readers, `event` is not
    /// called; before the first reader, this costs one load.
    pub(crate) fn emit(&self, event: impl FnOnce() -> Event) -> bool {
        // A waker may run its task at once, so the lock is released before sending.
        match self.sender().filter(|sender| sender.receiver_count() > 0) {
            // Fails if the last reader has left meanwhile.
            Some(sender) => sender.send(event()).is_ok(),
            None => false,
        }
    }

    /// Returns whether an event would have a reader now.
    pub(crate) fn has_readers(&self) -> bool {
        self.sender()
            .is_some_and(|sender| sender.receiver_count() > 0)
    }

    /// Returns the number of events that the slowest reader has not read, at most [`ROOM`].
    pub(crate) fn unread(&self) -> usize {
        self.sender().map_or(0, |sender| sender.len())
    }

    /// Waits until a reader has subscribed. One subscription is remembered between two calls.
    pub(crate) async fn subscribed(&self) {
        self.subscribed.notified().await;
    }

    fn sender(&self) -> Option<Sender<Event>> {
        self.channel.get().and_then(|channel| lock(channel).clone())
    }

    pub(crate) fn subscribe(&self) -> EventStream {
        let open = || Mutex::new(Some(Sender::new(ROOM)));
        let receiver = match &*lock(self.channel.get_or_init(open)) {
            Some(sender) => sender.subscribe(),
            // This stream ends at once.
            None => broadcast::channel(1).1,
        };
        self.subscribed.notify_one();
        EventStream {
            stream: BroadcastStream::new(receiver),
            missed: 0,
            read: None,
        }
    }

    /// Stops sending events. Readers still get those that were sent before.
    pub(crate) fn close(&self) {
        let sender = lock(self.channel.get_or_init(Mutex::default)).take();
        drop(sender);
    }
}

fn lock(channel: &Mutex<Option<Sender<Event>>>) -> MutexGuard<'_, Option<Sender<Event>>> {
    channel.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
