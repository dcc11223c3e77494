//! Checks keys on a node while another node works.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use apikey_runtime::{ApiKeyManager, NewKey};
use tokio::runtime::Builder;

use super::spread::{Spread, millis};
use super::table::{Table, times};
use super::{Outcome, clock};

/// Keys that stay, and that are checked.
const BYSTANDERS: usize = 1_000;

/// The pause after each check, so that the checks do not take the CPU from what they observe.
const BETWEEN: Duration = Duration::from_micros(200);

/// Creates the keys that stay.
pub(crate) async fn bystanders(manager: &ApiKeyManager) -> Outcome<Vec<NewKey>> {
    let mut keys = Vec::with_capacity(BYSTANDERS);
    for _ in 0..BYSTANDERS {
        keys.push(manager.create("STAYS").owner("small").await?);
    }
    Ok(keys)
}

/// A piece of work, and the checks that another node made meanwhile.
pub(crate) struct Run<T> {
    pub(crate) value: T,
    pub(crate) took: Duration,
    pub(crate) checks: Spread,
}

/// Checks keys on a thread of its own, one after another.
pub(crate) struct Observer {
    stop: Arc<AtomicBool>,
    figures: mpsc::Receiver<f64>,
    thread: JoinHandle<()>,
}

impl Observer {
    /// Starts the checks, once each key has been checked.
    pub(crate) fn start(manager: ApiKeyManager, keys: Vec<NewKey>) -> Outcome<Self> {
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
        let (send, figures) = mpsc::channel();
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
    pub(crate) fn during<T>(&self, work: impl FnOnce() -> Outcome<T>) -> Outcome<Run<T>> {
        self.figures.try_iter().for_each(drop);
        let started = Instant::now();
        let value = work()?;
        let took = started.elapsed();
        let checks = Spread::new(self.figures.try_iter().collect());
        Ok(Run {
            value,
            took,
            checks,
        })
    }

    pub(crate) fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        // A check that was denied has panicked there, and says so.
        assert!(
            self.thread.join().is_ok(),
            "the checks of the other node failed"
        );
    }
}

impl<T> Run<T> {
    /// Adds rows of the checks, compared with those of a quiet time.
    pub(crate) fn rows<Q>(&self, table: &mut Table, what: &str, quiet: &Run<Q>) {
        for (name, share, target) in [("p50", 0.5, ""), ("p99", 0.99, "2.00"), ("max", 1.0, "")] {
            let figure = self.checks.quantile(share);
            let ratio = times(figure / quiet.checks.quantile(share));
            let row = format!("  {what}: a warm check on another node, {name}");
            table.row(row, millis(figure), ratio, target);
        }
    }
}
