//! The cache under more keys than it can hold: the share of checks of active keys that the cache
//! still serves, and the cost of the others. The cases are floods of unknown ids, keys that are
//! used once, four times as many keys as the capacity, and concurrent callers of one cold key.

mod support;

use std::alloc::System;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use actix_web::rt;
use apikey_runtime::{ApiKeyManager, DenyReason};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tokio::sync::Semaphore;

use support::keys::EndlessStore;
use support::measure::median;
use support::table::{Table, times};
use support::{Outcome, clock, keys, memory};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The capacity of the cache.
const ROOM: usize = 10_000;
const UNKNOWN: usize = 1_000_000;
const CALLERS: usize = 10_000;

fn main() -> Outcome {
    if !support::asked_for() {
        return Ok(());
    }
    rt::System::new().block_on(async {
        unknown_ids().await?;
        keys_that_come_once().await?;
        more_keys_than_room().await?;
        one_cold_key().await
    })
}

/// A manager whose cache holds [`ROOM`] of the store's keys.
struct Flooded {
    store: Arc<EndlessStore>,
    manager: ApiKeyManager,
}

impl Flooded {
    async fn start(keys: usize) -> Outcome<Self> {
        let store = Arc::new(EndlessStore::new(keys));
        let manager = keys::manager_with_room(&store, ROOM).await?;
        Ok(Self { store, manager })
    }

    /// Checks these keys one after another, and returns how many checks the cache served.
    async fn hits(&self, numbers: impl Iterator<Item = usize>) -> Outcome<usize> {
        let (before, mut checks) = (self.found(), 0);
        for number in numbers {
            self.manager.verify(&keys::text(keys::id(number))).await?;
            checks += 1;
        }
        Ok(checks - (self.found() - before))
    }

    /// Returns how many records the store returned.
    fn found(&self) -> usize {
        self.store.found.load(Ordering::Relaxed)
    }

    /// Presents keys that are well-formed but were never issued.
    async fn refused(&self, numbers: Range<usize>) -> Outcome {
        let checks = numbers.map(|number| {
            let (manager, key) = (self.manager.clone(), keys::text(keys::id(number)));
            async move {
                match manager.verify(&key).await {
                    Err(denied) if denied.reason() == DenyReason::InvalidKey => Ok(()),
                    Err(denied) => Err(denied),
                    Ok(_) => panic!("a key that was never issued was allowed"),
                }
            }
        });
        keys::together(checks).await
    }
}

/// As many active keys as the cache holds, while clients present a million unknown ids.
async fn unknown_ids() -> Outcome {
    let flooded = Flooded::start(ROOM).await?;
    keys::warm(&flooded.manager, 0..ROOM).await?;
    // Unknown ids take a bounded amount of memory, which exists before the flood is measured.
    flooded.refused(ROOM..ROOM + 20_000).await?;
    let (bytes, pages) = (memory::in_use(COUNTED), memory::resident());
    let (first, mut hits, mut checks) = (ROOM + 20_000, 0, 0);
    for batch in 0..UNKNOWN / 1_000 {
        let start = first + batch * 1_000;
        flooded.refused(start..start + 1_000).await?;
        // Each key once in ten batches.
        let live = (0..1_000).map(|each| (batch * 1_000 + each) % ROOM);
        hits += flooded.hits(live).await?;
        checks += 1_000;
    }
    let grown = memory::in_use(COUNTED).saturating_sub(bytes);
    let mut table =
        Table::new("10000 active keys, capacity 10000, 1000000 well-formed unknown ids");
    table.row(
        "active keys served from the cache",
        percent(hits, checks),
        "",
        "90.0 %",
    );
    let size = flooded.manager.health().cached_keys;
    table.row("cached keys after the flood", size.to_string(), "", "");
    let held = flooded.hits(0..ROOM).await?;
    table.row("... that are active", held.to_string(), "", "");
    table.row(
        "bytes in use, added by the flood",
        grown.to_string(),
        "",
        "",
    );
    if let (Some(before), Some(after)) = (pages, memory::resident()) {
        let more = after.saturating_sub(before);
        table.row("... resident", more.to_string(), "", "");
    }
    table.print();
    assert!(hits * 10 >= checks * 9, "{hits} of {checks}");
    flooded.manager.shutdown().await?;
    Ok(())
}

/// Active keys fill four fifths of the cache; as many checks use live keys that never return.
async fn keys_that_come_once() -> Outcome {
    const USED: usize = ROOM / 5 * 4;
    const ONCE: usize = 400_000;
    let flooded = Flooded::start(USED + ONCE).await?;
    let mut numbers = Numbers(1);
    flooded.hits(0..USED).await?;
    let (mut hits, mut checks) = (0, 0);
    for once in USED..USED + ONCE {
        flooded.hits(once..once + 1).await?;
        hits += flooded.hits([numbers.below(USED)].into_iter()).await?;
        checks += 1;
    }
    let mut table = Table::new("8000 active keys, capacity 10000, 400000 other keys once each");
    table.row(
        "active keys served from the cache",
        percent(hits, checks),
        "",
        "90.0 %",
    );
    table.print();
    flooded.manager.shutdown().await?;
    Ok(())
}

