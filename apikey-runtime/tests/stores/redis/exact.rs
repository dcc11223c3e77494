//! a quota allows exactly its amount, with any number of callers and any fault of the server.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use apikey_runtime::store::{Charge, LimitCounter, LimitStore, StoreError};
use apikey_runtime::{Quota, Rate, RedisStore};
use apikey_test_support::servers::redis::{DURABLE, RedisServer};
use tokio::runtime::Runtime;

use super::{PATIENCE, redis_server, started};
use crate::id;

/// The number of connections that charge at once.
const CONNECTIONS: usize = 10;

/// The number of attempts of each connection.
const TRIES: usize = 100;

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

fn charge(counter: LimitCounter) -> Charge {
    Charge::new(id(1), 1, vec![counter])
}

fn lifetime(amount: u64) -> LimitCounter {
    LimitCounter::new("credits", Quota::lifetime(amount))
}

/// Returns how many of all attempts were allowed, when each connection tries what `make` returns.
fn allowed<T: FnMut() -> bool>(make: impl Fn() -> T + Sync) -> usize {
    let start = Barrier::new(CONNECTIONS);
    std::thread::scope(|scope| {
        let run = || {
            let mut try_once = make();
            start.wait();
            (0..TRIES).filter(|_| try_once()).count()
        };
        let threads: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(run)).collect();
        let counts = threads.into_iter().map(|thread| thread.join().unwrap());
        counts.sum()
    })
}

/// Charges through a store of its own, as another process has one.
fn charging(server: &RedisServer, charge: &Charge) -> impl FnMut() -> bool {
    let (runtime, charge) = (runtime(), charge.clone());
    let store = runtime.block_on(started(server));
    move || {
        let charged = runtime.block_on(store.charge(&charge));
        charged.unwrap().allowed
    }
}

#[test]
fn r01_a_quota_admits_what_it_says_to_ten_connections() {
    let server = redis_server!();
    for amount in [100, 1] {
        server.command(&["FLUSHALL"]).text();
        for counter in [
            lifetime(amount),
            LimitCounter::new("month", Quota::per_month(amount)),
            LimitCounter::new(
                "rolling",
                Quota::rolling(amount, Duration::from_secs(86_400)),
            ),
            LimitCounter::new("rate", Rate::per_day(1).with_burst(amount as u32)),
        ] {
            let charge = charge(counter);
            assert_eq!(
                allowed(|| charging(&server, &charge)),
                amount as usize,
                "{charge:?}"
            );
        }
    }
}

/// Negative control: reads, and writes afterwards.
#[test]
fn r01_a_count_in_two_steps_is_found_out() {
    let server = redis_server!();
    let (gate, passed) = (Barrier::new(CONNECTIONS), AtomicU64::new(0));
    let in_two_steps = || {
        let mut first = true;
        let (server, gate, passed) = (&server, &gate, &passed);
        move || {
            let used = server.command(&["GET", "used"]).text();
            let used: u64 = used.parse().unwrap_or(0);
            // All have read before one of them writes.
            if std::mem::take(&mut first) {
                gate.wait();
                passed.fetch_add(1, Ordering::Relaxed);
            }
            if used >= 1 {
                return false;
            }
            server.command(&["SET", "used", &(used + 1).to_string()]);
            true
        }
    };
    assert!(allowed(in_two_steps) > 1);
    assert_eq!(passed.into_inner(), CONNECTIONS as u64);
}

