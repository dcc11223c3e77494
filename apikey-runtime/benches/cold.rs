//! Checks of keys that are not in memory, on each store: one at a time, as a ratio to the client's own read of the same
//! record, and 256 at once.
//!
//! `cargo bench .. --bench cold -- Redis` measures only the stores that are named. PostgreSQL and Redis are servers of the
//! bench's own on loopback; a server that is not installed is skipped. The same store without batches, in turns with it,
//! shows what they gain.

mod servers;
mod support;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use apikey_runtime::{ApiKeyManager, KeyStore, NewKey, Policy};
use apikey_test_support::patient_manager;
use apikey_test_support::store::{Forward, Forwarding};
use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinSet, LocalSet};

use servers::places::{Client, Place};
use support::measure::{Work, in_turns, median};
use support::table::{Table, times};
use support::{Outcome, clock};

/// Rounds of single reads.
const READS: usize = 2_000;

/// Keys that are checked at once, and in total for each round.
const AT_ONCE: usize = 256;
const KEYS: usize = 10_000;
const ROUNDS: usize = 5;

/// Longer than a read takes while other programs have the machine. A read that takes longer is repeated, and then denied.
const LEASE: Duration = Duration::from_secs(60);

fn main() -> Outcome {
    if !support::asked_for() {
        return Ok(());
    }
    let names: Vec<String> = std::env::args().skip(1).collect();
    let all = names.iter().all(|name| name.starts_with('-'));
    let wanted = |name: &str| all || names.iter().any(|wanted| wanted == name);
    let mut places = Place::every(|name| name != "Redis" && wanted(name))?;
    if wanted("Redis") {
        places.extend(Place::redis_in_memory());
    }
    print_load("before")?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    for place in &places {
        LocalSet::new().block_on(&runtime, many_at_once(place))?;
        one_at_once(&runtime, place)?;
    }
    print_load("after")
}

fn print_load(when: &str) -> Outcome {
    if let Ok(load) = std::fs::read_to_string("/proc/loadavg") {
        println!("\nload average {when}: {}", load.trim());
    }
    Ok(())
}

/// A store that reads one record for each call.
#[derive(Debug)]
struct Singly(Arc<dyn KeyStore>);

impl Forward for Singly {
    fn inner(&self) -> &dyn KeyStore {
        &*self.0
    }
}

