//! Tests of the map and of its eviction order.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{LazyLock, mpsc};

use proptest::prelude::*;

use super::*;
use crate::clock::{Clock, ManualClock, Timestamp};
use crate::key::{KeyHasher, Sha256Hasher};
use crate::record::KeyRecord;

pub(super) fn id(number: usize) -> KeyId {
    // Spreads the ids over the shards, which are selected by the last characters.
    KeyId::from_u128((number as u128 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835))
}

fn entry(id: KeyId) -> Arc<CachedKey> {
    entry_with(id, |_| ())
}

pub(super) fn entry_with(id: KeyId, change: impl FnOnce(&mut KeyRecord)) -> Arc<CachedKey> {
    static DIGEST: LazyLock<String> = LazyLock::new(|| Sha256Hasher::new().hash("any").unwrap());
    let (hasher, created) = (Sha256Hasher::new(), Timestamp::from_millis(0));
    let mut record = KeyRecord::new(id, "my_api", "label", DIGEST.clone(), created);
    change(&mut record);
    Arc::new(
        CachedKey::of(
            record,
            &hasher,
            &crate::limiter::Plans::default(),
            Timestamp::MAX,
        )
        .unwrap(),
    )
}

pub(super) fn now() -> ClockReading {
    ManualClock::starting_now().read()
}

/// Performs a read whose answer is `found`.
pub(super) fn read(cache: &Cache, id: &KeyId, found: Option<&mut Arc<CachedKey>>) {
    let generation = cache.shard(id).enter(|_, generation| generation);
    cache.commit_if_current(id, generation, now(), found);
}

fn fill(cache: &Cache, numbers: std::ops::Range<usize>) {
    numbers.for_each(|number| read(cache, &id(number), Some(&mut entry(id(number)))));
}

pub(super) fn holds(cache: &Cache, id: &KeyId) -> bool {
    cache
        .peek(id.as_text(), |entry| entry.id == *id && !entry.is_stale())
        .unwrap_or(false)
}

/// Evicts the first entry of the map, as the cache did before it had a queue.
fn drop_any(cache: &Cache) {
    let any = cache.map.begin_sync().map(|entry| entry.key().0.id);
    if let Some(any) = any {
        cache.remove(&any);
    }
}

/// Returns whether a check of `id` is a hit; otherwise reads it. `make_room` runs before the
/// cache's own eviction.
fn ask(cache: &Cache, id: &KeyId, make_room: fn(&Cache)) -> bool {
    if holds(cache, id) {
        return true;
    }
    if cache.len() >= cache.capacity {
        make_room(cache);
    }
    read(cache, id, Some(&mut entry(*id)));
    false
}

/// Asserts the invariants that hold whenever the queue is unlocked.
fn assert_consistent(cache: &Cache) {
    let queue = cache.queue();
    assert!(cache.len() <= cache.capacity);
    assert_eq!(cache.map.len(), cache.len(), "the count of entries");
    assert_eq!(queue.slots() - queue.gone(), cache.len(), "one slot each");
    let live = queue.entries().filter(|entry| !entry.is_stale());
    let mut slots = 0;
    for entry in live {
        let same = |held: &ById, (): &()| Arc::ptr_eq(&held.0, entry);
        assert_eq!(cache.map.peek_with(&entry.id, same), Some(true));
        slots += 1;
    }
    assert_eq!(slots, cache.len());
}

/// Random numbers that are the same in every run (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    /// Returns one of `keys`, with Zipf's distribution: the n-th comes half as often as the n/2-th.
    fn zipf(&mut self, keys: usize) -> usize {
        let unit = self.next() as f64 / u64::MAX as f64;
        // The inverse of the harmonic sum's integral.
        ((keys as f64 + 1.0).powf(unit) as usize - 1).min(keys - 1)
    }
}

/// Returns the hit ratio of 500 keys in steady use, with Zipf's distribution, while two of three
/// checks use a key that never returns.
fn hits_under_a_scan(make_room: fn(&Cache)) -> f64 {
    const HOT: usize = 500;
    let (cache, mut numbers) = (Cache::new(625), Numbers(1));
    let (mut hits, mut checks) = (0, 0);
    for round in 0..30_000 {
        let hot = id(numbers.zipf(HOT));
        let hit = ask(&cache, &hot, make_room);
        if round >= 10_000 {
            checks += 1;
            hits += usize::from(hit);
        }
        for once in 0..2 {
            ask(&cache, &id(HOT + round * 2 + once), make_room);
        }
    }
    assert_consistent(&cache);
    f64::from(hits as u32) / f64::from(checks)
}

