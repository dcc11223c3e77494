//! What grows with the number of keys: calls of a manager, and the work in its background.
//!
//! Per store, for 10,000, 100,000 and 1,000,000 keys with nine nodes: the times, and their exponent from one number of keys to
//! the next. An exponent of 0 is a call that does not grow, 1 one that grows as the keys do. Each key was used in two hours
//! of one old day. PostgreSQL and Redis are servers of the bench's own on loopback, configured to keep what they
//! acknowledge; a server that is not installed is skipped. Nodes are managers of this process, each with a store value,
//! connections and a thread of its own. `cargo bench .. --bench growth -- Redis` measures only the stores that are named.
//! `GROWTH_KEYS=1000,10000` sets other numbers of keys.

mod servers;
mod support;

use std::time::Instant;

use apikey_runtime::store::{CopyItems, NodeId};
use apikey_runtime::usage::Outcome::Allowed;
use apikey_runtime::usage::{SecretUse, UsageRow};
use apikey_runtime::{ApiKeyManager, KeyId, KeyStore, Timestamp};
use tokio::runtime::Builder;

use servers::places::Place;
use support::spread::Spread;
use support::table::Table;
use support::{Outcome, keys};

const NODES: usize = 9;

/// How often each call is measured.
const CALLS: usize = 50;

/// How often a manager is started.
const STARTS: usize = 5;

/// The number of keys on a page.
const PAGE: u32 = 100;

/// How many items are written at once.
const ITEMS: usize = 1_000;

/// How many entries of the log a trim removes.
const TRIMMED: usize = 1_000;

/// The age of the day on which all keys were used, in days.
const AGE: i64 = 20;

/// The hours of that day.
const HOURS: [i64; 2] = [9, 15];

const DAY_MILLIS: i64 = 86_400_000;

/// A row of the table: nanoseconds, by number of keys.
type Growth = Vec<(&'static str, Vec<f64>)>;

fn main() -> Outcome {
    if !support::asked_for() {
        return Ok(());
    }
    let names: Vec<String> = std::env::args().skip(1).collect();
    let all = names.iter().all(|name| name.starts_with('-'));
    let sizes = match std::env::var("GROWTH_KEYS") {
        Ok(text) => text.split(',').map(str::parse).collect::<Result<_, _>>()?,
        Err(_) => vec![10_000, 100_000, 1_000_000],
    };
    let runtime = Builder::new_current_thread().enable_all().build()?;
    for store in ["SQLite", "PostgreSQL", "Redis"] {
        if !all && !names.iter().any(|name| name == store) {
            continue;
        }
        let (mut growth, mut measured) = (Growth::new(), Vec::new());
        for keys in &sizes {
            // A store of its own for each.
            for place in Place::every(|name| name == store)? {
                runtime.block_on(measure(&place, *keys, &mut growth))?;
                measured.push(*keys);
            }
        }
        print(store, &measured, &growth);
    }
    Ok(())
}

/// Measures everything with this number of keys.
async fn measure(place: &Place, number: usize, growth: &mut Growth) -> Outcome {
    let began = Instant::now();
    let first = node(place).await?;
    let model = first.create("MODEL").await?;
    first.shutdown().await?;
    place.copy(model.id(), 1..number).await?;
    let store = place.store();
    store.start().await?;
    let day = Timestamp::from(std::time::SystemTime::now()).as_millis() / DAY_MILLIS - AGE;
    fill_usage(&*store, number, day).await?;
    println!(
        "{}: {number} keys, made in {:.0?}",
        place.name,
        began.elapsed()
    );

    trim(&*store, number, growth).await?;
    let mut nodes = Vec::new();
    for _ in 1..NODES {
        nodes.push(node(place).await?);
    }
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        let began = Instant::now();
        let last = node(place).await?;
        starts.push(nanos(began));
        last.shutdown().await?;
    }
    row(
        growth,
        "start of a manager, p50",
        Spread::new(starts).quantile(0.5),
    );
    nodes.push(node(place).await?);
    calls(&nodes[0], &*store, growth).await?;
    old_usage(&*store, number, day, growth).await?;
    store.stop().await;
    for node in nodes {
        node.shutdown().await?;
    }
    Ok(())
}

async fn node(place: &Place) -> Outcome<ApiKeyManager> {
    let builder = ApiKeyManager::builder().shared_store(place.store());
    Ok(builder.start().await?)
}

