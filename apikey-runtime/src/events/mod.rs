//! What happened to keys, told to those who listen.

mod ring;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use serde::Serialize;

use crate::clock::Timestamp;
use crate::denied::DenyReason;
use crate::key::KeyId;
use ring::{Place, Read, Ring};

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
    ring: Arc<Ring>,
    place: Place,
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
        let Self { ring, place } = self.get_mut();
        Poll::Ready(match ready!(ring.read(place, context.waker())) {
            Read::Event(event) => Some(event),
            Read::Missed(count, next) => Some(Event {
                at: next.at,
                kind: EventKind::Lagged { count },
                key_id: None,
                actor: None,
            }),
            Read::End => None,
        })
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        self.ring.leave(&self.place);
    }
}

impl std::fmt::Debug for EventStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventStream").finish_non_exhaustive()
    }
}

/// Where a manager tells its events. Their end comes when this is closed or dropped.
#[derive(Debug, Default)]
pub(crate) struct EventSender(Arc<Ring>);

impl EventSender {
    /// Tells of what happened, where anybody listens; otherwise it costs one load, and `event` is
    /// not made.
    pub(crate) fn emit(&self, event: impl FnOnce() -> Event) {
        if self.0.is_heard() {
            self.0.add(event());
        }
    }

    pub(crate) fn subscribe(&self) -> EventStream {
        EventStream {
            place: self.0.enter(),
            ring: Arc::clone(&self.0),
        }
    }

    pub(crate) fn close(&self) {
        self.0.close();
    }
}

impl Drop for EventSender {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests;
