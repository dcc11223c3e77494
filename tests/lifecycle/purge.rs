//! Removing the records of keys that ended.

use std::sync::Arc;
use std::time::Duration;

use apikey_runtime::clock::ManualClock;
use apikey_runtime::{Error, MemoryStore, Timestamp};
use apikey_test_support::manager_at;

use crate::HOUR;

#[actix_web::test]
async fn a_time_in_the_future_is_refused_since_keys_that_end_by_then_still_work() {
    let clock = Arc::new(ManualClock::starting_now());
    let manager = manager_at(Arc::new(MemoryStore::new()), clock.clone()).await;
    let key = manager.create("a").expires_in(HOUR).await.unwrap();
    let end = key.record().expires.unwrap();
    let next = manager.now().checked_add(Duration::from_millis(1)).unwrap();
    for before in [next, end.checked_add(HOUR).unwrap(), Timestamp::MAX] {
        match manager.purge(before).await {
            Err(Error::InvalidArgument(why)) => {
                assert!(why.contains("lies in the future"), "{why}")
            }
            other => panic!("{before}: {other:?}"),
        }
    }
    assert!(manager.verify(key.expose_secret()).await.is_ok());
    assert_eq!(manager.purge(manager.now()).await.unwrap(), 0);
    // Before the end is before it: the key that ends now stays.
    clock.advance(HOUR);
    assert_eq!(manager.purge(manager.now()).await.unwrap(), 0);
    clock.advance(Duration::from_millis(1));
    assert_eq!(manager.purge(manager.now()).await.unwrap(), 1);
}
