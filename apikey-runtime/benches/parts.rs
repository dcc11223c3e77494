//! The parts of a check, each with its heap allocations, to find out which of them became slower.

mod support;

/// The crate's own files, because their items are private.
#[path = "../src/cache"]
mod cache {
    #[allow(
        dead_code,
        unused_imports,
        reason = "this bench uses a part of the file"
    )]
    pub(crate) mod hit_counters;
}
#[path = "../src/usage"]
mod usage {
    #[allow(dead_code, reason = "this bench uses a part of the file")]
    pub(crate) mod labels;
    #[allow(dead_code, reason = "this bench uses a part of the file")]
    pub(crate) mod recent;
    #[allow(
        dead_code,
        unused_imports,
        reason = "this bench uses a part of the file"
    )]
    pub(crate) mod tally;
}
#[path = "../src/util/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    reason = "this bench uses a part of the module, without its tests"
)]
mod util;

/// The items that those files import from the crate.
mod clock {
    pub(crate) use apikey_runtime::Timestamp;
}
mod denied {
    pub(crate) use apikey_runtime::DenyReason;
}
mod key {
    pub(crate) use apikey_runtime::KeyId;
}
mod store {
    pub(crate) use apikey_runtime::store::{NetworkUse, SecretUse};
    pub(crate) use apikey_runtime::usage::MAX_NETWORKS;
}

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use actix_web::rt;
use apikey_runtime::clock::{Clock, SystemClock};
use apikey_runtime::key::{KeyHasher, Sha256Hasher};
use apikey_runtime::{KeyId, Policy, ScopeExpr, Timestamp};
use divan::{AllocProfiler, Bencher, black_box};
use sha2::{Digest, Sha256};

use cache::hit_counters::HitCounters;
use support::keys;
use support::poll::at_once;
use support::routes::Bench;
use usage::tally::{UsageEvent, UsageTally};

#[global_allocator]
static COUNTED: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// Returns a key as long as those that a manager generates.
fn text() -> String {
    keys::text(keys::id(0))
}

#[divan::bench]
fn sha256_of_a_key(bencher: Bencher<'_, '_>) {
    let key = text();
    bencher.bench_local(|| Sha256::digest(black_box(&key)));
}

#[divan::bench]
fn digest_compared(bencher: Bencher<'_, '_>) {
    let (key, hasher) = (text(), Sha256Hasher::new());
    let digest = hasher
        .hash(&key)
        .ok()
        .and_then(|stored| hasher.parse(&stored));
    bencher.bench_local(|| {
        digest
            .as_ref()
            .map(|digest| hasher.verify(black_box(&key), digest))
    });
}

#[divan::bench]
fn crc32_of_a_key(bencher: Bencher<'_, '_>) {
    let key = text();
    bencher.bench_local(|| crc32fast::hash(black_box(key.as_bytes())));
}

#[divan::bench]
fn clock_read(bencher: Bencher<'_, '_>) {
    let clock = SystemClock::new();
    bencher.bench_local(|| clock.read());
}

#[divan::bench]
fn id_parsed(bencher: Bencher<'_, '_>) {
    let id = keys::id(0).to_string();
    bencher.bench_local(|| black_box(&id).parse::<KeyId>());
}

#[divan::bench(threads = [1, 2])]
fn hit_counted(bencher: Bencher<'_, '_>) {
    let counters = HitCounters::default();
    bencher.bench(|| black_box(&counters).count_hit());
}

/// Measures a hit if all threads counted in one place.
#[divan::bench(threads = [1, 2])]
fn hit_counted_in_one_place(bencher: Bencher<'_, '_>) {
    let count = AtomicU64::new(0);
    bencher.bench(|| black_box(&count).fetch_add(1, Ordering::Relaxed));
}

/// Counts a request as usage, of `keys` keys in turn.
#[divan::bench(threads = [1, 2], args = [1, 100, 10_000])]
fn usage_noted(bencher: Bencher<'_, '_>, keys: usize) {
    thread_local! {
        static NEXT: Cell<usize> = const { Cell::new(0) };
    }
    let gather = UsageTally::new();
    let ids: Vec<_> = (0..keys).map(keys::id).collect();
    let note = |id| {
        let used = UsageEvent {
            id,
            at: Timestamp::from_millis(1_000),
            denied: None,
            cost: 1,
            rotations: 0,
            network: None,
        };
        black_box(&gather).record(&used, &|write: &mut dyn FnMut(&str)| {
            for piece in black_box(["/orders/", "{", "id", "}", ""]) {
                write(piece);
            }
        })
    };
    bencher.bench(|| {
        let at = NEXT.replace((NEXT.get() + 1) % keys);
        note(&ids[at])
    });
}

/// Returns a manager with a cached key.
fn warm() -> Bench {
    rt::System::new()
        .block_on(Bench::start())
        .unwrap_or_else(|error| panic!("the manager does not start: {error}"))
}

#[divan::bench]
fn check(bencher: Bencher<'_, '_>) {
    let bench = warm();
    bencher.bench_local(|| at_once(bench.manager.verify(black_box(&bench.key))));
}

#[divan::bench]
fn check_of_a_scope(bencher: Bencher<'_, '_>) {
    let bench = warm();
    let policy = Policy::new().scopes(ScopeExpr::One("orders:read"));
    bencher.bench_local(|| at_once(bench.manager.verify_for(black_box(&bench.key), &policy)));
}

#[divan::bench]
fn check_of_a_typo(bencher: Bencher<'_, '_>) {
    let bench = warm();
    let typo = bench.key.replacen("my_api_", "my_apj_", 1);
    bencher.bench_local(|| at_once(bench.manager.verify(black_box(&typo))));
}

/// The same with an event stream that always lags behind.
#[divan::bench]
fn check_of_a_typo_told(bencher: Bencher<'_, '_>) {
    let bench = warm();
    let _events = bench.manager.events();
    let typo = bench.key.replacen("my_api_", "my_apj_", 1);
    bencher.bench_local(|| at_once(bench.manager.verify(black_box(&typo))));
}
