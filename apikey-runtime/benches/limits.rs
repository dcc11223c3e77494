//! Limits and usage: what they add to a warm request if this process counts, and what a charge
//! takes if a store counts, compared with the cheapest request of the store's client.
//!
//! `cargo bench .. --bench limits -- Redis` measures only the stores that are named, and `--
//! process` none of them. PostgreSQL and Redis are servers of the bench's own on loopback; a server
//! that is not installed is skipped.

mod servers;
mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use actix_web::http::StatusCode;
use actix_web::rt;
use apikey_runtime::{ApiKeyManager, Limit, Rate};

use servers::places::Place;
use support::measure::{Work, in_turns};
use support::routes::{Bench, Guard};
use support::table::{Table, nanos, times};
use support::{Outcome, keys};

/// The highest rate, so that no request is denied.
const WIDE: Rate = Rate::per_second(1_000_000);

fn main() -> Outcome {
    if !support::asked_for() {
        return Ok(());
    }
    let names: Vec<String> = std::env::args().skip(1).collect();
    let all = names.iter().all(|name| name.starts_with('-'));
    let wanted = |name: &str| all || names.iter().any(|wanted| wanted == name);
    print_load("before")?;
    if wanted("process") {
        rt::System::new().block_on(async {
            limits_in_the_process().await?;
            usage().await?;
            calls().await
        })?;
    }
    let mut places = Place::every(wanted)?;
    if wanted("Redis") {
        places.extend(Place::redis_in_memory());
    }
    for place in &places {
        servers::charging::measure(place)?;
    }
    print_load("after")
}

fn print_load(when: &str) -> Outcome {
    if let Ok(load) = std::fs::read_to_string("/proc/loadavg") {
        println!("\nload average {when}: {}", load.trim());
    }
    Ok(())
}

/// Measures what limits add to an allowed request if the manager counts them itself.
async fn limits_in_the_process() -> Outcome {
    let plain = Bench::start().await?;
    let one = plain.limited([Limit::new("second", WIDE)]).await?;
    let two = [Limit::new("second", WIDE), Limit::new("minute", WIDE)];
    let two = plain.limited(two).await?;
    let subjects = [
        ("", &plain, Guard::Plain, ""),
        (
            "no limits: the same route and key again",
            &plain,
            Guard::Plain,
            "0 ns",
        ),
        ("a key with a rate", &one, Guard::Plain, "100 ns"),
        ("a key with two rates", &two, Guard::Plain, ""),
        (
            "a route with `rate_limit`",
            &plain,
            Guard::WithRate,
            "100 ns",
        ),
        ("that route, that key with two", &two, Guard::WithRate, ""),
    ];
    let mut works: Vec<Work<'_>> = Vec::new();
    for (_, bench, guard, _) in subjects {
        let value = bench.authorization();
        works.push(bench.requests(guard, Some(&value), StatusCode::OK).await?);
    }
    let rounds = in_turns(2_000, 100, &mut works);
    let mut table = Table::new("limits counted in the process, added CPU time of a warm request");
    table.row("a guarded request", nanos(rounds.median(0)), "1.00", "");
    for (subject, (what, _, _, target)) in subjects.iter().enumerate().skip(1) {
        let added = nanos(rounds.added(subject, 0));
        table.row(*what, added, times(rounds.ratio(subject, 0)), *target);
    }
    table.print();
    Ok(())
}

/// A guarded route on a store that keeps usage, or one that states that it does not.
async fn counting(
    keeps_usage: bool,
    limits: Vec<Limit>,
) -> Outcome<(Arc<keys::EndlessStore>, Bench)> {
    let mut store = keys::EndlessStore::new(1);
    (store.keeps_usage, store.limits) = (keeps_usage, limits);
    let store = Arc::new(store);
    let bench = Bench::of(keys::manager(&store).await?, &keys::text(keys::id(0))).await?;
    Ok((store, bench))
}

/// Measures what counting usage adds, and that disabled counting costs nothing.
async fn usage() -> Outcome {
    let mut works: Vec<Work<'_>> = Vec::new();
    let mut benches = Vec::new();
    for keeps_usage in [false, true, false, true] {
        let (_, bench) = counting(keeps_usage, Vec::new()).await?;
        let value = bench.authorization();
        works.push(
            bench
                .requests(Guard::Plain, Some(&value), StatusCode::OK)
                .await?,
        );
        benches.push(bench);
    }
    let rounds = in_turns(3_000, 100, &mut works);
    let mut table = Table::new("usage, added CPU time of a warm request");
    table.row(
        "a guarded request, the store does not keep usage",
        nanos(rounds.median(0)),
        "1.00",
        "",
    );
    let others = [
        ("the store keeps usage", "20 ns"),
        ("another manager whose store does not keep usage", "0 ns"),
        ("another whose store keeps usage", "20 ns"),
    ];
    for (subject, (what, target)) in (1..).zip(others) {
        let added = nanos(rounds.added(subject, 0));
        table.row(what, added, times(rounds.ratio(subject, 0)), target);
    }
    table.print();
    Ok(())
}

/// Counts store calls: a warm route makes none, and usage is written at the end.
async fn calls() -> Outcome {
    let limits = vec![Limit::new("second", WIDE)];
    let (store, bench) = counting(true, limits).await?;
    let value = bench.authorization();
    let mut work = bench
        .requests(Guard::WithRate, Some(&value), StatusCode::OK)
        .await?;
    let calls = || {
        let [finds, batches] = [&store.finds, &store.batches];
        [finds, batches].map(|count| count.load(Ordering::Relaxed))
    };
    let before = calls();
    (0..1_000).for_each(|_| {
        work(100);
    });
    let after = calls();
    let manager: ApiKeyManager = bench.manager.clone();
    manager.shutdown().await?;
    let ended = calls();
    let mut table = Table::new("calls of the store in 100000 requests, rates and usage counted");
    let asked = after[0] - before[0];
    assert_eq!(asked, 0, "a warm route read the store");
    table.row("reads", asked.to_string(), "", "0");
    let written = (after[1] - before[1]).to_string();
    table.row("writes of usage meanwhile, one in 10 s", written, "", "0");
    let last = (ended[1] - after[1]).to_string();
    table.row("... at the manager's shutdown", last, "", "1");
    table.print();
    Ok(())
}
