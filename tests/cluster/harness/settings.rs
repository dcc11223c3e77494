//! The settings of a run, from the environment.

use std::env::var;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::node::Charging;

/// How a run goes.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The seed of all random choices. `CLUSTER_SEED`; random by default.
    pub seed: u64,
    /// How many revocations have to succeed. `CLUSTER_REVOCATIONS`.
    pub revocations: usize,
    /// How many nodes run throughout. `CLUSTER_NODES`.
    pub nodes: usize,
    /// How long a node may trust its cache. `CLUSTER_LEASE_MS`.
    pub lease: Duration,
    /// How long a node waits for its store.
    pub store_timeout: Duration,
    /// How many units of a limit a node prefetches.
    pub limit_prefetch: u32,
    /// How the store charges.
    pub charging: Charging,
    /// Whether nodes read events of keys that expire soon.
    pub tells: bool,
    /// The test binary that nodes run: this one, or [`faulty::program`](super::faulty::program).
    pub program: PathBuf,
    /// The disabled protection, in a build that supports it.
    pub fault: Option<&'static str>,
    /// Runs only the round with this number. `CLUSTER_ROUND`.
    pub round: Option<u64>,
    /// Injects only faults with this in their names; `none` for no faults. `CLUSTER_SCHEDULE`.
    pub schedule: Option<String>,
}

impl Settings {
    /// Reads the environment; `revocations` is the default.
    pub fn from_environment(revocations: usize) -> Self {
        Self {
            seed: number("CLUSTER_SEED").unwrap_or_else(fresh_seed),
            revocations: number("CLUSTER_REVOCATIONS").unwrap_or(revocations),
            nodes: number("CLUSTER_NODES").unwrap_or(3).max(2),
            lease: Duration::from_millis(number("CLUSTER_LEASE_MS").unwrap_or(200)),
            store_timeout: Duration::from_secs(1),
            limit_prefetch: 1,
            charging: Charging::Soundly,
            tells: false,
            program: std::env::current_exe().unwrap(),
            fault: None,
            round: number("CLUSTER_ROUND"),
            schedule: var("CLUSTER_SCHEDULE").ok(),
        }
    }

    /// Returns settings for this number of nodes on a store without faults.
    pub fn calm(nodes: usize, lease: Duration) -> Self {
        Self {
            seed: 0,
            revocations: 1,
            nodes,
            lease,
            // The store may be slow, but is not down.
            store_timeout: Duration::from_secs(10),
            limit_prefetch: 1,
            charging: Charging::Soundly,
            tells: false,
            program: std::env::current_exe().unwrap(),
            fault: None,
            round: None,
            schedule: None,
        }
    }

    /// Returns whether `CLUSTER_STORE` selects this store.
    pub fn wants(store: &str) -> bool {
        var("CLUSTER_STORE").map_or(true, |only| only == store)
    }

    /// Returns the number of rounds of each test in `expiry`. `CLUSTER_EXPIRY_ROUNDS`.
    pub fn expiry_rounds() -> u64 {
        number("CLUSTER_EXPIRY_ROUNDS").unwrap_or(1).max(1)
    }

    /// Returns whether the settings permit a fault with this name.
    pub fn allows(&self, fault: &str) -> bool {
        self.schedule
            .as_ref()
            .is_none_or(|only| fault.contains(only.as_str()))
    }
}

fn number<T: FromStr>(name: &str) -> Option<T> {
    let text = var(name).ok()?;
    match text.parse() {
        Ok(number) => Some(number),
        Err(_) => panic!("`{name}` is not a number: {text:?}; write digits only"),
    }
}

fn fresh_seed() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(1, |since| since.as_nanos() as u64 % 1_000_000_000)
}
