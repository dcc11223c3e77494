//! Slots of threads: numbers that give each thread memory of its own.
//!
//! Threads that count at the same time then do not write each other's memory. A slot is freed at
//! the end of its thread. The lock that passes it to another thread also makes what was written
//! there visible to that thread.

use parking_lot::Mutex;

/// Returns the slot of this thread, counted from 0 and unique while the thread lives. Returns
/// `None` at the end of the thread, which may have freed it already.
#[inline]
pub(crate) fn current() -> Option<usize> {
    SLOT.try_with(|slot| slot.0).ok()
}

thread_local! {
    static SLOT: ThreadSlot = ThreadSlot::take();
}

struct ThreadSlot(usize);

static FREE_SLOTS: Mutex<FreeSlots> = Mutex::new(FreeSlots {
    free: Vec::new(),
    next: 0,
});

struct FreeSlots {
    free: Vec<usize>,
    next: usize,
}

impl ThreadSlot {
    fn take() -> Self {
        let mut slots = FREE_SLOTS.lock();
        let slot = slots.free.pop().unwrap_or(slots.next);
        slots.next = slots.next.max(slot + 1);
        Self(slot)
    }
}

impl Drop for ThreadSlot {
    fn drop(&mut self) {
        let mut slots = FREE_SLOTS.lock();
        slots.free.push(self.0);
    }
}
