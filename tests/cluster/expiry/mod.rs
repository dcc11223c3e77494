//! Events of keys that expire soon: each threshold is told once, and twice only if a node died in between.

mod controls;
mod kills;
mod steps;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use apikey_runtime::{ApiKeyManager, KeyId, KeyStore};
use tokio::time::sleep;

use crate::harness::clock::{nanos, now};
use crate::harness::cluster::Cluster;
use crate::harness::node;
use crate::harness::process::NodeProcess;
use crate::harness::settings::Settings;
use crate::harness::telling::{Account, Broken, Threshold};
use crate::limits::{On, nodes};

const LEASE: Duration = Duration::from_millis(200);

const DAY: Duration = Duration::from_hours(24);

/// How soon after the setting of an expiry a threshold counts as passed, and a little more.
const SLACK: Duration = Duration::from_millis(1_050);

/// The longest wait for something that has to happen.
const PATIENCE: Duration = Duration::from_secs(120);

/// A cluster whose nodes tell what expires soon, and a manager that does not: it creates and changes keys.
struct Tellers {
    cluster: Arc<Cluster>,
    store: Arc<dyn KeyStore>,
    observer: ApiKeyManager,
    expected: Mutex<BTreeSet<Threshold>>,
    /// Thresholds that may have passed when they were set.
    uncertain: Mutex<BTreeSet<Threshold>>,
}

impl Tellers {
    async fn start(on: On, test: &str, settings: Settings) -> Option<Self> {
        let settings = Settings {
            tells: true,
            ..settings
        };
        let cluster = nodes(on, test, settings).await?;
        let store = node::open(&cluster.place.url(None), LEASE);
        let builder = ApiKeyManager::builder().shared_store(Arc::clone(&store));
        Some(Self {
            cluster,
            store,
            observer: builder.start().await.unwrap(),
            expected: Mutex::default(),
            uncertain: Mutex::default(),
        })
    }

    /// Creates a key that has to be told once: so many days before its end, after this time.
    async fn create(&self, days: u32, after: Duration) -> KeyId {
        let expires = SystemTime::now() + DAY * days + after;
        let key = self.observer.create("mortal").expires_at(expires).await;
        let key = key.unwrap();
        self.expect(key.id(), days, expires).await;
        key.id()
    }

    /// Gives a key another end, which has to be told.
    async fn postpone(&self, id: KeyId, days: u32, after: Duration) {
        let expires = SystemTime::now() + DAY * days + after;
        let update = self.observer.update(id).expires_at(expires);
        update.await.unwrap();
        self.expect(id, days, expires).await;
    }

    /// Expects that a threshold is told. On a busy machine, the change may have taken so long that it counts as
    /// passed: such a threshold may be told or not.
    async fn expect(&self, id: KeyId, days: u32, expires: SystemTime) {
        let is_certain = SystemTime::now() + SLACK + DAY * days < expires;
        let record = self.observer.get(id).await.unwrap();
        let expires = record.expires.unwrap().as_millis();
        let threshold = (id.to_string(), days, expires);
        let thresholds = match is_certain {
            true => &self.expected,
            false => &self.uncertain,
        };
        thresholds.lock().unwrap().insert(threshold);
    }

    fn account(&self) -> Account {
        let mut account = Account::default();
        for node in self.cluster.lives() {
            account.add(node.number, node.tellings(), node.killed());
        }
        account
    }

    fn judge(&self) -> Vec<Broken> {
        let mut account = self.account();
        let uncertain = self.uncertain.lock().unwrap();
        account
            .told
            .retain(|telling| !uncertain.contains(&telling.threshold()));
        account.judge(&self.expected.lock().unwrap())
    }

    fn all_are_told(&self) -> bool {
        let lost = |broken: &Broken| matches!(broken, Broken::Lost(_));
        !self.judge().iter().any(lost)
    }

    /// Waits until the node has looked, after this moment, and told what it found.
    async fn looked(&self, node: &NodeProcess) {
        let claims = async || node.ask("claims").await.unwrap().parse::<u64>().unwrap();
        let least = claims().await + 3;
        wait_until(async || claims().await >= least).await;
    }

    /// Waits until all nodes of the member list run: the observer, and those of the cluster.
    async fn dead_ones_are_removed(&self) {
        let membership = self.store.membership().unwrap();
        let living = 1 + self.cluster.members().len();
        let members = async || membership.members().await.unwrap().nodes.len();
        wait_until(async || members().await == living).await;
    }

    async fn node(&self, slot: usize) -> Arc<NodeProcess> {
        self.cluster.node(slot).expect("it runs")
    }

    async fn end(self) {
        self.observer.shutdown().await.unwrap();
    }
}

/// Panics if it does not become true in time.
async fn wait_until(is_true: impl AsyncFn() -> bool) {
    let begun = now();
    while !is_true().await {
        assert!(now() - begun < nanos(PATIENCE), "not in {PATIENCE:?}");
        sleep(Duration::from_millis(10)).await;
    }
}
