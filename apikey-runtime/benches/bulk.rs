//! A bulk change of many keys, and what it costs the checks of another node.
//!
//! Per store: `purge` of 100,000 expired keys on one node, while another node checks 1,000 keys that
//! stay. PostgreSQL and Redis are servers of the bench's own on loopback, configured to keep what they
//! acknowledge; a server that is not installed is skipped. Nodes are managers of this process, each
//! with a store value, connections and a thread of its own. `cargo bench .. --bench bulk -- Redis`
//! measures only the stores that are named. `BULK_KEYS` sets another number of keys.

mod servers;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use apikey_runtime::store::StoreError;
use apikey_runtime::{ApiKeyManager, KeyId, KeyRecord, KeyStore, Timestamp};
use apikey_test_support::store::{Forward, Forwarding};
use tokio::runtime::{Builder, Runtime};

use servers::places::Place;
use support::Outcome;
use support::observer::{Observer, bystanders};
use support::table::Table;

/// How long the other node's checks are measured before the change.
const QUIET: Duration = Duration::from_secs(3);

fn main() -> Outcome {
    if !support::asked_for() {
        return Ok(());
    }
    let names: Vec<String> = std::env::args().skip(1).collect();
    let all = names.iter().all(|name| name.starts_with('-'));
    let keys = match std::env::var("BULK_KEYS") {
        Ok(text) => text.parse()?,
        Err(_) => 100_000,
    };
    let runtime = Builder::new_current_thread().enable_all().build()?;
    for place in Place::every(|name| all || names.iter().any(|wanted| wanted == name))? {
        measure(&runtime, &place, keys)?;
    }
    Ok(())
}

fn measure(runtime: &Runtime, place: &Place, keys: usize) -> Outcome {
    let caller = runtime.block_on(node(place.store()))?;
    let staying = runtime.block_on(bystanders(&caller))?;
    let expired = caller
        .create("GONE")
        .owner("gone")
        .expires_in(Duration::from_millis(1));
    let expired = runtime.block_on(expired.into_future())?;
    runtime.block_on(place.copy(expired.id(), 1..keys))?;
    let reads = Arc::new(Forwarding(CountedReads {
        inner: place.store(),
        finds: AtomicUsize::new(0),
    }));
    let other = runtime.block_on(node(Arc::clone(&reads) as _))?;
    let observer = Observer::start(other.clone(), staying)?;

    let quiet = observer.during(|| {
        std::thread::sleep(QUIET);
        Ok(())
    })?;
    let before = reads.0.finds.load(Ordering::Relaxed);
    let now = Timestamp::from(std::time::SystemTime::now());
    let purged = observer.during(|| Ok(runtime.block_on(caller.purge(now).into_future())?))?;
    let lost = reads.0.finds.load(Ordering::Relaxed) - before;
    observer.stop();
    assert_eq!(purged.value, keys as u64);

    let mut table = Table::new(format!(
        "{}: {keys} keys purged; ratio to the same figure before",
        place.name
    ));
    quiet.rows(&mut table, "before", &quiet);
    table.row(
        "purge",
        format!("{:.2} s", purged.took.as_secs_f64()),
        "",
        "",
    );
    let each = purged.took.as_secs_f64() * 1e6 / keys as f64;
    table.row("  per key", format!("{each:.1} us"), "", "");
    let what = "  keys that stay, read again by the other node";
    table.row(what, lost.to_string(), "", "0");
    purged.rows(&mut table, "purge", &quiet);
    table.print();
    runtime.block_on(other.shutdown())?;
    runtime.block_on(caller.shutdown())?;
    Ok(())
}

async fn node(store: Arc<dyn KeyStore>) -> Outcome<ApiKeyManager> {
    Ok(ApiKeyManager::builder().shared_store(store).start().await?)
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