#[test]
fn keys_in_use_stay_while_many_others_are_asked_for_once() {
    let kept = hits_under_a_scan(|_| {});
    assert!(kept >= 0.95, "{kept}");
}

/// The negative control of the test above. If the first entry of the map leaves first, the rest of
/// the map fills with keys that never return, and stays so.
#[test]
fn with_any_entry_dropped_the_keys_in_use_do_not_stay() {
    let kept = hits_under_a_scan(drop_any);
    assert!(kept < 0.5, "{kept}");
}

#[test]
fn a_working_set_of_four_times_the_room_is_served_mostly_from_it() {
    let (cache, mut numbers) = (Cache::new(500), Numbers(2));
    let hits = |numbers: &mut Numbers| {
        let hit = (0..20_000).filter(|_| ask(&cache, &id(numbers.zipf(2_000)), |_| {}));
        hit.count()
    };
    hits(&mut numbers);
    // With the 500 most used keys always cached: ln 501 / ln 2001 = 0.818.
    let hits = hits(&mut numbers);
    assert!(hits > 20_000 * 75 / 100, "{hits}");
}

#[test]
fn one_scan_of_many_live_keys_takes_no_hot_key_along() {
    let cache = Cache::new(1_000);
    fill(&cache, 0..900);
    assert!((0..900).all(|number| holds(&cache, &id(number))));
    fill(&cache, 10_000..110_000);
    // The entries in use at the first eviction are passed over 256 times, and then one leaves.
    let kept = (0..900).filter(|number| holds(&cache, &id(*number)));
    assert!(kept.count() >= 890);
    assert_consistent(&cache);
}

#[test]
fn ids_that_the_store_does_not_know_push_no_key_out() {
    let cache = Cache::new(100);
    fill(&cache, 0..100);
    for number in 1_000..51_000 {
        read(&cache, &id(number), None);
    }
    assert!((0..100).all(|number| holds(&cache, &id(number))));
    assert_eq!((cache.len(), cache.queue().slots()), (100, 100));
    // They are remembered apart from the entries, in bounded number.
    let unknown = cache
        .shards
        .iter()
        .map(|shard| shard.enter(|state, _| state.unknown.len()));
    assert_eq!(unknown.sum::<usize>(), SHARDS * UNKNOWN_PER_SHARD);
}

#[test]
fn a_new_set_of_keys_in_use_takes_the_place_of_the_old_one() {
    let (cache, mut numbers) = (Cache::new(500), Numbers(3));
    let mut hits = |first: usize| {
        let mut once = first * 1_000_000;
        let asked = (0..20_000).filter(|_| {
            once += 1;
            ask(&cache, &id(1_000_000 + once), |_| {});
            ask(&cache, &id(first + numbers.below(400)), |_| {})
        });
        asked.count()
    };
    assert!(hits(0) > 18_000);
    assert!(hits(10_000) > 18_000);
}

#[test]
fn changes_without_end_leave_no_slots_without_end() {
    let cache = Cache::new(1_000);
    fill(&cache, 0..1_000);
    for round in 0..20_000 {
        let changed = id(round % 7);
        cache.evict(&changed);
        read(&cache, &changed, Some(&mut entry(changed)));
        // A read for a `fresh` route: the entry is replaced.
        read(&cache, &changed, Some(&mut entry(changed)));
        assert!(cache.queue().slots() < 1_400, "{}", cache.queue().slots());
    }
    assert_eq!(cache.len(), 1_000);
    assert_consistent(&cache);
}

#[test]
fn what_leaves_for_want_of_room_is_believed_no_more() {
    let cache = Cache::new(1);
    let mut first = entry(id(1));
    read(&cache, &id(1), Some(&mut first));
    read(&cache, &id(2), Some(&mut entry(id(2))));
    assert!(first.is_stale() && holds(&cache, &id(2)));
}

/// A check that waits for a poll holds the entry that it found, and asks the entry whether it is still in the map.
#[test]
fn an_entry_that_leaves_the_map_is_stale_for_those_who_hold_it() {
    let leaves: [fn(&Cache); 4] = [
        |cache| cache.evict(&id(1)),
        |cache| cache.flush(),
        |cache| read(cache, &id(1), Some(&mut entry(id(1)))),
        |cache| read(cache, &id(1), None),
    ];
    for (way, leave) in leaves.iter().enumerate() {
        let cache = Cache::new(10);
        fill(&cache, 0..3);
        let held = cache.peek(id(1).as_text(), Arc::clone).unwrap();
        cache.evict(&id(2));
        assert!(!held.is_stale(), "{way}");
        leave(&cache);
        assert!(held.is_stale(), "{way}");
    }
}

