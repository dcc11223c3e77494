//! Deadlines of reads that share a batch, and the end of the runtime.

use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use tokio::runtime::{Builder, Handle, Runtime};

use super::*;
use crate::audit::ChangeOrigin;
use crate::clock::{SystemClock, Timestamp};
use crate::key::Sha256Hasher;
use crate::record::{KeyPatch, Revocation};
use crate::shared::{CallClass, LastUseTimes, UnflushedUses};
use crate::store::{
    BatchReads, BulkStep, LastUsed, ListCursor, ListQuery, RecordPage, UsageBatch, UsageQuery,
    UsageRow, UsageStore, WriteOptions,
};

/// Outlasts every test.
const LONG: Duration = Duration::from_secs(3_600);

/// The number of batches that are sent at once.
const WORKERS: usize = 4;

/// A store that has a record of every id, and notes which ids it is asked for. It never answers when a key was last used.
#[derive(Debug, Default)]
struct NotingStore {
    asked: Mutex<Vec<KeyId>>,
    hangs: bool,
}

impl NotingStore {
    fn asked(&self) -> Vec<KeyId> {
        self.asked.lock().unwrap().clone()
    }
}

#[async_trait]
impl BatchReads for NotingStore {
    async fn find_many(&self, ids: &[KeyId]) -> Result<Vec<FindResult>, StoreError> {
        let mut found = Vec::new();
        for id in ids {
            found.push(self.find(id).await);
        }
        Ok(found)
    }
}

#[async_trait]
impl KeyStore for NotingStore {
    async fn find(&self, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> {
        self.asked.lock().unwrap().push(*id);
        if self.hangs {
            std::future::pending::<()>().await;
        }
        let digest = Sha256Hasher::new().hash("a").unwrap();
        let created = Timestamp::from_millis(0);
        Ok(Some(KeyRecord::new(*id, "my_api", "a", digest, created)))
    }

    fn batch_reads(&self) -> Option<&dyn BatchReads> {
        Some(self)
    }

    fn usage(&self) -> Option<&dyn UsageStore> {
        Some(self)
    }

    async fn insert(&self, _: &KeyRecord, _: &WriteOptions) -> Result<(), StoreError> {
        Err(StoreError::Conflict)
    }

    async fn list(&self, _: &ListQuery) -> Result<RecordPage, StoreError> {
        Ok(RecordPage::default())
    }

    async fn update(&self, _: &KeyId, _: &KeyPatch, _: &WriteOptions) -> Result<(), StoreError> {
        Err(StoreError::Conflict)
    }

    async fn revoke(
        &self,
        _: &KeyId,
        _: &Revocation,
        _: &WriteOptions,
    ) -> Result<bool, StoreError> {
        Err(StoreError::Conflict)
    }

    async fn purge(
        &self,
        _: Timestamp,
        _: Option<&ListCursor>,
        _: &ChangeOrigin,
    ) -> Result<BulkStep, StoreError> {
        Ok(BulkStep::default())
    }
}

#[async_trait]
impl UsageStore for NotingStore {
    async fn add_usage(&self, _: &UsageBatch) -> Result<(), StoreError> {
        Ok(())
    }

    async fn read_usage(&self, _: &UsageQuery) -> Result<Vec<UsageRow>, StoreError> {
        Ok(Vec::new())
    }

    async fn last_used(&self, _: &[KeyId]) -> Result<Vec<LastUsed>, StoreError> {
        std::future::pending().await
    }

