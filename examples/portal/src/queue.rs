//! The queue of the passwords that are verified.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// The number of requests that wait for their turn, or have it.
pub const PLACES: usize = 20;

/// The number of those that one client has, so that others find a place.
pub const PLACES_OF_A_CLIENT: usize = 4;

/// The queue. It has a place or none: a request does not wait for one.
#[derive(Default)]
pub struct Queue {
    taken: Mutex<HashMap<Option<IpAddr>, usize>>,
}

/// A place in the queue, until it is dropped.
pub struct Place {
    queue: Arc<Queue>,
    client: Option<IpAddr>,
}

impl Queue {
    /// Takes a place; `None` if the queue is full, or the client has all places that it may have.
    pub fn enter(self: &Arc<Self>, client: Option<IpAddr>) -> Option<Place> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = taken.values().sum();
        let own = taken.entry(client).or_default();
        if all >= PLACES || *own >= PLACES_OF_A_CLIENT {
            taken.retain(|_, places| *places > 0);
            return None;
        }
        *own += 1;
        let queue = Arc::clone(self);
        Some(Place { queue, client })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let taken = self.queue.taken.lock();
        let mut taken = taken.unwrap_or_else(PoisonError::into_inner);
        if let Some(places) = taken.get_mut(&self.client) {
            *places -= 1;
        }
        taken.retain(|_, places| *places > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(number: u8) -> Option<IpAddr> {
        Some([192, 0, 2, number].into())
    }

    #[test]
    fn a_client_has_four_places_and_all_have_twenty() {
        let queue = Arc::new(Queue::default());
        let mut held = Vec::new();
        for number in 0..5 {
            held.extend((0..4).filter_map(|_| queue.enter(client(number))));
            assert!(queue.enter(client(number)).is_none(), "{number}");
        }
        assert_eq!(held.len(), PLACES);
        assert!(queue.enter(client(5)).is_none() && queue.enter(None).is_none());
        held.pop();
        assert!(queue.enter(client(3)).is_none());
        assert!(queue.enter(client(5)).is_some());
        drop(held);
        let taken = queue.taken.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(taken.is_empty());
    }
}
