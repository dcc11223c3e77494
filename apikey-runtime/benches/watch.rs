//! Watches of keys: bytes of each, and the time until the last has ended.
//!
//! `WATCHES` sets another number of watches than 10,000. The store is in memory, so that its writes take
//! no time, and the change is made by another manager on it, whose push works.

mod support;

use std::alloc::System;
use std::sync::Arc;
use std::time::{Duration, Instant};

use apikey_runtime::{ApiKeyManager, KeyStore, KeyWatch, MemoryStore, WatchEnd};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tokio::runtime::Builder;

use support::spread::{Spread, millis};
use support::table::Table;
use support::{Outcome, memory};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// How often each is measured.
const ROUNDS: usize = 20;

/// How the watches are spread over keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keys {
    One,
    Many,
}

fn main() -> Outcome {
    if !support::asked_for() {
        return Ok(());
    }
    let watches = match std::env::var("WATCHES") {
        Ok(text) => text.parse()?,
        Err(_) => 10_000,
    };
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let mut table = Table::new(format!("{watches} watches, p50 of {ROUNDS} rounds"));
    for keys in [Keys::One, Keys::Many] {
        let (mut bytes, mut ended) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let measured = runtime.block_on(measure(keys, watches))?;
            bytes.push(measured.bytes as f64 / watches as f64);
            ended.push(measured.ended.as_nanos() as f64);
        }
        let what = match keys {
            Keys::One => "of one key",
            Keys::Many => "of as many keys of one owner",
        };
        let bytes = Spread::new(bytes).quantile(0.5);
        table.row(
            format!("bytes of a watch, {what}"),
            format!("{bytes:.0}"),
            "",
            "",
        );
        let what = format!("until the last watch {what} has ended, from the call");
        table.row(what, millis(Spread::new(ended).quantile(0.5)), "", "");
    }
    table.print();
    Ok(())
}

struct Measured {
    bytes: usize,
    ended: Duration,
}

async fn manager(store: &Arc<MemoryStore>) -> Outcome<ApiKeyManager> {
    let store = Arc::clone(store) as Arc<dyn KeyStore>;
    Ok(ApiKeyManager::builder().shared_store(store).start().await?)
}

async fn measure(keys: Keys, watches: usize) -> Outcome<Measured> {
    let store = Arc::new(MemoryStore::new());
    let (here, there) = (manager(&store).await?, manager(&store).await?);
    let mut checked = Vec::with_capacity(watches);
    for number in 0..watches {
        if number == 0 || keys == Keys::Many {
            let key = there.create("a").owner("acme").await?;
            checked.push(here.verify(key.expose_secret()).await?);
        }
    }
    let before = memory::in_use(COUNTED);
    let mut open: Vec<KeyWatch> = Vec::with_capacity(watches);
    for number in 0..watches {
        open.push(checked[number % checked.len()].watch());
    }
    // All were judged once when a later one has ended.
    let last = there.create("last").await?;
    let last_watch = here.verify(last.expose_secret()).await?.watch();
    there.revoke(last.id()).await?;
    last_watch.await;
    let bytes = memory::in_use(COUNTED) - before;

    let mut open: FuturesUnordered<KeyWatch> = open.into_iter().collect();
    let called = Instant::now();
    match keys {
        Keys::One => drop(there.revoke(checked[0].id()).await?),
        Keys::Many => drop(there.revoke_all("acme").await?),
    }
    while let Some(end) = open.next().await {
        assert_eq!(end, WatchEnd::Revoked);
    }
    let ended = called.elapsed();
    here.shutdown().await?;
    there.shutdown().await?;
    Ok(Measured { bytes, ended })
}
