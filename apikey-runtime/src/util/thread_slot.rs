//! Slots of threads: numbers that give each thread memory of its own.
//!
//! Threads that count at the same time then do not write each other's memory. A slot is freed at
//! the end of its thread. The lock that passes it to another thread also makes what was written
//! there visible to that thread.

use parking_lot::Mutex;

/// Returns the slot of this thread, counted from 0 and unique while the thread lives. Returns
/// `None` at the end of the thread, which may have freed it already.
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
