//! Tests of owners' changes: which entries they reach, and which reads they end.

use std::sync::{RwLock, mpsc};

use tokio::sync::watch;

use super::tests::{entry_with, holds, id, now, read};
use super::*;

/// The state of an owner: its version, its revocations, and whether it is suspended.
fn state(version: u64, revocations: u64, suspended: bool) -> OwnerState {
    OwnerState::new()
        .with_version(version)
        .with_revocations(revocations)
        .with_suspended(suspended)
}

/// The entry of a live key of `owner`, as a store in this state returns it.
fn owned(number: usize, owner: &str, state: OwnerState) -> Arc<CachedKey> {
    entry_with(id(number), |record| {
        record.owner = Some(owner.to_owned());
        record.owner_revocations = state.revocations;
        record.owner_state = Some(state);
    })
}

/// Reads a live key of `owner` into the cache.
fn fill(cache: &Cache, number: usize, owner: &str, state: OwnerState) {
    read(cache, &id(number), Some(&mut owned(number, owner, state)));
}

/// Returns whether a check finds the key revoked, and whether it finds it suspended; `None` if it has
/// to read the key.
fn facts(cache: &Cache, number: usize) -> Option<(bool, bool)> {
    let facts = cache.peek(id(number).as_text(), |entry| {
        let changes = cache.owner_changes();
        let validity = entry.validity(changes);
        (!entry.is_stale() && !entry.is_owner_stale(changes))
            .then_some((validity.revoked, validity.suspended))
    });
    facts.flatten()
}

fn change(cache: &Cache, owner: &str, state: OwnerState) {
    cache.owners_changed(&[(owner.to_owned(), state)]);
}

const LIVE: Option<(bool, bool)> = Some((false, false));
const SUSPENDED: Option<(bool, bool)> = Some((false, true));
const REVOKED: Option<(bool, bool)> = Some((true, false));

#[test]
fn a_change_of_an_owner_reaches_all_of_its_entries_and_no_others() {
    let cache = Cache::new(1_000);
    // Owners' names may look like key ids, and be empty.
    let names = ["acme", "", id(1).as_str(), "other"].map(str::to_owned);
    for (at, name) in names.iter().enumerate() {
        (0..100).for_each(|number| fill(&cache, at * 100 + number, name, state(1, 0, false)));
    }
    for (version, revocations, suspended, expected) in [
        (2, 0, true, SUSPENDED),
        (3, 0, false, LIVE),
        (4, 0, true, SUSPENDED),
        (5, 1, true, REVOKED),
        (6, 1, false, REVOKED),
    ] {
        for (at, name) in names.iter().enumerate().take(3) {
            let reached = |cache: &Cache| {
                (0..100)
                    .map(|number| facts(cache, at * 100 + number))
                    .collect::<Vec<_>>()
            };
            // Checked before too, so that each entry has noted a count.
            reached(&cache);
            change(&cache, name, state(version, revocations, suspended));
            assert_eq!(reached(&cache), [expected; 100], "{name:?} {version}");
        }
        assert!((300..400).all(|number| facts(&cache, number) == LIVE));
    }
}

/// A read that began before the change has the old state, and commits after it. No entry of the
/// owner is in memory, so the change does not find a mark.
#[test]
fn a_read_that_began_before_an_owners_change_is_not_kept() {
    let late = |follow: fn(&Cache)| {
        let cache = Cache::new(10);
        let generation = cache.shard(&id(1)).enter(|_, generation| generation);
        let mut old = owned(1, "acme", state(1, 0, false));
        follow(&cache);
        cache.commit_if_current(&id(1), generation, now(), Some(&mut old));
        // Nor may an earlier guard's answer of that read serve a later guard.
        (facts(&cache, 1), cache.shard(&id(1)).is_current(generation))
    };
    let followed = late(|cache| change(cache, "acme", state(2, 1, false)));
    assert_eq!(followed, (None, false));
    // Negative control: without the first step, the key stays live.
    let raised = late(|cache| cache.raise_owners(&[("acme".to_owned(), state(2, 1, false))]));
    assert_eq!(raised, (LIVE, true));
}

#[test]
fn reads_in_flight_are_detached_by_an_owners_change() {
    let cache = Cache::new(10);
    let (_sender, outcome) = watch::channel(None);
    for number in 0..1_000 {
        cache.shard(&id(number)).enter(|state, generation| {
            let read = InFlightRead {
                generation,
                number: 1,
                outcome: outcome.clone(),
            };
            state.in_flight.insert(id(number), read);
            state.remember_unknown(id(number + 1_000), now());
        });
    }
    let joinable = || {
        cache
            .shards
            .iter()
            .map(|shard| shard.enter(|state, _| state.in_flight.len()))
    };
    assert_eq!(joinable().sum::<usize>(), 1_000);
    change(&cache, "acme", state(2, 0, true));
    assert_eq!(joinable().sum::<usize>(), 0);
    // What is known of unknown ids does not depend on owners.
    let unknown = cache
        .shards
        .iter()
        .map(|shard| shard.enter(|state, _| state.unknown.len()));
    assert_ne!(unknown.sum::<usize>(), 0);
}

