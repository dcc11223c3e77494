//! The cost of a charge if a store counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use apikey_runtime::limit::LimitRule;
use apikey_runtime::store::{
    Charge, ChargeOutcome, LimitCounter, LimitStore, LimitSupport, StoreError,
};
use apikey_runtime::{ApiKeyManager, Config, KeyStore, NewKey, Quota, Rate};
use apikey_test_support::proxy::Proxy;
use apikey_test_support::store::{Capability, Forward, Forwarding};
use tokio::runtime::{Builder, Runtime};

use super::places::Place;
use crate::support::measure::{Rounds, Work, in_turns};
use crate::support::spread::Spread;
use crate::support::table::{Table, times};
use crate::support::{Outcome, clock};

const CHARGES: usize = 1_000;
/// Long enough for all threads to sleep: on an idle machine, a request has to wake each of them on
/// its way.
const QUIET: Duration = Duration::from_millis(1);
const TRIPS: usize = 200;
const CHECKS: usize = 1_000;

/// The highest rate.
const RATE: Rate = Rate::per_second(1_000_000);
const QUOTA: Quota = Quota::per_day(1_000_000_000);

/// Runs all measurements on one store.
pub(crate) fn measure(place: &Place) -> Outcome {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    charges(&runtime, place, false)?;
    charges(&runtime, place, true)?;
    round_trips(&runtime, place)?;
    batches(&runtime, place)
}

/// Starts a manager on a store value of its own, and creates keys with a rate, a quota, and both.
async fn keys(place: &Place) -> Outcome<(ApiKeyManager, [NewKey; 3])> {
    let builder = ApiKeyManager::builder().shared_store(place.store());
    let manager = builder.start().await?;
    let rate = manager.create("RATE").limit("rate", RATE).await?;
    let quota = manager.create("QUOTA").limit("quota", QUOTA).await?;
    let both = manager.create("BOTH").limit("rate", RATE);
    let both = both.limit("quota", QUOTA).await?;
    Ok((manager, [rate, quota, both]))
}

/// Measures the store's own charge and the whole check, interleaved with the cheapest request of
/// its client and with a durable write.
fn charges(runtime: &Runtime, place: &Place, quiet: bool) -> Outcome {
    let (manager, [rate, quota, both]) = runtime.block_on(keys(place))?;
    let mut client = runtime.block_on(place.client())?;
    let mut writer = runtime.block_on(place.client())?;
    runtime.block_on(writer.prepare())?;
    let store = place.store();
    runtime.block_on(store.start())?;
    let charge = |key: &NewKey, rules: &[LimitRule]| {
        let counters = rules.iter().map(|rule| LimitCounter::new("bench", *rule));
        Charge::new(key.id(), 1, counters.collect())
    };
    let (rule, other) = (LimitRule::from(RATE), LimitRule::from(QUOTA));
    let bills = [
        charge(&rate, &[rule]),
        charge(&quota, &[other]),
        charge(&both, &[rule, other]),
    ];
    let mut subjects: Vec<Work<'_>> = vec![
        turn(runtime, quiet, async || agree(client.look().await)),
        turn(runtime, quiet, async || agree(writer.write().await)),
    ];
    let limits = limits(&*store)?;
    for bill in &bills {
        let charge = async || assert!(agree(limits.charge(bill).await).allowed);
        subjects.push(turn(runtime, quiet, charge));
    }
    for key in [&rate, &quota, &both] {
        let check = async || drop(agree(manager.verify(key.expose_secret()).await));
        subjects.push(turn(runtime, quiet, check));
    }
    let rounds = in_turns(CHARGES, 1, &mut subjects);
    drop(subjects);
    let counting = counted(limits.support());
    print_charges(place, quiet, counting, &rounds);
    runtime.block_on(store.stop());
    runtime.block_on(manager.shutdown())?;
    Ok(())
}

fn print_charges(place: &Place, quiet: bool, counting: &str, rounds: &Rounds) {
    let whats = [
        "the client reads a number by its key",
        "the client changes it",
        "charge() of the store, a rate",
        "... a quota",
        "... both",
        "a check of a key with a rate",
        "... with a quota",
        "... with both",
    ];
    let target = |subject| match (subject, place.name.starts_with("Redis")) {
        (2 | 3, true) => "1.30",
        _ => "",
    };
    let mut table = Table::new(format!(
        "{}, {}: counted by the store (it counts {}); ratio to the client's read / its write",
        place.name,
        if quiet {
            "each after a pause of 1 ms"
        } else {
            "one right after another"
        },
        counting,
    ));
    for (subject, what) in whats.into_iter().enumerate() {
        let spread = rounds.spread(subject);
        let ratio =
            [0, 1].map(|base| times(spread.quantile(0.5) / rounds.spread(base).quantile(0.5)));
        table.row(
            format!("{what}, p50"),
            micros(spread.quantile(0.5)),
            ratio.join(" / "),
            target(subject),
        );
        table.row("    p99", micros(spread.quantile(0.99)), "", "");
    }
    table.print();
}

