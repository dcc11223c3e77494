//! The defence against guessing: failed attempts, counted by the client's address.
//!
//! Each invalid key in a flood costs a store read. An address with too many failed attempts is
//! therefore denied before the store is queried. The address is blocked, and never the key whose id
//! was guessed.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::OnceLock;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use crate::limit::{Gcra, Rate};

/// The number of sets; a power of two.
const SETS: usize = 4_096;

/// The number of addresses in a set: 65,536 in all sets, in one mebibyte.
const WAYS: usize = 16;

/// What all clients without a known address are counted as. Like the IPv4 addresses, it is in a
/// range that does not contain addresses of clients; see [`counted_as`].
const UNKNOWN: u64 = 2 << 32;

/// The failed attempts of each address that are not worked off yet: GCRA by address, on the uptime.
///
/// Memory is bounded. An address has a slot in one set, chosen by a hash that attackers cannot
/// predict. If the set is full, a new address takes the slot with the fewest failures *and starts
/// from its count*: an address that failed never counts for less than it did.
///
/// So an attacker with many addresses gains nothing by evicting a blocked one. To do so, every
/// other slot of its set has to hold an address that failed as often, which takes as many failed
/// attempts as the defence prevents, and when the blocked address returns, it starts from one of
/// their counts. Such a crowd can only make a new address's *failures* count for more; an address
/// with valid keys does not have any.
#[derive(Debug)]
pub(crate) struct FailedAttempts {
    /// The rate, with a cost of one unit for each failure.
    gcra: Gcra,
    hasher: RandomState,
    /// Allocated at the first failure.
    sets: OnceLock<Box<[Mutex<Set>]>>,
}

type Set = [AddressSlot; WAYS];

/// The state of an address. A slot whose `tat` has passed is free.
#[derive(Debug, Clone, Copy, Default)]
struct AddressSlot {
    address: u64,
    /// When all its failures are worked off, in microseconds of uptime.
    tat: i64,
}

impl FailedAttempts {
    pub(crate) fn new(rate: Rate) -> Self {
        Self {
            gcra: Gcra::of(rate, 1),
            hasher: RandomState::new(),
            sets: OnceLock::new(),
        }
    }

    /// Returns how long the address must wait before its next attempt; `None` if it is not blocked.
    /// All clients without a known address count as one. `now` is the uptime in nanoseconds.
    pub(crate) fn is_blocked(
        &self,
        address: impl Into<Option<IpAddr>>,
        now: u64,
    ) -> Option<Duration> {
        let sets = self.sets.get()?;
        let (address, now) = (counted_as(address.into()), micros(now));
        let tat = {
            let set = self.set(sets, address);
            set.iter().find(|slot| slot.is_of(address, now))?.tat
        };
        let wait = self.gcra.check(tat, now).retry_after?;
        (!wait.is_zero()).then_some(wait)
    }

    /// Records that the address presented an invalid key. `now` is the uptime in nanoseconds.
    pub(crate) fn record_failure(&self, address: impl Into<Option<IpAddr>>, now: u64) {
        let sets = self
            .sets
            .get_or_init(|| (0..SETS).map(|_| Mutex::default()).collect());
        let (address, now) = (counted_as(address.into()), micros(now));
        let mut set = self.set(sets, address);
        let own = set.iter().position(|slot| slot.is_of(address, now));
        // The slot with the lowest `tat`: a free one, if there is one.
        let least = || (0..WAYS).min_by_key(|way| set[*way].tat);
        let way = own.or_else(least).unwrap_or(0);
        // More requests than a burst may be in progress together. `charge` caps the wait as if the
        // burst had just been used up. A time that was read before those of others must not shorten a wait.
        let (tat, _) = self.gcra.charge(set[way].tat, now);
        let tat = tat.max(set[way].tat);
        set[way] = AddressSlot { address, tat };
    }

    fn set<'s>(&self, sets: &'s [Mutex<Set>], address: u64) -> MutexGuard<'s, Set> {
        // Takes the hash's low bits; `SETS` is a power of two.
        let index = self.hasher.hash_one(address) as usize & (SETS - 1);
        // This code cannot panic between two writes, so a set is always consistent.
        sets[index].lock()
    }
}

impl AddressSlot {
    fn is_of(&self, address: u64, now: i64) -> bool {
        self.address == address && self.tat > now
    }
}

/// Converts nanoseconds of uptime to microseconds; every `u64` of nanoseconds fits into an `i64`.
fn micros(nanos: u64) -> i64 {
    (nanos / 1_000).cast_signed()
}