/// Four times as many keys as the cache holds; the n-th key is used with a weight of 1/n.
async fn more_keys_than_room() -> Outcome {
    const KEYS: usize = ROOM * 4;
    const CHECKS: usize = 500_000;
    let flooded = Flooded::start(KEYS).await?;
    let mut numbers = Numbers(2);
    let mut zipf =
        |checks: usize| -> Vec<usize> { (0..checks).map(|_| numbers.zipf(KEYS)).collect() };
    flooded.hits(zipf(CHECKS).into_iter()).await?;
    let bytes = memory::in_use(COUNTED);
    let hits = flooded.hits(zipf(CHECKS).into_iter()).await?;
    let grown = memory::in_use(COUNTED).saturating_sub(bytes);
    // The hit ratio if the cache always held the 10,000 most used keys.
    let best = (ROOM as f64 + 1.0).ln() / (KEYS as f64 + 1.0).ln();
    let reached = hits as f64 / CHECKS as f64;
    let mut table = Table::new(
        "40000 keys with Zipf's distribution, capacity 10000; ratio to the best hit ratio",
    );
    table.row(
        "served from the cache",
        percent(hits, CHECKS),
        times(reached / best),
        "",
    );
    table.row(
        "bytes in use, added since half-way",
        grown.to_string(),
        "",
        "",
    );
    table.print();
    flooded.manager.shutdown().await?;
    Ok(())
}

/// Measures concurrent callers that wait for one read of the store.
async fn one_cold_key() -> Outcome {
    const ROUNDS: usize = 21;
    let mut store = EndlessStore::new(2 * ROUNDS);
    store.gate = Some(Semaphore::new(0));
    let store = Arc::new(store);
    let manager = keys::manager(&store).await?;
    let (mut one, mut all, mut most) = (Vec::new(), Vec::new(), 0);
    for round in 0..ROUNDS {
        for (callers, figures) in [(1, &mut one), (CALLERS, &mut all)] {
            let cold = keys::text(keys::id(2 * round + usize::from(callers > 1)));
            let before = store.finds.load(Ordering::Relaxed);
            figures.push(served_after(&store, &manager, &cold, callers).await?);
            most = most.max(store.finds.load(Ordering::Relaxed) - before);
        }
    }
    let mut table = Table::new(
        "concurrent callers of one cold key, from the store's answer to the last served caller",
    );
    let (one, all) = (median(one), median(all));
    table.row("one caller", micros(one), "1.00", "");
    table.row(
        format!("{CALLERS} callers"),
        micros(all),
        times(all / one),
        "",
    );
    table.row(
        "... for each",
        micros(all / CALLERS as f64),
        times(all / one / CALLERS as f64),
        "",
    );
    table.row("... reads of the store", most.to_string(), "", "1");
    table.print();
    assert_eq!(most, 1, "reads of one cold key");
    manager.shutdown().await?;
    Ok(())
}

/// Returns the nanoseconds from the store's answer until all waiting callers are served.
async fn served_after(
    store: &EndlessStore,
    manager: &ApiKeyManager,
    key: &str,
    callers: usize,
) -> Outcome<f64> {
    let asked = Arc::new(AtomicUsize::new(0));
    let mut set = tokio::task::JoinSet::new();
    for _ in 0..callers {
        let (manager, key, asked) = (manager.clone(), key.to_owned(), Arc::clone(&asked));
        set.spawn_local(async move {
            // The check starts in the same poll.
            asked.fetch_add(1, Ordering::Relaxed);
            manager.verify(&key).await.map(drop)
        });
    }
    while asked.load(Ordering::Relaxed) < callers {
        tokio::task::yield_now().await;
    }
    let start = clock::wall();
    if let Some(gate) = &store.gate {
        gate.add_permits(1);
    }
    while let Some(served) = set.join_next().await {
        served??;
    }
    Ok((clock::wall() - start) as f64)
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
        (self.next() % end as u64) as usize
    }

    /// Uses the inverse of the integral of 1/n.
    fn zipf(&mut self, keys: usize) -> usize {
        let unit = self.next() as f64 / u64::MAX as f64;
        ((keys as f64 + 1.0).powf(unit) as usize - 1).min(keys - 1)
    }
}

fn percent(part: usize, whole: usize) -> String {
    format!("{:.1} %", part as f64 * 100.0 / whole as f64)
}

fn micros(nanos: f64) -> String {
    format!("{:.1} us", nanos / 1_000.0)
}
