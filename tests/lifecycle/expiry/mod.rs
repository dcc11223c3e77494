//! Events of keys that expire soon.

mod every_store;
mod races;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use apikey_runtime::clock::{Clock, ManualClock};
use apikey_runtime::events::EventKind;
use apikey_runtime::store::NodeId;
use apikey_runtime::{ApiKeyManager, Config, KeyId, KeyStore};
use apikey_test_support::store::{Call, GateStore};
use apikey_test_support::{PATIENCE, within};
use tokio::task::JoinHandle;

use crate::HOUR;

const DAY: Duration = Duration::from_hours(24);

/// A little more than nothing.
const MOMENT: Duration = Duration::from_secs(1);

/// What was told, of all nodes, in the order in which it arrived.
type Told = Arc<Mutex<Vec<(KeyId, u32)>>>;

/// A manager, and the store as it sees it.
struct Node {
    manager: ApiKeyManager,
    store: Arc<GateStore>,
}

fn looking() -> Config {
    let builder = Config::builder()
        .expiry_notice_interval(Duration::from_millis(100))
        .store_timeout(PATIENCE);
    builder.build().unwrap()
}

impl Node {
    async fn start(store: Arc<dyn KeyStore>, clock: &Arc<ManualClock>) -> Self {
        Self::with(looking(), store, clock).await
    }

    async fn with(config: Config, store: Arc<dyn KeyStore>, clock: &Arc<ManualClock>) -> Self {
        let store = GateStore::around(store);
        let clock: Arc<dyn Clock> = clock.clone();
        let builder = ApiKeyManager::builder().config(config).clock(clock);
        let started = builder.shared_store(store.clone()).start().await;
        let manager = started.unwrap();
        Self { manager, store }
    }

    /// Reads the node's events until the task is aborted.
    fn listen(&self, told: &Told) -> JoinHandle<()> {
        let (mut events, told) = (self.manager.events(), Arc::clone(told));
        tokio::spawn(async move {
            while let Some(event) = events.next().await {
                if let EventKind::ExpiringSoon { days, .. } = event.kind {
                    assert_eq!((event.owner, event.actor), (None, None));
                    let key = event.key_id.unwrap();
                    told.lock().unwrap().push((key, days));
                }
            }
        })
    }

    async fn create(&self, lasts: Duration) -> KeyId {
        let key = self.manager.create("a").owner("acme").expires_in(lasts);
        key.await.unwrap().id()
    }

    fn claims(&self) -> usize {
        self.store.count(Call::ClaimNotices)
    }

    /// Waits until the node has looked, after this moment, and told what it found.
    async fn looked(&self) {
        // The first of them may be in progress now.
        let least = self.claims() + 3;
        let done = within(PATIENCE, async || self.claims() >= least).await;
        assert!(done.is_some(), "it does not look");
    }

    /// Returns the only node in the member list.
    async fn id(&self) -> NodeId {
        let members = self.store.membership().unwrap().members().await.unwrap();
        let [node] = &members.nodes[..] else {
            panic!("{members:?}");
        };
        node.id
    }
}

/// Waits until exactly this was told, in any order.
async fn tells(told: &Told, expected: &[(KeyId, u32)], at: &str) {
    let sorted = |mut list: Vec<(KeyId, u32)>| {
        list.sort_unstable();
        list
    };
    let enough = || told.lock().unwrap().len() >= expected.len();
    let done = within(PATIENCE, async || enough()).await;
    let told = std::mem::take(&mut *told.lock().unwrap());
    assert!(done.is_some(), "{at}: {told:?} instead of {expected:?}");
    assert_eq!(sorted(told), sorted(expected.to_vec()), "{at}");
}

/// Waits until each node has looked, and returns whether nothing was told.
async fn is_quiet(nodes: &[&Node], told: &Told) -> bool {
    for node in nodes {
        node.looked().await;
    }
    told.lock().unwrap().is_empty()
}

/// The time between the creation of a key of 40 days and a moment after its first threshold.
const FIRST: Duration = Duration::from_secs(10 * 86_400 + 1);