/// Reads arrive in another order than the store answered them, before a poll brings the change.
#[test]
fn a_read_that_knows_more_raises_the_mark_and_one_that_knows_less_does_not() {
    let cache = Cache::new(10);
    fill(&cache, 1, "acme", state(1, 0, false));
    assert_eq!(facts(&cache, 1), LIVE);
    fill(&cache, 2, "acme", state(2, 0, true));
    assert_eq!([1, 2].map(|number| facts(&cache, number)), [SUSPENDED; 2]);
    fill(&cache, 3, "acme", state(1, 0, false));
    assert_eq!([1, 3].map(|number| facts(&cache, number)), [SUSPENDED; 2]);
    // A key that was created after all were revoked.
    fill(&cache, 4, "acme", state(4, 1, false));
    let all = [1, 2, 3, 4].map(|number| facts(&cache, number));
    assert_eq!(all, [REVOKED, REVOKED, REVOKED, LIVE]);
    // The late answer of a read that saw neither.
    fill(&cache, 5, "acme", state(1, 0, false));
    assert_eq!(facts(&cache, 5), REVOKED);
    // The poll brings what the reads knew already.
    change(&cache, "acme", state(4, 1, false));
    let all = [1, 2, 3, 4, 5].map(|number| facts(&cache, number));
    assert_eq!(all, [REVOKED, REVOKED, REVOKED, LIVE, REVOKED]);
    change(&cache, "acme", state(5, 2, false));
    assert_eq!(facts(&cache, 4), REVOKED);
}

/// The local call and a poll that read the store before it follow the same owner.
#[test]
fn a_change_that_arrives_late_lowers_nothing() {
    let cache = Cache::new(10);
    fill(&cache, 1, "acme", state(1, 0, false));
    change(&cache, "acme", state(3, 0, false));
    change(&cache, "acme", state(2, 0, true));
    // Read again, and not suspended.
    assert_eq!(facts(&cache, 1), None);
    fill(&cache, 1, "acme", state(3, 0, false));
    assert_eq!(facts(&cache, 1), LIVE);
    change(&cache, "acme", state(5, 1, true));
    change(&cache, "acme", state(4, 0, false));
    assert_eq!(facts(&cache, 1), REVOKED);
}

/// The number of a key is that of its creation. The store's own mark of the record counts too.
#[test]
fn a_key_that_its_read_finds_revoked_stays_so() {
    let cache = Cache::new(10);
    let mut dead = entry_with(id(1), |record| {
        record.owner = Some("acme".to_owned());
        record.owner_state = Some(state(2, 1, false));
    });
    read(&cache, &id(1), Some(&mut dead));
    fill(&cache, 2, "acme", state(2, 1, false));
    assert_eq!([1, 2].map(|number| facts(&cache, number)), [REVOKED, LIVE]);
    change(&cache, "acme", state(3, 1, true));
    assert_eq!(facts(&cache, 1), Some((true, true)));
    assert_eq!(facts(&cache, 2), SUSPENDED);
}

/// A store that was restored has lower versions, and an owner that is not suspended any more.
#[test]
fn after_a_flush_versions_may_be_lower() {
    let cache = Cache::new(10);
    fill(&cache, 1, "acme", state(9, 3, true));
    let generation = cache.shard(&id(2)).enter(|_, generation| generation);
    cache.flush();
    assert_eq!((facts(&cache, 1), cache.owners.len()), (None, 0));
    // A read of the history before it brings no mark back.
    let mut old = owned(2, "acme", state(9, 3, true));
    cache.commit_if_current(&id(2), generation, now(), Some(&mut old));
    assert_eq!((facts(&cache, 2), cache.owners.len()), (None, 0));
    fill(&cache, 1, "acme", state(2, 1, false));
    assert_eq!(facts(&cache, 1), LIVE);
    change(&cache, "acme", state(3, 2, false));
    assert_eq!(facts(&cache, 1), REVOKED);
}

/// A change that is older than the mark was overtaken by another, or the store was restored: what is
/// true of the owner's keys is not known.
#[test]
fn a_change_that_does_not_follow_the_mark_makes_the_owners_keys_be_read_again() {
    for behind in [state(4, 4, false), state(4, 3, true), state(9, 4, false)] {
        let cache = Cache::new(10);
        fill(&cache, 1, "acme", state(9, 3, false));
        fill(&cache, 2, "other", state(1, 0, false));
        assert_eq!((facts(&cache, 1), facts(&cache, 2)), (LIVE, LIVE));
        // A poll and the call itself follow the same change.
        change(&cache, "acme", state(9, 3, false));
        assert_eq!(facts(&cache, 1), LIVE);
        change(&cache, "acme", behind);
        assert_eq!((facts(&cache, 1), facts(&cache, 2)), (None, LIVE));
        fill(&cache, 1, "acme", behind);
        let seen = Some((false, behind.suspended));
        assert_eq!(facts(&cache, 1), seen);
        change(&cache, "acme", state(10, 5, false));
        assert_eq!(facts(&cache, 1), REVOKED);
    }
}

