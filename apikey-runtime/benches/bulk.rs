//! Bulk changes of many keys, and what they cost the checks of another node.
//!
//! Per store: `purge` of 100,000 expired keys, and `revoke_all(..).confirmed()` for an owner of
//! 1,000,000, called on one node while another node checks 1,000 keys that stay. PostgreSQL and Redis
//! are servers of the bench's own on loopback, configured to keep what they acknowledge; a server
//! that is not installed is skipped. Nodes are managers of this process, each with a store value,
//! connections and a thread of its own. `cargo bench .. --bench bulk -- Redis` measures only the
//! stores that are named. `BULK_KEYS` sets another number of keys of the owner; a tenth of them is
//! purged.

mod servers;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use apikey_runtime::store::StoreError;
use apikey_runtime::{ApiKeyManager, KeyId, KeyRecord, KeyStore, NewKey, Timestamp};
use apikey_test_support::store::{Forward, Forwarding};
use tokio::runtime::{Builder, Runtime};

use servers::places::Place;
use support::spread::{Spread, millis};
use support::table::{Table, times};
use support::{Outcome, clock};

/// Keys that stay, and that the other node checks.
const BYSTANDERS: usize = 1_000;

/// How long the other node's checks are measured before the first bulk change.
const QUIET: Duration = Duration::from_secs(3);

/// The pause after each check, so that the checks do not take the CPU from what they observe.
const BETWEEN: Duration = Duration::from_micros(200);

fn main() -> Outcome {
    if !support::asked_for() {
        return Ok(());
    }
    let names: Vec<String> = std::env::args().skip(1).collect();
    let all = names.iter().all(|name| name.starts_with('-'));
    let keys = match std::env::var("BULK_KEYS") {
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
    let (gone, owned) = (keys / 10, keys);
    let caller = runtime.block_on(node(place.store()))?;
    let staying = runtime.block_on(bystanders(&caller))?;
    let expired = caller
        .create("GONE")
        .owner("gone")
        .expires_in(Duration::from_millis(1));
    let expired = runtime.block_on(expired.into_future())?;
    let model = runtime.block_on(caller.create("BIG").owner("big").into_future())?;
    let started = Instant::now();
    runtime.block_on(place.copy(expired.id(), 1..gone))?;
    runtime.block_on(place.copy(model.id(), gone..gone + owned - 1))?;
    let filled = started.elapsed();
    let reads = Arc::new(Forwarding(CountedReads {
        inner: place.store(),
        finds: AtomicUsize::new(0),
    }));
    let other = runtime.block_on(node(Arc::clone(&reads) as _))?;
    let observer = Observer::start(other.clone(), staying)?;

    let quiet = observer.during(|| {
        std::thread::sleep(QUIET);
        Ok(0)
    })?;
    let before = reads.0.finds.load(Ordering::Relaxed);
    let now = Timestamp::from(std::time::SystemTime::now());
    let purged = observer.during(|| Ok(runtime.block_on(caller.purge(now).into_future())?))?;
    let lost = reads.0.finds.load(Ordering::Relaxed) - before;
    let revoked = observer.during(|| {
        let call = caller.revoke_all("big").reason("breach").confirmed();
        Ok(runtime.block_on(call.into_future())?.value)
    })?;
    let lost_later = reads.0.finds.load(Ordering::Relaxed) - before - lost;
    observer.stop();
    assert_eq!((purged.keys, revoked.keys), (gone as u64, owned as u64));

    let mut table = Table::new(format!(
        "{}: {gone} keys purged, {owned} keys of one owner revoked (made in {filled:.0?}); \
         ratio to the same figure before",
        place.name
    ));
    for (what, run, lost) in [
        ("before", &quiet, 0),
        ("purge", &purged, lost),
        ("revoke_all, confirmed", &revoked, lost_later),
    ] {
        if run.keys > 0 {
            table.row(what, format!("{:.2} s", run.took.as_secs_f64()), "", "");
            let each = run.took.as_secs_f64() * 1e6 / run.keys as f64;
            table.row("  per key", format!("{each:.1} us"), "", "");
            table.row(
                "  keys that stay, read again by the other node",
                lost.to_string(),
                "",
                "0",
            );
        }
        for (name, share, target) in [("p50", 0.5, ""), ("p99", 0.99, "2.00"), ("max", 1.0, "")] {
            let figure = run.checks.quantile(share);
            let ratio = times(figure / quiet.checks.quantile(share));
            table.row(
                format!("  {what}: a warm check on the other node, {name}"),
                millis(figure),
                ratio,
                target,
            );
        }
    }
    table.print();
    runtime.block_on(other.shutdown())?;
    runtime.block_on(caller.shutdown())?;
    Ok(())
}

async fn node(store: Arc<dyn KeyStore>) -> Outcome<ApiKeyManager> {
    Ok(ApiKeyManager::builder().shared_store(store).start().await?)
}

async fn bystanders(manager: &ApiKeyManager) -> Outcome<Vec<NewKey>> {
    let mut keys = Vec::with_capacity(BYSTANDERS);
    for _ in 0..BYSTANDERS {
        keys.push(manager.create("STAYS").owner("small").await?);
    }
    Ok(keys)
}

/// A bulk change, and the checks that another node made meanwhile.
struct Run {
    keys: u64,
    took: Duration,
    checks: Spread,
}

/// Checks keys on a thread of its own, one after another.
struct Observer {
    stop: Arc<AtomicBool>,
    figures: std::sync::mpsc::Receiver<f64>,
    thread: std::thread::JoinHandle<()>,
}

impl Observer {
    /// Starts the checks, once each key has been checked.
    fn start(manager: ApiKeyManager, keys: Vec<NewKey>) -> Outcome<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let check = move |key: &NewKey| {
            let start = clock::wall();
            let checked = runtime.block_on(manager.verify(key.expose_secret()));
            assert!(checked.is_ok(), "a key that stays was denied: {checked:?}");
            (clock::wall() - start) as f64
        };
        for key in &keys {
            check(key);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let (send, figures) = std::sync::mpsc::channel();
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            for key in keys.iter().cycle() {
                if stopped.load(Ordering::Relaxed) || send.send(check(key)).is_err() {
                    return;
                }
                std::thread::sleep(BETWEEN);
            }
        });
        Ok(Self {
            stop,
            figures,
            thread,
        })
    }

    /// Runs `work`, and returns the checks of that time.
    fn during(&self, work: impl FnOnce() -> Outcome<u64>) -> Outcome<Run> {
        self.figures.try_iter().for_each(drop);
        let started = Instant::now();
        let keys = work()?;
        let took = started.elapsed();
        let checks = Spread::new(self.figures.try_iter().collect());
        Ok(Run { keys, took, checks })
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        // A check that was denied has panicked there, and says so.
        assert!(
            self.thread.join().is_ok(),
            "the checks of the other node failed"
        );
    }
}

/// A store that counts its reads.
#[derive(Debug)]
struct CountedReads {
    inner: Arc<dyn KeyStore>,
    finds: AtomicUsize,
}

impl Forward for CountedReads {
    fn inner(&self) -> &dyn KeyStore {
        &*self.inner
    }

    async fn find(&self, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> {
        self.finds.fetch_add(1, Ordering::Relaxed);
        self.inner.find(id).await
    }
}
