//! Figures that are counted instead of timed: heap allocations of a request, bytes of a cached key,
//! calls of the store. A bench of its own, because counting allocations takes time.

mod support;

use std::alloc::System;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use actix_web::http::StatusCode;
use actix_web::rt;
use apikey_runtime::{Limit, Policy, Rate};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use support::keys::Owners;
use support::measure::Work;
use support::routes::{Bench, Guard};
use support::table::Table;
use support::{Outcome, keys, memory};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() -> Outcome {
    if !support::asked_for() {
        return Ok(());
    }
    rt::System::new().block_on(async {
        allocations().await?;
        allocations_of_limits().await?;
        store_calls().await?;
        bytes_of_a_key().await?;
        bytes_of_limits().await
    })
}

/// Counts the heap allocations of a warm request under each guard.
async fn allocations() -> Outcome {
    use Guard::{
        HandWrittenLean, HandWrittenShared, Open, Plain, TwoGuards, WithKey, WithScope,
        WithTemplate,
    };
    let bench = Bench::start().await?;
    let value = bench.authorization();
    let mut table = Table::new("heap allocations added to a request");
    let mut open = 0;
    // One is the box that holds the key in the request's extensions, whose table actix-web keeps from one
    // request to the next. Others keep what `ApiKey::watch` may need: the filled scopes, and the scopes of
    // several guards. Two are those of actix-web for a path with a parameter.
    for (guard, what, target) in [
        (Open, "the unguarded request itself, and building it", None),
        (HandWrittenLean, "hand-written, lean", None),
        (
            HandWrittenShared,
            "hand-written, boxed, identity shared",
            None,
        ),
        (Plain, "#[api_key_required]", Some(1)),
        (WithKey, "... with an `ApiKey` argument", Some(1)),
        (WithScope, "... with a scope", Some(1)),
        (
            WithTemplate,
            "... with a scope that the path fills, and an `ApiKey` argument",
            Some(5),
        ),
        (
            TwoGuards,
            "... with a scope, an `ApiKey` argument, and middleware with another scope",
            Some(2),
        ),
    ] {
        let work = bench.requests(guard, Some(&value), StatusCode::OK).await?;
        let count = allocations_of(work);
        if guard == Open {
            open = count;
            table.row(what, count.to_string(), "", "");
            continue;
        }
        let added = count - open;
        assert!(
            target.is_none_or(|target| added <= target),
            "{what} adds {added} allocations"
        );
        let target = target.map_or(String::new(), |target| target.to_string());
        table.row(what, added.to_string(), "", target);
    }
    table.print();
    Ok(())
}

/// Counts the heap allocations that limits add to a request under the same guard. The list of
/// applied limits, which responses state, is one.
async fn allocations_of_limits() -> Outcome {
    let wide = Rate::per_second(1_000_000);
    let bench = Bench::start().await?;
    let one = bench.limited([Limit::new("second", wide)]).await?;
    let two = [Limit::new("second", wide), Limit::new("minute", wide)];
    let two = bench.limited(two).await?;
    let mut table = Table::new("heap allocations added by limits that the process counts");
    let mut plain = 0;
    for (bench, guard, what, target) in [
        (&bench, Guard::Plain, "", ""),
        (&one, Guard::Plain, "a key with a rate", "1"),
        (&two, Guard::Plain, "a key with two rates", "1"),
        (&bench, Guard::WithRate, "a route with `rate_limit`", "1"),
        (&two, Guard::WithRate, "that route, that key with two", "1"),
    ] {
        let value = bench.authorization();
        let work = bench.requests(guard, Some(&value), StatusCode::OK).await?;
        let count = allocations_of(work);
        if what.is_empty() {
            plain = count;
            continue;
        }
        let added = count - plain;
        assert!(added <= 1, "{what} adds {added} allocations");
        table.row(what, added.to_string(), "", target);
    }
    table.print();
    Ok(())
}

/// Returns the heap allocations of one further request. Those of building requests, which are the
/// same for any route, cancel out.
fn allocations_of(mut work: Work<'_>) -> usize {
    work(100);
    let mut count = |requests| {
        let region = Region::new(COUNTED);
        work(requests);
        region.change().allocations
    };
    // Both counts include one vector that holds the requests.
    (count(60) - count(10)) / 50
}

