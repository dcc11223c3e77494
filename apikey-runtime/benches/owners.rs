//! All keys of an owner revoked at once, beside one key; and what it costs the checks of another node.
//!
//! Per store: an owner has 1,000,000 keys, and three nodes check one of them continuously. Another
//! node calls `revoke_all`, in turns with `revoke` of one key of another owner. PostgreSQL and Redis are
//! servers of the bench's own on loopback, configured to keep what they acknowledge; a server that is
//! not installed is skipped. Nodes are managers of this process, each with a store value, connections
//! and a thread of its own. `cargo bench .. --bench owners -- Redis` measures only the stores that are
//! named. `OWNER_KEYS` sets another number of keys.

mod servers;
mod support;

use std::sync::mpsc;
use std::time::{Duration, Instant};

use apikey_runtime::{ApiKeyManager, NewKey};
use tokio::runtime::{Builder, Runtime};

use servers::places::Place;
use support::observer::{Observer, bystanders};
use support::spread::{Spread, millis};
use support::table::{Table, times};
use support::{Outcome, clock, watch};

/// Nodes that check keys.
const NODES: usize = 3;

/// How often each is revoked.
const REVOCATIONS: usize = 50;

/// The longest pause before a revocation: the longest interval between two polls on SQLite.
const LONGEST_PAUSE: f64 = 0.067;

/// How long the checks are measured before the owner's keys are revoked.
const QUIET: Duration = Duration::from_secs(3);

fn main() -> Outcome {
    if !support::asked_for() {
        return Ok(());
    }
    let names: Vec<String> = std::env::args().skip(1).collect();
    let all = names.iter().all(|name| name.starts_with('-'));
    let keys = match std::env::var("OWNER_KEYS") {
        Ok(text) => text.parse()?,
        Err(_) => 1_000_000,
    };
    let runtime = Builder::new_current_thread().enable_all().build()?;
    for place in Place::every(|name| all || names.iter().any(|wanted| wanted == name))? {
        measure(&runtime, &place, keys)?;
    }
    Ok(())
}

fn measure(runtime: &Runtime, place: &Place, keys: usize) -> Outcome {
    let caller = runtime.block_on(node(place))?;
    let staying = runtime.block_on(bystanders(&caller))?;
    let big = runtime.block_on(caller.create("BIG").owner("big").into_future())?;
    let started = Instant::now();
    runtime.block_on(place.copy(big.id(), 1..keys))?;
    let filled = started.elapsed();
    let mut nodes = Vec::new();
    for _ in 0..NODES {
        nodes.push(runtime.block_on(node(place))?);
    }
    let observer = Observer::start(nodes[0].clone(), staying)?;
    let quiet = observer.during(|| {
        std::thread::sleep(QUIET);
        Ok(())
    })?;

    let (mut one, mut all) = (Vec::new(), Vec::new());
    let first = observer.during(|| revoke_all(runtime, &caller, &nodes, &big))?;
    let marked = observer.during(|| mark(runtime, place))?;
    for number in 0..REVOCATIONS {
        std::thread::sleep(pause(number));
        let key = runtime.block_on(caller.create("SMALL").owner("other").into_future())?;
        one.push(revoke(runtime, &caller, &nodes, &key)?);
        std::thread::sleep(pause(number));
        let key = runtime.block_on(caller.create("BIG").owner("big").into_future())?;
        all.push(revoke_all(runtime, &caller, &nodes, &key)?);
    }
    observer.stop();

    let mut table = Table::new(format!(
        "{}: an owner with {keys} keys (made in {filled:.0?}), {NODES} nodes; ratio to one key, or to \
         the same figure before",
        place.name
    ));
    let spread = |all: &[Revoked], figure: fn(&Revoked) -> f64| {
        Spread::new(all.iter().map(figure).collect())
    };
    let figures: [(&str, fn(&Revoked) -> f64); 2] = [
        (
            "until the last check that is allowed on any node",
            |revoked| revoked.accepted,
        ),
        ("until all nodes have denied it", |revoked| revoked.refused),
    ];
    for (what, figure) in figures {
        let (one, all) = (spread(&one, figure), spread(&all, figure));
        for (name, share) in [("p50", 0.5), ("p90", 0.9), ("max", 1.0)] {
            let (one, all) = (one.quantile(share), all.quantile(share));
            table.row(format!("revoke(), {what}, {name}"), millis(one), "1.00", "");
            let target = if name == "p50" { "2.00" } else { "" };
            table.row(
                format!("revoke_all(), {what}, {name}"),
                millis(all),
                times(all / one),
                target,
            );
        }
    }
    let what = "the first revoke_all(), until all nodes have denied it";
    table.row(what, millis(first.value.refused), "", "");
    quiet.rows(&mut table, "before", &quiet);
    first.rows(&mut table, "the first revoke_all()", &quiet);
    let what = "afterwards, until all records are marked";
    table.row(what, format!("{:.2} s", marked.took.as_secs_f64()), "", "");
    marked.rows(&mut table, "marking", &quiet);
    table.print();
    for manager in nodes.into_iter().chain([caller]) {
        runtime.block_on(manager.shutdown())?;
    }
    Ok(())
}

