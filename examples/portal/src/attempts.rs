//! The bound on attempts to sign in.

use std::hash::{BuildHasher as _, Hash, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The number of wrong passwords for a name from a client, within [`WINDOW`].
const FOR_A_NAME: usize = 5;

/// The number of wrong passwords from a client for all names, within [`WINDOW`].
const OF_A_CLIENT: usize = 30;

const WINDOW: Duration = Duration::from_mins(1);

/// The number of slots: the memory is bounded, whatever names and addresses clients use. Two that share a slot share
/// its attempts. The hash is keyed, so a client does not know whose slot it shares.
const SLOTS: usize = 4096;

/// The latest attempts to sign in, in this process.
pub struct Attempts {
    hasher: RandomState,
    tables: Mutex<Tables>,
}

struct Tables {
    names: Vec<[Option<Instant>; FOR_A_NAME]>,
    clients: Vec<[Option<Instant>; OF_A_CLIENT]>,
}

/// An attempt, which counts until it is taken back.
#[derive(Debug)]
pub struct Attempt {
    name: usize,
    client: usize,
    at: Instant,
}

impl Attempts {
    pub fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            tables: Mutex::new(Tables {
                names: vec![[None; FOR_A_NAME]; SLOTS],
                clients: vec![[None; OF_A_CLIENT]; SLOTS],
            }),
        }
    }

    /// Counts an attempt before the password is verified, so that parallel guesses are counted too. Returns how long
    /// to wait if there were too many.
    pub fn count(
        &self,
        name: &str,
        client: Option<IpAddr>,
        now: Instant,
    ) -> Result<Attempt, Duration> {
        let attempt = Attempt {
            name: self.slot((name, client)),
            client: self.slot(client),
            at: now,
        };
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let Tables { names, clients } = &mut *tables;
        let name = free(&mut names[attempt.name], now)?;
        let client = free(&mut clients[attempt.client], now)?;
        (*name, *client) = (Some(now), Some(now));
        Ok(attempt)
    }

    /// Takes back an attempt with the right password, or one that was not verified.
    pub fn take_back(&self, attempt: &Attempt) {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let Tables { names, clients } = &mut *tables;
        remove(&mut names[attempt.name], attempt.at);
        remove(&mut clients[attempt.client], attempt.at);
    }

    fn slot(&self, of: impl Hash) -> usize {
        usize::try_from(self.hasher.hash_one(of) % SLOTS as u64).unwrap_or_default()
    }
}

/// Returns a place for one more attempt, or how long to wait for one.
fn free(attempts: &mut [Option<Instant>], now: Instant) -> Result<&mut Option<Instant>, Duration> {
    let mut wait = WINDOW;
    for attempt in attempts {
        let age = attempt.map_or(WINDOW, |at| now.saturating_duration_since(at));
        if age >= WINDOW {
            return Ok(attempt);
        }
        wait = wait.min(WINDOW - age);
    }
    Err(wait)
}

fn remove(attempts: &mut [Option<Instant>], at: Instant) {
    let mut attempts = attempts.iter_mut();
    if let Some(counted) = attempts.find(|counted| **counted == Some(at)) {
        *counted = None;
    }
}

/// Returns the client at an address. One that has an IPv6 address has all of its network of 64 bits.
pub fn client_at(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().expect("an address"))
    }

    #[test]
    fn five_attempts_a_minute_are_allowed_for_a_name_and_an_address() {
        let attempts = Attempts::new();
        let (start, here) = (Instant::now(), address("192.0.2.1"));
        let after = |seconds| start + Duration::from_secs(seconds);
        for second in 0..5 {
            assert!(attempts.count("alice", here, after(second)).is_ok());
        }
        let wait = attempts
            .count("alice", here, after(10))
            .expect_err("the sixth");
        assert_eq!(wait, Duration::from_secs(50));
        // The first one is a minute old, the others are not.
        assert!(attempts.count("alice", here, after(60)).is_ok());
        assert!(attempts.count("alice", here, after(60)).is_err());
        assert!(attempts.count("bob", here, after(60)).is_ok());
        assert!(
            attempts
                .count("alice", address("192.0.2.2"), after(60))
                .is_ok()
        );
    }

    #[test]
    fn a_right_password_does_not_count() {
        let attempts = Attempts::new();
        let now = Instant::now();
        for _ in 0..10 {
            let attempt = attempts
                .count("alice", None, now)
                .expect("it was taken back");
            attempts.take_back(&attempt);
        }
        for _ in 0..5 {
            assert!(attempts.count("alice", None, now).is_ok());
        }
        assert!(attempts.count("alice", None, now).is_err());
    }

    #[test]
    fn a_client_has_thirty_attempts_whatever_the_names_are() {
        let attempts = Attempts::new();
        let (now, here) = (Instant::now(), address("192.0.2.1"));
        let names: Vec<_> = (0..)
            .map(|number| format!("name {number}"))
            .take(100)
            .collect();
        // Two names may share a slot.
        let allowed = names
            .iter()
            .filter(|name| attempts.count(name, here, now).is_ok());
        assert_eq!(allowed.count(), OF_A_CLIENT);
        assert!(attempts.count("alice", address("192.0.2.2"), now).is_ok());
        let later = now + WINDOW;
        let attempt = attempts
            .count("alice", here, later)
            .expect("a minute later");
        attempts.take_back(&attempt);
        let allowed = names
            .iter()
            .filter(|name| attempts.count(name, here, later).is_ok());
        assert_eq!(allowed.count(), OF_A_CLIENT);
    }

    #[test]
    fn a_network_of_ipv6_is_one_client() {
        let of = |text: &str| client_at(text.parse().expect("an address"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::6"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