/// Measures one call, after a pause or right after another of its kind, so that caches are warm. A
/// call of another kind would leave them cold.
fn turn<'w>(runtime: &'w Runtime, quiet: bool, mut work: impl AsyncFnMut() + 'w) -> Work<'w> {
    Box::new(move |_| {
        runtime.block_on(work());
        if quiet {
            std::thread::sleep(QUIET);
        }
        timed(runtime, work())
    })
}

fn limits(store: &dyn KeyStore) -> Result<&dyn LimitStore, StoreError> {
    let limits = store.limits();
    limits.ok_or_else(|| StoreError::unavailable("it does not count limits"))
}

fn counted(counting: LimitSupport) -> &'static str {
    match counting {
        LimitSupport::All => "rates and quotas",
        LimitSupport::Quotas => "quotas",
        _ => "nothing",
    }
}

/// Counts how often the store waits for its server in one charge.
fn round_trips(runtime: &Runtime, place: &Place) -> Outcome {
    let Some(port) = place.port() else {
        return Ok(());
    };
    let proxy = Proxy::to_port(port);
    let (manager, [.., key]) = runtime.block_on(keys(place))?;
    runtime.block_on(manager.shutdown())?;
    let store = place.store_at(proxy.port());
    let counters = vec![
        LimitCounter::new("rate", RATE),
        LimitCounter::new("quota", QUOTA),
    ];
    let charge = Charge::new(key.id(), 1, counters);
    let each = runtime.block_on(async {
        store.start().await?;
        // The first charge prepares statements that the server then caches.
        let limits = limits(&*store)?;
        limits.charge(&charge).await?;
        let before = proxy.turns();
        for _ in 0..TRIPS {
            limits.charge(&charge).await?;
        }
        let after = proxy.turns();
        store.stop().await;
        Ok::<_, StoreError>((after - before) as f64 / TRIPS as f64)
    })?;
    let mut table = Table::new(format!("{}: round trips of a charge", place.name));
    table.row("a rate and a quota", times(each), "", "1.00");
    table.print();
    Ok(())
}

/// Measures checks of a key whose quota is prefetched.
fn batches(runtime: &Runtime, place: &Place) -> Outcome {
    let mut table = Table::new(format!(
        "{}: checks of a key with a quota, one after another; ratio to the one above",
        place.name
    ));
    let mut single = f64::NAN;
    for units in [1, 10, 100] {
        let store = Arc::new(Forwarding(Counted {
            inner: place.store(),
            charges: AtomicUsize::new(0),
        }));
        let shared: Arc<dyn KeyStore> = Arc::clone(&store) as _;
        let config = Config::builder().limit_prefetch(units).build()?;
        let builder = ApiKeyManager::builder().config(config).shared_store(shared);
        let manager = runtime.block_on(builder.start())?;
        let key = manager.create("AHEAD").limit("quota", QUOTA);
        let key = runtime.block_on(key.into_future())?;
        let check = || {
            timed(runtime, async {
                agree(manager.verify(key.expose_secret()).await);
            })
        };
        let took: Vec<f64> = (0..CHECKS).map(|_| check() as f64).collect();
        let mean = took.iter().sum::<f64>() / CHECKS as f64;
        let spread = Spread::new(took);
        if units == 1 {
            single = mean;
        }
        let what = format!("`limit_prefetch({units})`");
        let charges = store.charges.load(Ordering::Relaxed);
        table.row(
            format!("{what}, charges for {CHECKS} checks"),
            charges.to_string(),
            "",
            "",
        );
        table.row(format!("{what}, p50"), micros(spread.quantile(0.5)), "", "");
        table.row(
            format!("{what}, mean"),
            micros(mean),
            times(mean / single),
            "",
        );
        runtime.block_on(manager.shutdown())?;
    }
    table.print();
    Ok(())
}

/// Returns the nanoseconds that `work` takes.
fn timed(runtime: &Runtime, work: impl Future<Output = ()>) -> u64 {
    let start = clock::wall();
    runtime.block_on(work);
    clock::wall() - start
}

fn agree<T, E: std::fmt::Debug>(answer: Result<T, E>) -> T {
    match answer {
        Ok(answer) => answer,
        Err(error) => panic!("a measured call failed: {error:?}"),
    }
}

fn micros(nanos: f64) -> String {
    format!("{:.1} us", nanos / 1e3)
}

/// A store that counts its charges.
#[derive(Debug)]
struct Counted {
    inner: Arc<dyn KeyStore>,
    charges: AtomicUsize,
}

impl Forward for Counted {
    fn inner(&self) -> &dyn KeyStore {
        &*self.inner
    }

    async fn charge(&self, charge: &Charge) -> Result<ChargeOutcome, StoreError> {
        self.charges.fetch_add(1, Ordering::Relaxed);
        limits(self.inner())?.charge(charge).await
    }

    /// What is measured is charging.
    fn has(&self, capability: Capability) -> bool {
        capability != Capability::Usage
    }
}
