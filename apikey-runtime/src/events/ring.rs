//! The last events, kept for those who listen.
//!
//! Written by hand, since the channels at hand either keep without bound, or make the sender wait,
//! or cannot be polled without a box for each event.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, Waker};

use parking_lot::{Mutex, MutexGuard};

use super::Event;

/// How many events are kept for a reader that is behind.
pub(super) const ROOM: usize = 1024;

/// A ring that overwrites its oldest event, and keeps none where nobody listens.
#[derive(Debug, Default)]
pub(super) struct Ring {
    /// How many listen. Changed under the lock, and read without it on the way of a request.
    readers: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    events: VecDeque<Event>,
    /// The number of the oldest event that is kept, counted from the first ever.
    first: u64,
    /// Those who have read all there is, by their names.
    waiting: Vec<(u64, Waker)>,
    /// The name of the next reader.
    named: u64,
    closed: bool,
}

/// How far somebody has read.
#[derive(Debug)]
pub(super) struct Place {
    name: u64,
    next: u64,
}

/// What a reader finds.
#[derive(Debug)]
pub(super) enum Read {
    Event(Event),
    /// So many were overwritten before they were read; the next one is given for its time.
    Missed(u64, Event),
    /// There will be none any more.
    End,
}

impl Ring {
    /// Whether anybody listens. Whoever began to listen before what is to be told happened is seen
    /// here: that is an order between the two threads, and a count is never older than that.
    pub(super) fn is_heard(&self) -> bool {
        self.readers.load(Ordering::Relaxed) > 0
    }

    /// Adds an event, and never waits for those who read.
    pub(super) fn add(&self, event: Event) {
        let woken = {
            let mut state = self.lock();
            if state.closed || !self.is_heard() {
                return;
            }
            if state.events.len() == ROOM {
                state.events.pop_front();
                state.first += 1;
            }
            state.events.push_back(event);
            std::mem::take(&mut state.waiting)
        };
        wake(woken);
    }

    /// Begins to listen: to what is added from now on.
    pub(super) fn enter(&self) -> Place {
        let mut state = self.lock();
        self.readers.fetch_add(1, Ordering::Relaxed);
        state.named += 1;
        Place {
            name: state.named,
            next: state.end(),
        }
    }

    /// Ends listening. With nobody left, nothing is kept.
    pub(super) fn leave(&self, place: &Place) {
        let mut state = self.lock();
        state.waiting.retain(|(name, _)| *name != place.name);
        if self.readers.fetch_sub(1, Ordering::Relaxed) == 1 {
            state.first = state.end();
            state.events = VecDeque::new();
        }
    }

    /// The next event for this reader, who is woken where there is none yet.
    pub(super) fn read(&self, place: &mut Place, waker: &Waker) -> Poll<Read> {
        let mut state = self.lock();
        let missed = state.first.saturating_sub(place.next);
        if missed > 0 {
            place.next = state.first;
        }
        let index = usize::try_from(place.next - state.first).unwrap_or(usize::MAX);
        match state.events.get(index).cloned() {
            Some(event) if missed > 0 => Poll::Ready(Read::Missed(missed, event)),
            Some(event) => {
                place.next += 1;
                Poll::Ready(Read::Event(event))
            }
            None if state.closed => Poll::Ready(Read::End),
            None => {
                let own = state
                    .waiting
                    .iter_mut()
                    .find(|(name, _)| *name == place.name);
                match own {
                    Some((_, known)) => known.clone_from(waker),
                    None => state.waiting.push((place.name, waker.clone())),
                }
                Poll::Pending
            }
        }
    }

    /// Takes no event any more. What is kept can still be read.
    pub(super) fn close(&self) {
        let woken = {
            let mut state = self.lock();
            state.closed = true;
            std::mem::take(&mut state.waiting)
        };
        wake(woken);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl State {
    /// The number of the next event.
    fn end(&self) -> u64 {
        self.first + self.events.len() as u64
    }
}

/// Outside of the lock: a waker may run what it wakes at once.
fn wake(woken: Vec<(u64, Waker)>) {
    woken.into_iter().for_each(|(_, waker)| waker.wake());
}
