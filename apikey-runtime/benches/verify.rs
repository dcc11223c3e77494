//! A warm check compared with the raw SHA-256 of the same key: with few keys and with many, with
//! owners and without, from one thread and from two. CPU time.

mod support;

use std::cell::Cell;
use std::hint::black_box;
use std::sync::{Arc, Barrier};

use actix_web::rt;
use apikey_runtime::ApiKeyManager;
use sha2::{Digest, Sha256};

use support::keys::Owners;
use support::measure::{Work, in_turns};
use support::poll::at_once;
use support::table::{Table, nanos, times};
use support::{Outcome, clock, keys};

fn main() -> Outcome {
    if !support::asked_for() {
        return Ok(());
    }
    rt::System::new().block_on(async {
        let mut table = Table::new("a warm check; ratio to the raw SHA-256 of the same key");
        for (count, what, target) in [
            (1_000, "1k keys", "2.20"),
            (100_000, "100k keys", "7.00"),
            (1_000_000, "1M keys", "11.00"),
        ] {
            against_sha256(&mut table, count, what, target).await?;
        }
        table.print();
        with_owners().await?;
        on_two_threads().await
    })
}

/// The keys concatenated in the order in which they are presented.
struct Presented {
    text: String,
    each: usize,
    at: Cell<usize>,
}

impl Presented {
    fn of(count: usize) -> Self {
        // Steps of a prime that divides no `count`, so that consecutive keys are not neighbours in
        // the map.
        let order = (0..count).map(|index| keys::text(keys::id(index * 7_919 % count)));
        let text: String = order.collect();
        Self {
            each: text.len() / count,
            text,
            at: Cell::new(0),
        }
    }

    fn next(&self) -> &str {
        let start = self.at.get();
        let end = start + self.each;
        self.at.set(if end == self.text.len() { 0 } else { end });
        &self.text[start..end]
    }
}

async fn against_sha256(table: &mut Table, count: usize, what: &str, target: &str) -> Outcome {
    let store = Arc::new(keys::EndlessStore::new(count));
    let manager = keys::manager(&store).await?;
    keys::warm(&manager, 0..count).await?;
    let (checked, hashed) = (Presented::of(count), Presented::of(count));
    let mut subjects: Vec<Work<'_>> = vec![
        Box::new(|count| {
            timed(count, || {
                black_box(Sha256::digest(hashed.next()));
            })
        }),
        Box::new(|count| timed(count, || check(&manager, checked.next()))),
    ];
    let rounds = in_turns(1_000, 1_000, &mut subjects);
    table.row(
        format!("{what}: SHA-256"),
        nanos(rounds.median(0)),
        "1.00",
        "",
    );
    table.row(
        format!("{what}: check"),
        nanos(rounds.median(1)),
        times(rounds.ratio(1, 0)),
        target,
    );
    manager.shutdown().await?;
    Ok(())
}

/// A million keys in memory, without owners, with one owner, and with a million owners.
async fn with_owners() -> Outcome {
    const KEYS: usize = 1_000_000;
    let mut managers = Vec::new();
    for (owners, what) in [
        (Owners::None, "without an owner"),
        (Owners::One, "of one owner"),
        (Owners::Each, "of an owner each, 1M owners"),
    ] {
        let mut store = keys::EndlessStore::new(KEYS);
        store.owners = owners;
        let manager = keys::manager(&Arc::new(store)).await?;
        keys::warm(&manager, 0..KEYS).await?;
        managers.push((manager, what));
    }
    let mut table = Table::new("a warm check, 1M keys in memory; ratio to keys without an owner");
    for (count, checked) in [(1_000, "1k keys"), (KEYS, "1M keys")] {
        let presented: Vec<_> = managers.iter().map(|_| Presented::of(count)).collect();
        let subjects = managers.iter().zip(&presented);
        let mut subjects: Vec<Work<'_>> = subjects
            .map(|((manager, _), keys)| -> Work<'_> {
                Box::new(|count| timed(count, || check(manager, keys.next())))
            })
            .collect();
        let rounds = in_turns(1_000, 1_000, &mut subjects);
        for (at, (_, what)) in managers.iter().enumerate() {
            let (ratio, target) = (times(rounds.ratio(at, 0)), if at > 0 { "1.00" } else { "" });
            table.row(
                format!("{checked} {what}"),
                nanos(rounds.median(at)),
                ratio,
                target,
            );
        }
    }
    table.print();
    for (manager, _) in managers {
        manager.shutdown().await?;
    }
    Ok(())
}

/// The same key, checked by two threads concurrently.
async fn on_two_threads() -> Outcome {
    let store = Arc::new(keys::EndlessStore::new(1));
    let manager = keys::manager(&store).await?;
    let key = keys::text(keys::id(0));
    manager.verify(&key).await?;
    let mut subjects: Vec<Work<'_>> = vec![
        Box::new(|count| on_threads(1, count, || check(&manager, &key))),
        Box::new(|count| on_threads(2, count, || check(&manager, &key))),
    ];
    let rounds = in_turns(200, 50_000, &mut subjects);
    let mut table = Table::new("one hot key, CPU time for one check; ratio to one thread");
    table.row("one thread", nanos(rounds.median(0)), "1.00", "");
    table.row(
        "two threads",
        nanos(rounds.median(1)),
        times(rounds.ratio(1, 0)),
        "1.30",
    );
    table.print();
    Ok(())
}

fn check(manager: &ApiKeyManager, key: &str) {
    let checked = at_once(manager.verify(black_box(key)));
    assert!(black_box(checked).is_ok());
}

fn timed(count: usize, mut once: impl FnMut()) -> u64 {
    let start = clock::thread();
    (0..count).for_each(|_| once());
    clock::thread() - start
}

/// Returns the average nanoseconds of a thread that runs `once` `count` times, while `threads`
/// threads do so concurrently.
fn on_threads(threads: u64, count: usize, once: impl Fn() + Sync) -> u64 {
    let together = Barrier::new(threads as usize);
    let own = || {
        together.wait();
        timed(count, &once)
    };
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(own)).collect();
        let nanos = running.into_iter().map(|thread| match thread.join() {
            Ok(nanos) => nanos,
            Err(panicked) => std::panic::resume_unwind(panicked),
        });
        nanos.sum::<u64>() / threads
    })
}
