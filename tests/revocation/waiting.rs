//! Denials that wait for the store, which could reverse them: for how long, and where.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use apikey_runtime::{ApiKeyManager, Config, DenyReason, KeyStore, MemoryStore, NewKey};
use apikey_test_support::store::{Call, Fault, GateStore};
use apikey_test_support::{PATIENCE, manager_on, soon, within};

/// The time that a call of the store may take. A busy machine has as much again.
const DEADLINE: Duration = Duration::from_secs(5);

/// The longest one. A third of it is the time between two polls that are answered.
const LEASE: Duration = Duration::from_secs(60);

async fn refusal(manager: &ApiKeyManager, key: &NewKey) -> Option<DenyReason> {
    let denied = manager.verify(key.expose_secret()).await.err()?;
    Some(denied.reason())
}

/// Starts a manager that has a disabled key in its cache.
async fn with_disabled_key() -> (Arc<GateStore>, ApiKeyManager, NewKey) {
    let shared: Arc<dyn KeyStore> = Arc::new(MemoryStore::new().with_lease(LEASE));
    let there = manager_on(Arc::clone(&shared)).await;
    let key = there.create("a").await.unwrap();
    there.disable(key.id()).await.unwrap();
    let store = GateStore::around(shared);
    store.cut_push();
    let config = Config::builder().store_timeout(DEADLINE).build().unwrap();
    let manager = ApiKeyManager::builder().config(config);
    let manager = manager.shared_store(Arc::clone(&store) as Arc<dyn KeyStore>);
    let manager = manager.start().await.unwrap();
    let refused = soon(refusal(&manager, &key)).await;
    assert_eq!(refused, Some(DenyReason::Disabled));
    (store, manager, key)
}

/// The poll that is in flight hangs, so would the next one, and so would a read.
#[actix_web::test]
async fn a_denial_waits_no_longer_than_one_call_for_a_store_that_hangs() {
    let (store, manager, key) = with_disabled_key().await;
    store.fail(Call::Changes, Fault::Hangs);
    store.fail(Call::Find, Fault::Hangs);
    let polls = store.count(Call::Changes);
    let (asking, secret) = (manager.clone(), key.expose_secret().to_owned());
    let asking = actix_web::rt::spawn(async move { asking.verify(&secret).await.is_err() });
    let polls = within(PATIENCE, async || store.count(Call::Changes) > polls).await;
    assert!(polls.is_some());
    let began = Instant::now();
    let refused = soon(refusal(&manager, &key)).await;
    assert_eq!(refused, Some(DenyReason::StoreUnavailable));
    assert!(began.elapsed() < 2 * DEADLINE, "{:?}", began.elapsed());
    assert!(soon(asking).await.unwrap());
    // The control: polls hang, and reads work again, once the one that hangs has ended.
    store.heal();
    tokio::time::sleep(DEADLINE).await;
    store.fail(Call::Changes, Fault::Hangs);
    let refused = soon(refusal(&manager, &key)).await;
    assert_eq!(refused, Some(DenyReason::Disabled));
}

/// Wakes a thread.
struct ThreadWaker(Thread);

impl Wake for ThreadWaker {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future on this thread, without a runtime.
fn run<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(ThreadWaker(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// A poll decides the first time, and then a read. The control is a key that is allowed, which waits for nothing.
#[actix_web::test]
async fn a_denial_may_wait_on_a_thread_without_a_runtime() {
    let (store, manager, key) = with_disabled_key().await;
    let live = manager_on(Arc::clone(&store) as Arc<dyn KeyStore>).await;
    let live = live.create("b").await.unwrap();
    let thread = std::thread::spawn(move || {
        let allowed = run(refusal(&manager, &live));
        let by_poll = run(refusal(&manager, &key));
        store.fail(Call::Changes, Fault::Unavailable);
        [allowed, by_poll, run(refusal(&manager, &key))]
    });
    assert!(
        within(PATIENCE, async || thread.is_finished())
            .await
            .is_some()
    );
    let disabled = Some(DenyReason::Disabled);
    assert_eq!(thread.join().unwrap(), [None, disabled, disabled]);
}

/// The lease may end before a third of it is over.
#[actix_web::test]
async fn a_poll_that_failed_is_repeated_soon() {
    let (store, manager, key) = with_disabled_key().await;
    store.fail(Call::Changes, Fault::Unavailable);
    let polls = store.count(Call::Changes);
    let refused = soon(refusal(&manager, &key)).await;
    assert_eq!(refused, Some(DenyReason::Disabled), "by a read");
    // The denial requested at most two.
    let repeated = within(LEASE / 3, async || store.count(Call::Changes) > polls + 3).await;
    assert!(repeated.is_some());
    // The control: after an answer, the next one has time.
    store.heal();
    let polls = || store.count(Call::Changes);
    let refused = soon(refusal(&manager, &key)).await;
    assert_eq!(refused, Some(DenyReason::Disabled), "by a poll");
    let answered = polls();
    tokio::time::sleep(Duration::from_secs(4)).await;
    // The denial may have requested one more.
    assert!(polls() <= answered + 1);
}
