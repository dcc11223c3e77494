//! Several nodes on one store: the time until another node denies a revoked key, and the time of
//! `.confirmed()`.
//!
//! PostgreSQL and Redis are servers of the bench's own on loopback, configured to keep what they
//! acknowledge; a server that is not installed is skipped. Nodes are managers of this process, each
//! with a store value, connections and a thread of its own. `cargo bench .. --bench nodes -- Redis`
//! measures only the stores that are named. If `BENCH_SVG` names a file, a chart of the time until
//! revocations are seen is written to it.

mod servers;
mod support;

use std::sync::mpsc;
use std::time::Duration;

use apikey_runtime::store::NodeId;
use apikey_runtime::{ApiKeyManager, NewKey};
use tokio::runtime::{Builder, Runtime};

use servers::places::Place;
use support::drawing::{Drawn, draw};
use support::spread::{Spread, millis};
use support::table::Table;
use support::{Outcome, clock, watch};

const REVOCATIONS: usize = 1_000;
const CONFIRMATIONS: usize = 200;
const DEATHS: usize = 5;

/// The time after which a node's own work following a change is done.
const LET_BE: Duration = Duration::from_millis(5);

fn main() -> Outcome {
    if !support::asked_for() {
        return Ok(());
    }
    let names: Vec<String> = std::env::args().skip(1).collect();
    let all = names.iter().all(|name| name.starts_with('-'));
    let places = Place::every(|name| all || names.iter().any(|wanted| wanted == name))?;
    if let Ok(load) = std::fs::read_to_string("/proc/loadavg") {
        println!("load average before: {}", load.trim());
    }
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let mut seen = Vec::new();
    for place in &places {
        seen.push(revocations(&runtime, place)?);
        confirmations(&runtime, place)?;
    }
    if let Ok(load) = std::fs::read_to_string("/proc/loadavg") {
        println!("\nload average after: {}", load.trim());
    }
    if let Some(file) = std::env::var_os("BENCH_SVG") {
        let drawn = places.iter().zip(&seen).map(|(place, spread)| Drawn {
            name: place.name,
            spread,
            target: place.target,
        });
        let title = "From the call of revoke() on one node to the first denial on another";
        std::fs::write(file, draw(title, &drawn.collect::<Vec<_>>())?)?;
    }
    Ok(())
}

/// Starts a node: a manager on a store value of its own.
async fn node(place: &Place) -> Outcome<ApiKeyManager> {
    let builder = ApiKeyManager::builder().shared_store(place.store());
    Ok(builder.start().await?)
}

async fn keys(manager: &ApiKeyManager, count: usize) -> Outcome<Vec<NewKey>> {
    let mut keys = Vec::with_capacity(count);
    for _ in 0..count {
        keys.push(manager.create("MY_FIRST_KEY").await?);
    }
    Ok(keys)
}

/// Measures plain revocations by one node of keys that another node has cached and checks
/// continuously. They are interleaved with durable writes by the client: neither can be faster than
/// the disk.
fn revocations(runtime: &Runtime, place: &Place) -> Outcome<Spread> {
    let here = runtime.block_on(node(place))?;
    let there = runtime.block_on(node(place))?;
    let mut client = runtime.block_on(place.client())?;
    runtime.block_on(client.prepare())?;
    let (mut written, mut all) = (Vec::new(), Vec::new());
    for (number, key) in runtime
        .block_on(keys(&here, REVOCATIONS))?
        .iter()
        .enumerate()
    {
        all.push(revoke(runtime, [&here, &there], key, pause(number))?);
        std::thread::sleep(LET_BE);
        let start = clock::wall();
        runtime.block_on(client.write())?;
        written.push((clock::wall() - start) as f64);
        std::thread::sleep(LET_BE);
    }
    let spread = |figure: fn(&Revoked) -> f64| Spread::new(all.iter().map(figure).collect());
    let refused = spread(|revoked| revoked.refused);
    let mut table = Table::new(format!(
        "{}: a plain revocation, on another node; {REVOCATIONS} of them",
        place.name
    ));
    let target = place
        .target
        .map_or_else(String::new, |target| format!("{target:.2} ms"));
    Spread::new(written).rows(&mut table, "a durable write by the client", "");
    let returned = spread(|revoked| revoked.returned);
    returned.rows(&mut table, "revoke(), until it returns", "");
    let accepted = spread(|revoked| revoked.accepted);
    accepted.rows(&mut table, "... until the last check that is allowed", "");
    refused.rows(&mut table, "... until a check is denied", &target);
    let since = spread(|revoked| revoked.refused - revoked.returned);
    since.rows(&mut table, "from its return until a check is denied", "");
    table.print();
    println!("  from the call of revoke() until a check is denied:");
    refused.print();
    for manager in [here, there] {
        runtime.block_on(manager.shutdown())?;
    }
    Ok(refused)
}