/// Gives each key a last use, and usage in two hours of the day.
async fn fill_usage(store: &dyn KeyStore, number: usize, day: i64) -> Outcome {
    let target = store.copying().ok_or("the store cannot be copied to")?;
    let ids: Vec<KeyId> = (1..number).map(keys::id).collect();
    for ids in ids.chunks(ITEMS) {
        let uses = ids.iter().map(|id| {
            let at = Timestamp::from_millis(day * DAY_MILLIS);
            SecretUse::new(*id, 0, at, None)
        });
        target
            .write_copy(&CopyItems::SecretUses(uses.collect()))
            .await?;
        for hour in HOURS {
            let rows = ids.iter().map(|id| {
                let mut row = UsageRow::new(*id, "/orders/{id}", 24 * day + hour, Allowed);
                row.requests = 1;
                row
            });
            target.write_copy(&CopyItems::Usage(rows.collect())).await?;
        }
    }
    Ok(())
}

/// Trims the log of all changes that made the keys: each heartbeat of a node removes a part.
async fn trim(store: &dyn KeyStore, number: usize, growth: &mut Growth) -> Outcome {
    let (log, members) = (store.change_log(), store.membership());
    let (log, members) = log.zip(members).ok_or("the store does not have a log")?;
    let node = NodeId::from_u128(1);
    members.join(&node).await?;
    let head = log.changes(None, None).await?.cursor;
    let mut times = Vec::new();
    for _ in 0..number.div_ceil(TRIMMED) {
        let began = Instant::now();
        members.acknowledge(&node, &head).await?;
        times.push(nanos(began));
    }
    members.leave(&node).await?;
    let times = Spread::new(times);
    row(
        growth,
        "a heartbeat that trims the log, p50",
        times.quantile(0.5),
    );
    row(growth, "... the slowest heartbeat", times.quantile(1.0));
    Ok(())
}

/// Measures calls of a manager, and a poll.
async fn calls(manager: &ApiKeyManager, store: &dyn KeyStore, growth: &mut Growth) -> Outcome {
    let log = store.change_log().ok_or("the store does not have a log")?;
    let head = log.changes(None, None).await?.cursor;
    let page = manager.list().page_size(PAGE).await?;
    let ids: Vec<_> = page.keys.iter().map(|key| key.id).collect();
    let (mut health, mut list, mut last, mut poll) = (vec![], vec![], vec![], vec![]);
    for _ in 0..CALLS {
        let began = Instant::now();
        drop(manager.health());
        health.push(nanos(began));
        let began = Instant::now();
        manager.list().page_size(PAGE).await?;
        list.push(nanos(began));
        let began = Instant::now();
        manager.last_used_of(&ids).await?;
        last.push(nanos(began));
        let began = Instant::now();
        log.changes(Some(&head), None).await?;
        poll.push(nanos(began));
    }
    for (what, times) in [
        ("health(), p50", health),
        ("list() of 100 keys, p50", list),
        ("last_used_of() of 100 keys, p50", last),
        ("a poll, p50", poll),
    ] {
        row(growth, what, Spread::new(times).quantile(0.5));
    }
    Ok(())
}

/// Rolls the usage of all keys up, and removes it.
async fn old_usage(store: &dyn KeyStore, number: usize, day: i64, growth: &mut Growth) -> Outcome {
    let usage = store.usage().ok_or("the store does not keep usage")?;
    let mut times = Vec::new();
    loop {
        let began = Instant::now();
        if !usage.roll_up_usage(day + 1).await? {
            break;
        }
        times.push(nanos(began));
    }
    let each = times.iter().sum::<f64>() / number as f64;
    let times = Spread::new(times);
    row(growth, "a step of the roll-up, p50", times.quantile(0.5));
    row(growth, "... the slowest step", times.quantile(1.0));
    row(growth, "the roll-up, per key", each);
    let began = Instant::now();
    usage.prune_usage(24 * (day + 1)).await?;
    row(
        growth,
        "the removal of old usage, per key",
        nanos(began) / number as f64,
    );
    Ok(())
}

/// Adds a time to the row of `what`.
fn row(growth: &mut Growth, what: &'static str, nanos: f64) {
    match growth.iter_mut().find(|(known, _)| *known == what) {
        Some((_, times)) => times.push(nanos),
        None => growth.push((what, vec![nanos])),
    }
}

fn nanos(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1e9
}

fn print(store: &str, numbers: &[usize], growth: &Growth) {
    if numbers.is_empty() {
        return;
    }
    let mut table = Table::new(format!(
        "{store}: with {numbers:?} keys and {NODES} nodes; the ratios are exponents"
    ));
    for (what, times) in growth {
        let figures = times.iter().map(|time| format!("{:.1}", time / 1e3));
        let steps = times.windows(2).zip(numbers.windows(2));
        let exponents = steps.map(|(times, numbers)| {
            let keys = numbers[1] as f64 / numbers[0] as f64;
            format!("{:.2}", (times[1] / times[0]).ln() / keys.ln())
        });
        table.row(
            *what,
            figures.collect::<Vec<_>>().join(", ") + " us",
            exponents.collect::<Vec<_>>().join(", "),
            "",
        );
    }
    table.print();
}