async fn node(place: &Place) -> Outcome<ApiKeyManager> {
    let builder = ApiKeyManager::builder().shared_store(place.store());
    Ok(builder.start().await?)
}

/// Nanoseconds from the call of a revocation, on the slowest of the nodes.
struct Revoked {
    /// Until the start of the last check that was allowed.
    accepted: f64,
    /// Until the end of the first check that was denied.
    refused: f64,
}

fn revoke(
    runtime: &Runtime,
    caller: &ApiKeyManager,
    nodes: &[ApiKeyManager],
    key: &NewKey,
) -> Outcome<Revoked> {
    watched(nodes, key, || {
        runtime.block_on(caller.revoke(key.id()).into_future())?;
        Ok(())
    })
}

fn revoke_all(
    runtime: &Runtime,
    caller: &ApiKeyManager,
    nodes: &[ApiKeyManager],
    key: &NewKey,
) -> Outcome<Revoked> {
    watched(nodes, key, || {
        let call = caller.revoke_all("big").reason("breach");
        assert!(runtime.block_on(call.into_future())?, "the owner is known");
        Ok(())
    })
}

/// Runs `change` while all nodes check `key`.
fn watched(
    nodes: &[ApiKeyManager],
    key: &NewKey,
    change: impl FnOnce() -> Outcome,
) -> Outcome<Revoked> {
    let mut watches = Vec::new();
    for node in nodes {
        let (tell, told) = mpsc::channel();
        watches.push(watch::start(node, key, tell));
        told.recv()?;
    }
    std::thread::sleep(pause(watches.len()));
    let start = clock::wall();
    change()?;
    let mut slowest = Revoked {
        accepted: 0.0,
        refused: 0.0,
    };
    for watch in watches {
        let [accepted, refused] = watch.join().map_err(|_| "the watch panicked")??;
        slowest.accepted = slowest.accepted.max(accepted as f64 - start as f64);
        slowest.refused = slowest.refused.max(refused as f64 - start as f64);
    }
    Ok(slowest)
}

/// Marks records, as the nodes do in the background, until all are marked.
fn mark(runtime: &Runtime, place: &Place) -> Outcome {
    let store = place.store();
    runtime.block_on(async {
        store.start().await?;
        let owners = store.owners().ok_or("the store keeps no owners")?;
        while owners.mark_revoked_keys().await? {}
        store.stop().await;
        Ok(())
    })
}

/// Returns pauses that are spread evenly, so that revocations do not run in step with the polls.
fn pause(number: usize) -> Duration {
    const GOLDEN: f64 = 0.618_033_988_749_895;
    let share = (number as f64 * GOLDEN).fract();
    Duration::from_secs_f64(0.001 + LONGEST_PAUSE * share)
}