#[test]
fn without_room_nothing_is_kept() {
    let cache = Cache::new(0);
    fill(&cache, 0..10);
    cache.evict(&id(1));
    cache.flush();
    assert_eq!(cache.len(), 0);
    assert!(!(0..10).any(|number| holds(&cache, &id(number))));
}

#[test]
fn room_for_one_holds_the_last_one() {
    let cache = Cache::new(1);
    for number in 0..100 {
        fill(&cache, number..number + 1);
        assert!(holds(&cache, &id(number)), "{number}");
        assert_consistent(&cache);
    }
}

/// If all entries are in use, a read does not visit all of them.
#[test]
fn the_search_for_an_unused_entry_has_an_end() {
    let cache = Cache::new(2_000);
    fill(&cache, 0..2_000);
    assert!((0..2_000).all(|number| holds(&cache, &id(number))));
    fill(&cache, 5_000..5_001);
    let queue = cache.queue();
    let unused = queue.entries().filter(|entry| !entry.take_used());
    assert_eq!(unused.count(), 256 + 1);
    drop(queue);
    assert_consistent(&cache);
}

/// A hit is served while another thread holds every lock of the cache.
#[test]
fn a_hit_waits_for_no_lock() {
    let cache = Arc::new(Cache::new(10));
    fill(&cache, 0..1);
    let (sender, seen) = mpsc::channel();
    let _queue = cache.queue();
    cache.shard(&id(0)).enter(|_, _| {
        let cache = Arc::clone(&cache);
        std::thread::spawn(move || sender.send(holds(&cache, &id(0))));
        assert_eq!(seen.recv_timeout(Duration::from_secs(30)), Ok(true));
    });
}

#[test]
fn readers_changes_and_flushes_at_once_leave_a_whole_cache() {
    let cache = Arc::new(Cache::new(32));
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let works = (0..4_u64).map(|seed| {
            let cache = &cache;
            scope.spawn(move || {
                let mut numbers = Numbers(seed);
                for _ in 0..20_000 {
                    let id = id(numbers.below(64));
                    match numbers.below(100) {
                        0 => cache.flush(),
                        1..20 => cache.evict(&id),
                        20..30 => read(cache, &id, None),
                        _ => drop(ask(cache, &id, |_| {})),
                    }
                }
            })
        });
        let works: Vec<_> = works.collect();
        let watch = scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                assert!(cache.len() <= 32);
                assert_consistent(&cache);
            }
        });
        works.into_iter().for_each(|work| work.join().unwrap());
        over.store(true, Ordering::SeqCst);
        watch.join().unwrap();
    });
    assert_consistent(&cache);
}

#[derive(Debug, Clone)]
enum TableStep {
    Ask(usize),
    Replace(usize),
    Change(usize),
    UnknownId(usize),
    Flush,
}

fn steps() -> impl Strategy<Value = Vec<TableStep>> {
    let step = prop_oneof![
        8 => (0_usize..24).prop_map(TableStep::Ask),
        2 => (0_usize..24).prop_map(TableStep::Replace),
        2 => (0_usize..24).prop_map(TableStep::Change),
        1 => (0_usize..24).prop_map(TableStep::UnknownId),
        1 => Just(TableStep::Flush),
    ];
    prop::collection::vec(step, 0..150)
}

proptest! {
    /// Compares with a plain map of the last reads: the cache may hold less, never another record
    /// and never more.
    #[test]
    fn what_the_cache_holds_is_what_was_read_last(capacity in 0_usize..20, steps in steps()) {
        let cache = Cache::new(capacity);
        let mut last = HashMap::new();
        for step in steps {
            match step {
                TableStep::Ask(number) | TableStep::Replace(number) => {
                    let asked = matches!(step, TableStep::Ask(_));
                    if !(asked && holds(&cache, &id(number))) {
                        let mut fresh = entry(id(number));
                        read(&cache, &id(number), Some(&mut fresh));
                        last.insert(number, fresh);
                        prop_assert_eq!(holds(&cache, &id(number)), capacity > 0);
                    }
                }
                TableStep::Change(number) => {
                    cache.evict(&id(number));
                    last.remove(&number);
                }
                TableStep::UnknownId(number) => {
                    read(&cache, &id(number), None);
                    last.remove(&number);
                }
                TableStep::Flush => {
                    cache.flush();
                    last.clear();
                }
            }
            for number in 0..24 {
                // Looks up without `peek`, so that the lookup does not count as a use.
                let held = cache.map.peek_with(&id(number), |held, ()| Arc::clone(&held.0));
                if let Some(held) = held {
                    prop_assert!(!held.is_stale());
                    prop_assert!(last.get(&number).is_some_and(|last| Arc::ptr_eq(last, &held)));
                }
            }
            assert_consistent(&cache);
        }
    }
}