#[test]
fn a_server_that_forgets_its_scripts_in_mid_run_counts_on() {
    let server = redis_server!();
    let charge = charge(lifetime(900));
    let (done, flushes) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let begun = Instant::now();
            while !done.load(Ordering::Relaxed) && begun.elapsed() < PATIENCE {
                server.command(&["SCRIPT", "FLUSH"]).text();
                flushes.fetch_add(1, Ordering::Relaxed);
            }
        });
        // A charge whose answer is late may have been counted.
        let late = AtomicU64::new(0);
        // A script that is lost twice in a row is an error, and did not run.
        let tries = || {
            let (runtime, charge, late) = (runtime(), charge.clone(), &late);
            let store = runtime.block_on(started(&server));
            move || loop {
                match runtime.block_on(store.charge(&charge)) {
                    Ok(charged) => return charged.allowed,
                    Err(error @ StoreError::Unavailable { .. }) => {
                        let is_late = error.to_string().contains("no answer within");
                        late.fetch_add(u64::from(is_late), Ordering::Relaxed);
                    }
                    Err(error) => panic!("{error:?}"),
                }
            }
        };
        let total = allowed(tries) as u64;
        done.store(true, Ordering::Relaxed);
        let late = late.into_inner();
        assert!(
            (900 - late.min(900)..=900).contains(&total),
            "{total}, {late} were late"
        );
    });
    assert!(flushes.into_inner() > 0);
}

async fn used(store: &RedisStore) -> u64 {
    let look = Charge::new(id(1), 0, vec![lifetime(LARGE)]);
    LARGE - store.charge(&look).await.unwrap().decisions[0].remaining
}

const LARGE: u64 = 1_000_000_000;

#[tokio::test]
async fn with_its_memory_full_a_server_refuses_and_counts_nothing() {
    let server = redis_server!();
    let store = started(&server).await;
    let charge = charge(lifetime(LARGE));
    store.charge(&charge).await.unwrap();
    server.command(&["CONFIG", "SET", "maxmemory", "1"]).text();
    for _ in 0..3 {
        let error = store.charge(&charge).await.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
        assert!(error.to_string().contains("no memory left"), "{error}");
    }
    let refill = store.refill(&id(1), &lifetime(LARGE), 1).await;
    assert!(matches!(refill, Err(StoreError::Unavailable { .. })));
    server.command(&["CONFIG", "SET", "maxmemory", "0"]).text();
    assert_eq!(used(&store).await, 1);
    assert!(store.charge(&charge).await.unwrap().allowed);
}

/// Charges on four connections until the server is killed; returns how many charges were
/// acknowledged, and how many may have been counted without an answer.
fn charge_until_killed(server: &mut RedisServer) -> (u64, u64) {
    const WRITERS: u64 = 4;
    let (told, charge) = (AtomicU64::new(0), charge(lifetime(LARGE)));
    let (unsure, killed) = (AtomicU64::new(0), AtomicBool::new(false));
    let stores: Vec<_> = (0..WRITERS)
        .map(|_| {
            let runtime = runtime();
            let store = runtime.block_on(started(server));
            (runtime, store)
        })
        .collect();
    std::thread::scope(|scope| {
        for (runtime, store) in stores {
            let (told, unsure, killed, charge) = (&told, &unsure, &killed, &charge);
            scope.spawn(move || {
                loop {
                    if runtime.block_on(store.charge(charge)).is_ok() {
                        told.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    unsure.fetch_add(1, Ordering::Relaxed);
                    if killed.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
        }
        let begun = Instant::now();
        while told.load(Ordering::Relaxed) < 300 && begun.elapsed() < PATIENCE {
            std::thread::yield_now();
        }
        killed.store(true, Ordering::Relaxed);
        server.kill();
    });
    server.restart();
    let told = told.into_inner();
    assert!(told >= 300, "the charges do not succeed");
    (told, unsure.into_inner())
}

/// R-01, S-03.
#[test]
fn r01_a_killed_server_keeps_the_charges_that_it_acknowledged() {
    let mut server = redis_server!(DURABLE);
    let (mut told, mut unsure) = (0, 0);
    for _ in 0..3 {
        let (more, more_unsure) = charge_until_killed(&mut server);
        (told, unsure) = (told + more, unsure + more_unsure);
        let used = runtime().block_on(async { used(&started(&server).await).await });
        assert!(
            (told..=told + unsure).contains(&used),
            "{used} of {told}, {unsure} without an answer"
        );
    }
}

/// Negative control: without persistence, acknowledged charges are lost.
#[test]
fn r01_a_server_without_a_log_on_disk_is_found_out() {
    let mut server = redis_server!();
    let (told, _) = charge_until_killed(&mut server);
    let used = runtime().block_on(async { used(&started(&server).await).await });
    assert!(used < told);
}