    async fn prune_usage(&self, _: i64) -> Result<(), StoreError> {
        Ok(())
    }
}

#[derive(Debug)]
struct NoUses;

impl UnflushedUses for NoUses {
    fn unflushed_uses(&self, _: &[KeyId]) -> LastUseTimes {
        LastUseTimes::new()
    }
}

/// Creates a loader whose calls of the store may take long.
fn loader(store: &Arc<NotingStore>, idle: Option<IdleExpiry>, runtime: Handle) -> Arc<Loader> {
    let (store, clock) = (Arc::clone(store), Arc::new(SystemClock::new()));
    Arc::new(Loader {
        queue: Loader::queue_of(&*store),
        shared: Arc::new(Shared::new(store, clock, runtime, LONG)),
        cache: Arc::new(Cache::new(1_000)),
        hasher: Arc::new(Sha256Hasher::new()),
        plans: Plans::default(),
        idle,
        single_reads: Semaphore::new(SINGLE_READS),
    })
}

fn id(number: usize) -> KeyId {
    KeyId::from_u128(number as u128)
}

/// Starts a read of a key, with a deadline of its own.
fn read(
    loader: &Loader,
    number: usize,
    until: Instant,
) -> (QueuedRead, watch::Receiver<ReadOutcome>) {
    let id = id(number);
    let shard = loader.cache.shard(&id);
    let (mut read, outcome) = shard.enter(|state, generation| loader.start(state, id, generation));
    read.until = until;
    (read, outcome)
}

/// A read that is almost too late would end the call of its whole batch.
#[tokio::test]
async fn a_read_that_waited_for_too_long_is_denied_and_another_of_its_batch_is_answered() {
    for left in [0, 40] {
        let store = Arc::new(NotingStore::default());
        let loader = loader(&store, None, Handle::current());
        let now = Instant::now();
        let (late, denied) = read(&loader, 1, now + Duration::from_millis(left));
        let (live, answered) = read(&loader, 2, now + LONG);
        let mut batch = vec![late, live];
        loader.read_batch(&mut batch).await;
        assert!(batch.is_empty());
        assert_eq!(store.asked(), [id(2)], "{left}");
        assert!(matches!(*denied.borrow(), Some(Err(ReadError))));
        let found = answered.borrow().clone().unwrap().unwrap().found;
        assert_eq!(found.unwrap().id, id(2));
        for number in [1, 2] {
            let in_flight = |state: &mut ShardState, _| state.in_flight.contains_key(&id(number));
            assert!(!loader.cache.shard(&id(number)).enter(in_flight));
        }
    }
}

/// A store that is slow enough for this has failed, and readiness says so until it answers.
#[tokio::test]
async fn reads_that_waited_for_too_long_are_failures_of_the_store() {
    let loader = loader(&Arc::new(NotingStore::default()), None, Handle::current());
    let is_failing = || loader.shared.status.of(CallClass::Reads).failing.is_some();
    let now = Instant::now();
    for (until, fails) in [(now, true), (now + LONG, false)] {
        let (waiting, _outcome) = read(&loader, 1, until);
        loader.read_batch(&mut vec![waiting]).await;
        assert_eq!(is_failing(), fails);
    }
}

/// The last uses of idle keys are read within the deadline of the read that asks for them.
#[tokio::test]
async fn reads_of_last_uses_end_with_the_deadline_of_their_read() {
    for keys in [1, 2] {
        let mut left = Duration::from_millis(200);
        // A machine under load may be too late to ask for the records: then the reads get more time.
        let (batch, outcomes) = loop {
            let store = Arc::new(NotingStore::default());
            let idle = IdleExpiry {
                after: Duration::from_secs(1),
                own: Arc::new(NoUses),
            };
            let loader = loader(&store, Some(idle), Handle::current());
            let until = Instant::now() + left;
            let reads = (0..keys).map(|number| read(&loader, number, until));
            let (mut batch, outcomes): (Vec<_>, Vec<_>) = reads.unzip();
            apikey_test_support::soon(loader.read_batch(&mut batch)).await;
            if store.asked().len() == keys {
                break (batch, outcomes);
            }
            left *= 2;
            let patience = apikey_test_support::PATIENCE;
            assert!(left < patience, "control: the records are read");
        };
        // Those of several keys are read again by themselves.
        assert_eq!(batch.len(), if keys == 1 { 0 } else { keys });
        for outcome in outcomes {
            let denied = matches!(*outcome.borrow(), Some(Err(ReadError)));
            assert_eq!(denied, keys == 1);
        }
    }
}

type Reading = Pin<Box<dyn Future<Output = Result<ReadAnswer, ReadError>>>>;

fn poll(read: &mut Reading) -> Poll<Result<ReadAnswer, ReadError>> {
    read.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

/// Starts reads, more than workers can send. With `sent`, each worker waits for the store; otherwise none has begun.
fn waiting(loader: &Arc<Loader>, store: &NotingStore, sent: Option<&Runtime>) -> Vec<Reading> {
    let start = |number| {
        let loader = Arc::clone(loader);
        let mut read: Reading = Box::pin(async move { loader.read(&id(number), false).await });
        assert!(poll(&mut read).is_pending());
        if let Some(runtime) = sent.filter(|_| number < WORKERS) {
            runtime.block_on(async {
                while store.asked().len() <= number {
                    tokio::task::yield_now().await;
                }
            });
        }
        read
    };
    (0..WORKERS + 10).map(start).collect()
}

/// Nobody would send the reads that wait.
#[test]
fn reads_that_wait_are_denied_at_once_when_the_runtime_ends() {
    for (sends, panics) in [(false, false), (true, false), (false, true)] {
        let store = Arc::new(NotingStore {
            hangs: true,
            ..NotingStore::default()
        });
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let loader = loader(&store, None, runtime.handle().clone());
        let mut reads = waiting(&loader, &store, sends.then_some(&runtime));
        if panics {
            let ends = std::panic::AssertUnwindSafe(move || {
                let _runtime = runtime;
                panic!("the test says so");
            });
            assert!(std::panic::catch_unwind(ends).is_err());
        } else {
            drop(runtime);
        }
        let after = Arc::clone(&loader);
        reads.push(Box::pin(async move { after.read(&id(999), false).await }));
        for (number, read) in reads.iter_mut().enumerate() {
            let denied = matches!(poll(read), Poll::Ready(Err(ReadError)));
            assert!(denied, "{number} {sends} {panics}");
        }
        let asked = if sends { WORKERS } else { 0 };
        assert_eq!(store.asked().len(), asked);
        drop(reads);
        assert_eq!(Arc::strong_count(&loader), 1, "a worker is left");
    }
}