/// Without a flush, the marks of the history before count: a restored store is found by a poll.
#[test]
fn without_a_flush_lower_versions_are_not_followed() {
    let cache = Cache::new(10);
    fill(&cache, 1, "acme", state(9, 3, true));
    fill(&cache, 1, "acme", state(2, 3, false));
    assert_eq!(facts(&cache, 1), SUSPENDED);
}

#[test]
fn marks_that_no_entry_uses_are_swept_and_others_stay() {
    let cache = Cache::new(1_000);
    fill(&cache, 0, "acme", state(1, 0, false));
    for number in 1..100_000 {
        // In steady use, so the entry stays.
        assert!(holds(&cache, &id(0)));
        fill(
            &cache,
            number,
            &format!("owner {number}"),
            state(1, 0, false),
        );
        if number % 1_000 == 0 {
            // Of each shard's marks, half and the spare part may be unused. Which shard an owner is
            // in depends on the process, and so does the exact number. Without sweeps it is `number`.
            assert!(cache.owners.len() < 10_000, "{}", cache.owners.len());
        }
    }
    assert_eq!(facts(&cache, 0), LIVE);
    change(&cache, "acme", state(2, 1, false));
    assert_eq!(facts(&cache, 0), REVOKED);
}

/// A check of a warm key is served while another thread holds the locks of all marks. It does not
/// look at the mark, either, while no owner changes.
#[test]
fn a_hit_takes_no_lock_of_a_mark_and_looks_only_after_a_change() {
    let cache = Arc::new(Cache::new(10));
    fill(&cache, 0, "acme", state(1, 0, false));
    assert_eq!(facts(&cache, 0), LIVE);
    cache.owners.follow("acme", state(2, 0, true));
    assert_eq!(facts(&cache, 0), LIVE, "the count did not move");
    cache.owners.count_change();
    let (sender, seen) = mpsc::channel();
    cache.owners.with_all_locked(|| {
        let cache = Arc::clone(&cache);
        std::thread::spawn(move || sender.send(facts(&cache, 0)));
        assert_eq!(seen.recv_timeout(Duration::from_secs(30)), Ok(SUSPENDED));
    });
}

/// The owner's state of the store that the threads below read: one word, so that a read is a
/// snapshot. Each revocation is a version.
fn stored(revocations: &AtomicUsize) -> OwnerState {
    let revocations = revocations.load(Ordering::SeqCst) as u64;
    state(1 + revocations, revocations, false)
}

#[test]
fn reads_changes_and_flushes_at_once_leave_no_entry_with_a_mark_of_its_own() {
    const OWNERS: usize = 3;
    let cache = Cache::new(32);
    let store: [AtomicUsize; OWNERS] = Default::default();
    // The manager's thread follows changes and flushes: one after the other.
    let manager = RwLock::new(());
    std::thread::scope(|scope| {
        for thread in 0..4_usize {
            let (cache, store, manager) = (&cache, &store, &manager);
            scope.spawn(move || {
                for round in 0..20_000_usize {
                    let number = (round * 7 + thread * 13) % 48;
                    let (owner, name) = (number % OWNERS, format!("owner {}", number % OWNERS));
                    let generation = cache.shard(&id(number)).enter(|_, generation| generation);
                    let seen = stored(&store[owner]);
                    match round % 50 {
                        0 => {
                            let _alone = manager.write().unwrap();
                            cache.flush();
                        }
                        1..4 => {
                            let _following = manager.read().unwrap();
                            store[owner].fetch_add(1, Ordering::SeqCst);
                            change(cache, &name, stored(&store[owner]));
                            // A key of the count before is not live any more.
                            let live = cache.peek(id(number).as_text(), |entry| {
                                let changes = cache.owner_changes();
                                let dead = entry.is_stale()
                                    || entry.is_owner_stale(changes)
                                    || entry.validity(changes).revoked;
                                entry.owner() == Some(&name)
                                    && !dead
                                    && entry.label() == seen.revocations.to_string()
                            });
                            assert_ne!(live, Some(true));
                        }
                        _ => {
                            let mut entry = entry_with(id(number), |record| {
                                record.label = seen.revocations.to_string();
                                record.owner = Some(name);
                                record.owner_revocations = seen.revocations;
                                record.owner_state = Some(seen);
                            });
                            cache.commit_if_current(
                                &id(number),
                                generation,
                                now(),
                                Some(&mut entry),
                            );
                            let _ = facts(cache, number);
                        }
                    }
                }
            });
        }
    });
    for (owner, revocations) in store.iter().enumerate() {
        revocations.fetch_add(1, Ordering::SeqCst);
        change(&cache, &format!("owner {owner}"), stored(revocations));
    }
    assert!((0..48).all(|number| facts(&cache, number).is_none_or(|(revoked, _)| revoked)));
}