/// Counts the store reads of a warm route.
async fn store_calls() -> Outcome {
    let store = Arc::new(keys::EndlessStore::new(1));
    let bench = Bench::of(keys::manager(&store).await?, &keys::text(keys::id(0))).await?;
    let value = bench.authorization();
    let mut work = bench
        .requests(Guard::Plain, Some(&value), StatusCode::OK)
        .await?;
    let before = store.finds.load(Ordering::Relaxed);
    (0..1_000).for_each(|_| {
        work(100);
    });
    let asked = store.finds.load(Ordering::Relaxed) - before;
    assert_eq!(asked, 0, "a warm route read the store");
    let mut table = Table::new("reads of the store in 100000 requests on a warm route");
    table.row("#[api_key_required]", asked.to_string(), "", "0");
    table.print();
    Ok(())
}

/// Measures a cached key: the bytes in use after a million keys are cached, minus those before.
async fn bytes_of_a_key() -> Outcome {
    let mut table = Table::new("bytes of a cached key, 1M keys");
    // Kept until the end, so that memory which one manager frees does not reduce the figure of
    // another.
    let mut managers = Vec::new();
    for (owners, scopes, what, target) in [
        (Owners::None, false, "a label of 12 bytes", "224"),
        (
            Owners::One,
            true,
            "also two scopes, and one owner for all",
            "224",
        ),
        (
            Owners::Each,
            true,
            "also two scopes, and an owner of 17 bytes for each",
            "",
        ),
    ] {
        let mut store = keys::EndlessStore::new(KEYS);
        (store.owners, store.scopes) = (owners, scopes);
        let manager = keys::manager(&Arc::new(store)).await?;
        // One-time allocations of the first reads do not count.
        keys::warm(&manager, 0..1_000).await?;
        let (bytes, pages) = (memory::in_use(COUNTED), memory::resident());
        keys::warm(&manager, 1_000..KEYS).await?;
        let each = |bytes: usize| format!("{}", bytes / (KEYS - 1_000));
        table.row(what, each(memory::in_use(COUNTED) - bytes), "", target);
        if let (Some(before), Some(after)) = (pages, memory::resident()) {
            table.row(
                "... resident, including the allocator's own",
                each(after.saturating_sub(before)),
                "",
                "",
            );
        }
        managers.push(manager);
    }
    table.print();
    Ok(())
}

/// Measures the bytes that two limits of a plan shared by all keys add to a cached key, and the
/// bytes that counting them adds for each used key.
async fn bytes_of_limits() -> Outcome {
    let mut table = Table::new("bytes of a cached key with two limits of a shared plan, 1M keys");
    let mut store = keys::EndlessStore::new(KEYS);
    // Slow rates, so that the counts do not drain during the measurement.
    let slow = |amount| Rate::per_day(amount).with_burst(10);
    store.limits = vec![Limit::new("wide", slow(20)), Limit::new("narrow", slow(10))];
    let manager = keys::manager(&Arc::new(store)).await?;
    let free = Policy::new().cost(0);
    let each = |bytes: usize| format!("{}", bytes / (KEYS - 1_000));
    let steps = [
        (free, "a label of 12 bytes, cached and not counted", "224"),
        (Policy::new(), "... what counting its two rates adds", ""),
    ];
    for (policy, what, target) in steps {
        keys::warm_for(&manager, 0..1_000, &policy).await?;
        let (bytes, pages) = (memory::in_use(COUNTED), memory::resident());
        keys::warm_for(&manager, 1_000..KEYS, &policy).await?;
        table.row(what, each(memory::in_use(COUNTED) - bytes), "", target);
        if let (Some(before), Some(after)) = (pages, memory::resident()) {
            table.row(
                "... resident, including the allocator's own",
                each(after.saturating_sub(before)),
                "",
                "",
            );
        }
    }
    table.print();
    Ok(())
}

const KEYS: usize = 1_000_000;