/// Returns what an address is counted as: IPv6 by its /64, the least that a subscriber has (RFC
/// 6177); IPv4 as it is, also if IPv4-mapped; all unknown addresses as one.
///
/// IPv4 addresses map into `0:1::/32`, which does not contain addresses of clients (RFC 4291
/// section 2.4 reserves `::/8`).
fn counted_as(address: Option<IpAddr>) -> u64 {
    match address.map(|address| address.to_canonical()) {
        Some(IpAddr::V4(address)) => (1 << 32) | u64::from(address.to_bits()),
        Some(IpAddr::V6(address)) => (address.to_bits() >> 64) as u64,
        None => UNKNOWN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Five at once, and one more every ten seconds.
    const RATE: Rate = Rate::per_minute(6).with_burst(5);

    const SECOND: u64 = 1_000_000_000;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn fail(attempts: &FailedAttempts, times: usize, address: IpAddr, now: u64) {
        for _ in 0..times {
            attempts.record_failure(address, now);
        }
    }

    /// Threads read the clock, and then take turns in any order.
    #[test]
    fn a_failure_that_is_recorded_late_does_not_shorten_a_wait() {
        let attempts = FailedAttempts::new(RATE);
        let client = address("192.0.2.1");
        fail(&attempts, 5, client, 200 * SECOND);
        let wait = Some(Duration::from_secs(10));
        assert_eq!(attempts.is_blocked(client, 200 * SECOND), wait);
        fail(&attempts, 1, client, 100 * SECOND);
        assert_eq!(attempts.is_blocked(client, 200 * SECOND), wait);
    }

    #[test]
    fn a_burst_passes_and_then_one_in_each_step() {
        let attempts = FailedAttempts::new(RATE);
        let client = address("192.0.2.1");
        let mut now = 100 * SECOND;
        for _ in 0..5 {
            assert_eq!(attempts.is_blocked(client, now), None);
            attempts.record_failure(client, now);
        }
        assert_eq!(
            attempts.is_blocked(client, now),
            Some(Duration::from_secs(10))
        );
        now += 4 * SECOND;
        assert_eq!(
            attempts.is_blocked(client, now),
            Some(Duration::from_secs(6))
        );
        now += 6 * SECOND;
        assert_eq!(attempts.is_blocked(client, now), None);
        attempts.record_failure(client, now);
        assert_eq!(
            attempts.is_blocked(client, now),
            Some(Duration::from_secs(10))
        );
        now += 50 * SECOND;
        fail(&attempts, 4, client, now);
        assert_eq!(attempts.is_blocked(client, now), None);
    }

    #[test]
    fn what_was_under_way_together_makes_no_wait_longer() {
        let attempts = FailedAttempts::new(RATE);
        let client = address("192.0.2.1");
        fail(&attempts, 1_000, client, 0);
        assert_eq!(
            attempts.is_blocked(client, 0),
            Some(Duration::from_secs(10))
        );
    }

    #[test]
    fn r12_who_counts_as_one() {
        for (one, other, same) in [
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", true),
            ("2001:db8:1:2::1", "2001:db8:1:3::1", false),
            ("0.0.0.0", "::", false),
            ("0.0.0.1", "::1", false),
            ("255.255.255.255", "::ffff:ffff", false),
        ] {
            let attempts = FailedAttempts::new(RATE);
            fail(&attempts, 5, address(one), 0);
            let blocked = attempts.is_blocked(address(other), 0).is_some();
            assert_eq!(blocked, same, "{one} {other}");
        }
    }

    #[test]
    fn unknown_addresses_are_one_bucket_of_their_own() {
        let attempts = FailedAttempts::new(RATE);
        for _ in 0..5 {
            attempts.record_failure(None, 0);
        }
        assert!(attempts.is_blocked(None, 0).is_some());
        for known in ["0.0.0.0", "255.255.255.255", "::", "::1", "0:2::1", "::2"] {
            let known = address(known);
            // The /64 of `0:2::1` is reserved, and so not an address of a client.
            let reserved = known == address("0:2::1");
            assert_eq!(attempts.is_blocked(known, 0).is_some(), reserved, "{known}");
        }
    }

    /// Returns the `number`th of many networks.
    fn network(number: u32) -> IpAddr {
        std::net::Ipv6Addr::from_bits(((0x2001_0db8_u128 << 32) | u128::from(number)) << 64).into()
    }

    fn remembered(attempts: &FailedAttempts, now: u64) -> usize {
        let now = micros(now);
        let sets = attempts.sets.get().unwrap();
        let of = |set: &Mutex<Set>| {
            let set = set.lock();
            set.iter().filter(|slot| slot.tat > now).count()
        };
        sets.iter().map(of).sum()
    }

    #[test]
    fn r12_memory_is_bounded_and_a_crowd_frees_no_blocked_address() {
        let attempts = FailedAttempts::new(RATE);
        let client = address("192.0.2.1");
        fail(&attempts, 5, client, 0);
        // Two for each slot.
        for number in 0..2 * 65_536 {
            attempts.record_failure(network(number), 0);
        }
        assert!(remembered(&attempts, 0) <= SETS * WAYS);
        assert!(remembered(&attempts, 0) > SETS * WAYS / 2);
        assert!(attempts.is_blocked(client, 0).is_some());
        // All failures are worked off, and the slots are free again.
        assert_eq!(remembered(&attempts, 100 * SECOND), 0);
        assert_eq!(attempts.is_blocked(client, 100 * SECOND), None);
    }

    #[test]
    fn r12_a_newcomer_starts_from_the_count_of_whom_it_displaces() {
        let attempts = FailedAttempts::new(RATE);
        let client = address("192.0.2.1");
        // Three times as many as there are slots: each set is full of blocked addresses.
        for number in 0..3 * 65_536 {
            fail(&attempts, 5, network(number), 0);
        }
        assert_eq!(remembered(&attempts, 0), SETS * WAYS);
        assert_eq!(attempts.is_blocked(client, 0), None);
        attempts.record_failure(client, 0);
        assert!(attempts.is_blocked(client, 0).is_some());
    }

    #[test]
    fn the_largest_numbers_do_no_harm() {
        let forever = Rate::new(1, Duration::from_secs(366 * 24 * 3_600)).with_burst(100);
        for rate in [forever, Rate::per_second(1_000_000)] {
            let attempts = FailedAttempts::new(rate);
            for now in [0, u64::MAX] {
                fail(&attempts, 3, address("::1"), now);
                assert_eq!(attempts.is_blocked(address("::1"), now), None);
            }
        }
    }
}