/// Nanoseconds from the call of a revocation.
struct Revoked {
    returned: f64,
    /// Until the start of the last check that was allowed.
    accepted: f64,
    /// Until the end of the first check that was denied.
    refused: f64,
}

/// Revokes a key by one node, some time after another node has cached it.
fn revoke(
    runtime: &Runtime,
    [here, there]: [&ApiKeyManager; 2],
    key: &NewKey,
    pause: Duration,
) -> Outcome<Revoked> {
    let (tell, told) = mpsc::channel();
    let watch = watch::start(there, key, tell);
    told.recv()?;
    std::thread::sleep(pause);
    let start = clock::wall();
    runtime.block_on(here.revoke(key.id()).into_future())?;
    let returned = (clock::wall() - start) as f64;
    let [accepted, refused] = watch.join().map_err(|_| "the watch panicked")??;
    Ok(Revoked {
        returned,
        accepted: accepted as f64 - start as f64,
        refused: refused as f64 - start as f64,
    })
}

/// Returns pauses spread evenly up to the longest interval between two polls on SQLite, so that
/// revocations do not run in step with the polls.
fn pause(number: usize) -> Duration {
    const LONGEST: f64 = 67.0;
    const GOLDEN: f64 = 0.618_033_988_749_895;
    let share = (number as f64 * GOLDEN).fract();
    Duration::from_secs_f64((1.0 + LONGEST * share) / 1e3)
}

/// Measures confirmed revocations with an increasing number of nodes, and then with a node that
/// died.
fn confirmations(runtime: &Runtime, place: &Place) -> Outcome {
    let mut table = Table::new(format!(
        "{}: .confirmed(), {CONFIRMATIONS} of them, the lease being {} ms",
        place.name,
        place.lease.as_millis()
    ));
    let mut nodes = vec![runtime.block_on(node(place))?];
    for count in [1, 3, 9] {
        while nodes.len() < count {
            nodes.push(runtime.block_on(node(place))?);
        }
        // A node that has followed the change log for less than a lease waits one out.
        std::thread::sleep(place.lease * 3 / 2);
        let keys = runtime.block_on(keys(&nodes[0], CONFIRMATIONS))?;
        let mut outlasted = 0;
        let mut took = Vec::new();
        for (number, key) in keys.iter().enumerate() {
            std::thread::sleep(pause(number) / 2);
            let (nanos, waited) = confirm(runtime, &nodes[0], key)?;
            took.push(nanos);
            outlasted += usize::from(waited);
        }
        let what = format!("nodes: {count}");
        Spread::new(took).rows(&mut table, &what, "");
        table.row(
            format!("{what}, a lease waited out"),
            outlasted.to_string(),
            "",
            "0",
        );
    }
    let mut took = Vec::new();
    for key in runtime.block_on(keys(&nodes[0], DEATHS))? {
        die(runtime, place, &key)?;
        took.push(confirm(runtime, &nodes[0], &key)?.0);
    }
    let took = Spread::new(took);
    table.row(
        "nodes: 9, and one that just died, p50",
        millis(took.quantile(0.5)),
        "",
        "",
    );
    table.row("... max", millis(took.quantile(1.0)), "", "");
    table.print();
    for manager in nodes {
        runtime.block_on(manager.shutdown())?;
    }
    Ok(())
}

/// Returns the nanoseconds until a revocation was confirmed, and whether it waited out a lease.
fn confirm(runtime: &Runtime, manager: &ApiKeyManager, key: &NewKey) -> Outcome<(f64, bool)> {
    let start = clock::wall();
    let done = runtime.block_on(manager.revoke(key.id()).confirmed().into_future())?;
    Ok(((clock::wall() - start) as f64, done.propagation.outlasted))
}

/// Adds a node to the member list that never sends a heartbeat again.
fn die(runtime: &Runtime, place: &Place, key: &NewKey) -> Outcome {
    let (store, id) = (place.store(), key.id().to_u128());
    runtime.block_on(async {
        store.start().await?;
        store
            .membership()
            .ok_or("the store has no membership")?
            .join(&NodeId::from_u128(id))
            .await?;
        store.stop().await;
        Ok(())
    })
}
