//! The last uses of a key: of its two latest secrets, and from its latest networks.

use std::mem;

use ipnet::IpNet;

use crate::clock::Timestamp;
use crate::key::KeyId;
use crate::store::{MAX_NETWORKS, NetworkUse, SecretUse};

/// The last use of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LastSeen {
    /// The number of rotations that created the secret.
    pub(super) rotations: u64,
    pub(super) at: Timestamp,
    pub(super) network: Option<IpNet>,
}

/// The last uses of a key, within a bound.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct LastUses {
    /// Of the secret that was counted last.
    recent: Option<LastSeen>,
    /// Of another secret. Few keys have two at a time.
    other: Option<Box<LastSeen>>,
    /// The latest networks. Those of `recent` and `other` may be absent, or have an earlier time.
    networks: Vec<(IpNet, Timestamp)>,
}

impl LastUses {
    /// Counts a use like the one before it: of the same secret, and from the same network. Returns
    /// `false` if it is another one.
    #[inline]
    pub(super) fn repeat(&mut self, seen: &LastSeen) -> bool {
        match &mut self.recent {
            Some(recent)
                if recent.rotations == seen.rotations && recent.network == seen.network =>
            {
                recent.at = recent.at.max(seen.at);
                true
            }
            _ => false,
        }
    }

    /// Counts any use. Without `room`, a network replaces another one.
    pub(super) fn see(&mut self, seen: LastSeen, room: bool) {
        let earlier = match self.recent {
            None => {
                self.recent = Some(seen);
                None
            }
            Some(recent) => self.replace(recent, seen),
        };
        if let Some((network, at)) = earlier.and_then(|one| Some((one.network?, one.at))) {
            self.note(network, at, room);
        }
    }

    /// Keeps the later use of each secret, of the two latest secrets. Returns the use that is left.
    fn replace(&mut self, recent: LastSeen, seen: LastSeen) -> Option<LastSeen> {
        if recent.rotations == seen.rotations {
            let (kept, left) = later(recent, seen);
            self.recent = Some(kept);
            return Some(left);
        }
        self.recent = Some(seen);
        let Some(other) = &mut self.other else {
            self.other = Some(Box::new(recent));
            return None;
        };
        if other.rotations == seen.rotations {
            let (kept, left) = later(**other, seen);
            (self.recent, **other) = (Some(kept), recent);
            return Some(left);
        }
        let mut three = [seen, recent, **other];
        three.sort_unstable_by_key(|one| std::cmp::Reverse(one.rotations));
        let [latest, before, left] = three;
        (self.recent, **other) = (Some(latest), before);
        Some(left)
    }

    /// Notes a network; the one that was seen longest ago goes if there are too many.
    fn note(&mut self, network: IpNet, at: Timestamp, room: bool) {
        if let Some((_, last)) = self.networks.iter_mut().find(|(one, _)| *one == network) {
            *last = (*last).max(at);
            return;
        }
        if room && self.networks.len() < MAX_NETWORKS {
            self.networks.push((network, at));
            return;
        }
        let oldest = self.networks.iter_mut().min_by_key(|(_, last)| *last);
        if let Some(oldest) = oldest.filter(|(_, last)| *last <= at) {
            *oldest = (network, at);
        }
    }

    /// Adds the uses that another tally counted.
    pub(super) fn merge(&mut self, mut other: Self) {
        let seen = other.other.take().map(|seen| *seen);
        for seen in seen.into_iter().chain(other.recent.take()) {
            if !self.repeat(&seen) {
                self.see(seen, true);
            }
        }
        for (network, at) in other.networks {
            self.note(network, at, true);
        }
    }

    /// Returns the time of the last use of any secret.
    pub(super) fn latest(&self) -> Option<Timestamp> {
        let recent = self.recent.as_ref().map(|seen| seen.at);
        recent.max(self.other.as_ref().map(|seen| seen.at))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.recent.is_none()
    }

    /// Returns what it takes beside one use, in units of about as much memory.
    pub(super) fn extra(&self) -> usize {
        usize::from(self.other.is_some()) + self.networks.len()
    }

    /// Takes the last uses of the secrets, and then the networks, for the store.
    pub(super) fn into_rows(mut self, key: KeyId) -> (Vec<SecretUse>, Vec<NetworkUse>) {
        let other = self.other.take().map(|seen| *seen);
        let seen: Vec<_> = other.into_iter().chain(self.recent.take()).collect();
        for one in &seen {
            if let Some(network) = one.network {
                self.note(network, one.at, true);
            }
        }
        let secret = |one: &LastSeen| SecretUse::new(key, one.rotations, one.at, one.network);
        let network = |(network, at)| NetworkUse::new(key, network, at);
        let networks = mem::take(&mut self.networks).into_iter().map(network);
        (seen.iter().map(secret).collect(), networks.collect())
    }
}