/// Runs `work` for each number below `count`, `at_once` of them concurrently. Returns the nanoseconds that passed and those
/// of CPU time of this process, for each.
async fn crowd<F>(
    count: usize,
    at_once: usize,
    work: impl Fn(usize) -> F + 'static,
) -> Outcome<[f64; 2]>
where
    F: Future<Output = ()> + 'static,
{
    let (next, work) = (Rc::new(Cell::new(0)), Rc::new(work));
    let mut tasks = JoinSet::new();
    let before = [clock::wall(), clock::process()];
    for _ in 0..at_once {
        let (next, work) = (Rc::clone(&next), Rc::clone(&work));
        tasks.spawn_local(async move {
            while next.get() < count {
                let number = next.replace(next.get() + 1);
                work(number).await;
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended?;
    }
    let passed = [clock::wall() - before[0], clock::process() - before[1]];
    Ok(passed.map(|nanos| nanos as f64 / count as f64))
}

async fn keys(manager: &ApiKeyManager, count: usize) -> Outcome<Rc<Vec<NewKey>>> {
    let keys = Rc::new(std::cell::RefCell::new(Vec::with_capacity(count)));
    let (manager, created) = (manager.clone(), Rc::clone(&keys));
    let create = move |_| {
        let (manager, created) = (manager.clone(), Rc::clone(&created));
        async move {
            let key = manager.create("MY_FIRST_KEY").await;
            let key = key.unwrap_or_else(|error| panic!("creating a key: {error}"));
            created.borrow_mut().push(key);
        }
    };
    // With more, one waits on a busy machine for the connection that writes until it is given up.
    crowd(count, 8, create).await?;
    Ok(Rc::new(keys.take()))
}

/// Measures checks of keys that a new node does not know, in turns with a node that reads one record at a time.
async fn many_at_once(place: &Place) -> Outcome {
    place.set_lease(LEASE).await?;
    let creator = patient_manager(place.store()).await;
    let keys = keys(&creator, KEYS).await?;
    let mut figures = [const { Vec::new() }; 2];
    for _ in 0..ROUNDS {
        let singly: Arc<dyn KeyStore> = Arc::new(Forwarding(Singly(place.store())));
        for (store, figures) in [singly, place.store()].into_iter().zip(&mut figures) {
            let node = patient_manager(store).await;
            let (manager, keys) = (node.clone(), Rc::clone(&keys));
            let check = move |number: usize| {
                let (manager, keys) = (manager.clone(), Rc::clone(&keys));
                async move {
                    let checked = manager.verify(keys[number].expose_secret()).await;
                    assert!(checked.is_ok(), "{checked:?}");
                }
            };
            figures.push(crowd(KEYS, AT_ONCE, check).await?);
            node.shutdown().await?;
        }
    }
    creator.shutdown().await?;
    let title = format!("{}: {KEYS} cold keys, {AT_ONCE} checks at once", place.name);
    let mut table = Table::new(title);
    let of = |rounds: &[[f64; 2]], which: usize| {
        median(rounds.iter().map(|round| round[which]).collect())
    };
    let [singly, batches] = &figures;
    for (what, rounds) in [("one record for each call", singly), ("batches", batches)] {
        let (wall, cpu) = (of(rounds, 0), of(rounds, 1));
        let rate = format!("{:.0} /s", 1e9 / wall);
        table.row(what, rate, times(of(singly, 0) / wall), "");
        table.row(
            "... CPU time of this process",
            micros(cpu),
            times(cpu / of(singly, 1)),
            "",
        );
    }
    table.print();
    Ok(())
}

/// Measures checks that read the store, in turns with the client's own read of the same record.
fn one_at_once(runtime: &Runtime, place: &Place) -> Outcome {
    let manager = runtime.block_on(patient_manager(place.store()));
    let key = runtime.block_on(manager.create("MY_FIRST_KEY").into_future())?;
    let mut client = runtime.block_on(place.client())?;
    let store = place.store();
    runtime.block_on(store.start())?;
    let fresh = Policy::new().fresh();
    let mut subjects: Vec<Work<'_>> = vec![
        Box::new(|_| timed(runtime, read(&mut client, &key))),
        Box::new(|_| {
            timed(runtime, async {
                let found = store.find(&key.id()).await;
                assert!(matches!(found, Ok(Some(_))), "{found:?}");
            })
        }),
        Box::new(|_| {
            timed(runtime, async {
                let checked = manager.verify_for(key.expose_secret(), &fresh).await;
                assert!(checked.is_ok(), "{checked:?}");
            })
        }),
    ];
    let rounds = in_turns(READS, 1, &mut subjects);
    drop(subjects);
    let mut table = Table::new(format!(
        "{}: one cold check; ratio to the client's read",
        place.name
    ));
    let whats = [
        ("the client's read of the record", ""),
        ("find() of the store", ""),
        ("a check by the manager", "1.5"),
    ];
    for (subject, (what, target)) in whats.into_iter().enumerate() {
        let (figure, ratio) = (rounds.median(subject), rounds.ratio(subject, 0));
        table.row(what, micros(figure), times(ratio), target);
    }
    table.print();
    runtime.block_on(store.stop());
    runtime.block_on(manager.shutdown())?;
    Ok(())
}

fn timed(runtime: &Runtime, work: impl Future<Output = ()>) -> u64 {
    let start = clock::wall();
    runtime.block_on(work);
    clock::wall() - start
}

async fn read(client: &mut Client, key: &NewKey) {
    let read = client.read(key.id()).await;
    assert!(read.is_ok(), "{read:?}");
}

fn micros(nanos: f64) -> String {
    format!("{:.1} us", nanos / 1e3)
}
