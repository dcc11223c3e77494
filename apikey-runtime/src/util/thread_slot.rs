//! The places of threads: numbers by which each finds a cell of its own.
//!
//! Threads that count at the same time write no memory of each other then. A place is given back at
//! its thread's end; the lock through which it goes to another also shows that one what was written
//! there.

use parking_lot::Mutex;

/// The number of this thread, from 0 on, which no other thread has while this one lives. `None` for
/// a thread at its end, which may have given it away.
pub(crate) fn current() -> Option<usize> {
    PLACE.try_with(|place| place.0).ok()
}

thread_local! {
    static PLACE: Place = Place::take();
}

struct Place(usize);

static PLACES: Mutex<Places> = Mutex::new(Places {
    free: Vec::new(),
    next: 0,
});

struct Places {
    free: Vec<usize>,
    next: usize,
}

impl Place {
    fn take() -> Self {
        let mut places = PLACES.lock();
        let place = places.free.pop().unwrap_or(places.next);
        places.next = places.next.max(place + 1);
        Self(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = PLACES.lock();
        places.free.push(self.0);
    }
}