/// Returns the later use, the second of equally late ones, and the earlier one.
fn later(one: LastSeen, other: LastSeen) -> (LastSeen, LastSeen) {
    if one.at <= other.at {
        (other, one)
    } else {
        (one, other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(rotations: u64, at: i64, network: u8) -> LastSeen {
        LastSeen {
            rotations,
            at: Timestamp::from_millis(at),
            network: net(network).into(),
        }
    }

    fn net(number: u8) -> IpNet {
        format!("192.0.{number}.0/24").parse().unwrap()
    }

    fn uses(all: &[LastSeen]) -> LastUses {
        let mut uses = LastUses::default();
        for seen in all {
            if !uses.repeat(seen) {
                uses.see(*seen, true);
            }
        }
        uses
    }

    /// Number, time and network of each secret's use, and each network with its time.
    type Rows = (Vec<(u64, i64, IpNet)>, Vec<(IpNet, i64)>);

    fn rows(uses: LastUses) -> Rows {
        let (secrets, networks) = uses.into_rows(KeyId::from_u128(1));
        let secret = |one: &SecretUse| (one.rotations, one.at.as_millis(), one.network.unwrap());
        let mut secrets: Vec<_> = secrets.iter().map(secret).collect();
        secrets.sort_unstable();
        let network = |one: &NetworkUse| (one.network, one.at.as_millis());
        let mut networks: Vec<_> = networks.iter().map(network).collect();
        networks.sort_unstable();
        (secrets, networks)
    }

    #[test]
    fn each_of_two_secrets_has_its_last_use_in_any_order() {
        let mut all = [
            seen(4, 1, 1),
            seen(4, 9, 2),
            seen(5, 3, 1),
            seen(5, 7, 3),
            seen(3, 11, 4),
        ];
        for _ in 0..all.len() {
            all.rotate_left(1);
            for reversed in [false, true] {
                let mut all = all;
                if reversed {
                    all.reverse();
                }
                let (secrets, networks) = rows(uses(&all));
                assert_eq!(secrets, [(4, 9, net(2)), (5, 7, net(3))], "{all:?}");
                let expected = [(net(1), 3), (net(2), 9), (net(3), 7), (net(4), 11)];
                assert_eq!(networks, expected, "{all:?}");
            }
        }
    }

    #[test]
    fn a_flood_of_networks_leaves_the_latest() {
        let flood: Vec<_> = (0..=255).map(|at| seen(0, i64::from(at), at)).collect();
        let (secrets, networks) = rows(uses(&flood));
        assert_eq!(secrets, [(0, 255, net(255))]);
        let latest: Vec<_> = (236..=255).map(|at| (net(at), i64::from(at))).collect();
        assert_eq!(networks, latest);
        let all = uses(&flood);
        assert!(all.extra() <= MAX_NETWORKS && all.networks.capacity() <= 2 * MAX_NETWORKS);
        // In any order, and from two tallies.
        let mut mixed: Vec<_> = flood.clone();
        mixed.sort_unstable_by_key(|one| one.at.as_millis() * 101 % 256);
        let mut merged = uses(&mixed[..100]);
        merged.merge(uses(&mixed[100..]));
        assert_eq!(rows(merged), (secrets, networks));
    }

    /// As much memory as it had: the latest networks take the places of others.
    #[test]
    fn without_room_nothing_is_added() {
        let mut all = uses(&[seen(0, 1, 1), seen(0, 2, 2)]);
        let before = all.extra();
        for number in 3..20 {
            all.see(seen(0, i64::from(number), number), false);
        }
        assert_eq!(all.extra(), before);
        assert_eq!(rows(all).1, [(net(18), 18), (net(19), 19)]);
    }

    /// A merge never takes more than both did, each with one use beside what is extra.
    #[test]
    fn what_is_merged_takes_no_more() {
        let one = uses(&[seen(0, 1, 1), seen(1, 2, 2)]);
        let other = uses(&[seen(0, 3, 3), seen(1, 4, 4)]);
        let mut both = one.clone();
        both.merge(other.clone());
        assert!(both.extra() <= one.extra() + other.extra() + 1);
        let networks = [(net(1), 1), (net(2), 2), (net(3), 3), (net(4), 4)];
        assert_eq!(rows(both).1, networks);
    }
}
