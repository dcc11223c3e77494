//! Bulk changes on a server, as a node sees them that has nothing to do with them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use apikey_runtime::{ApiKeyManager, DenyReason, KeyId, KeyStore, NewKey};
use apikey_test_support::{PATIENCE, patient_manager, soon, within};

use crate::at;

/// Keys that the caller has added: of the owner `acme`, and such that ended before 2,000.
pub(crate) const OF_ACME: u64 = 20_000;
pub(crate) const OVER: u64 = 5_000;

/// Of the stores, which are two on one server. Longer than a poll may be late on a busy machine, and shorter than the
/// calls of this test together.
pub(crate) const LEASE: Duration = Duration::from_secs(6);

async fn denial(manager: &ApiKeyManager, key: &NewKey) -> Option<DenyReason> {
    let answer = soon(manager.verify(key.expose_secret())).await;
    answer.err().map(|denied| denied.reason())
}

/// Revokes and purges them. The other node refuses the revoked keys, and reads none of those that it uses from the store
/// again, until `flush` makes it.
pub(crate) async fn disturb_no_other_key(
    [store, other]: [Arc<dyn KeyStore>; 2],
    flush: impl AsyncFnOnce(),
) {
    let writer = patient_manager(Arc::clone(&store)).await;
    let reader = patient_manager(other).await;
    let mut kept = Vec::new();
    for number in 0..20 {
        kept.push(writer.create(format!("kept {number}")).await.unwrap());
    }
    let leaked = writer.create("leaked").owner("acme").await.unwrap();
    // The other node has followed their creation: it evicts none of them for that later.
    soon(writer.enable(leaked.id()).confirmed()).await.unwrap();
    for key in kept.iter().chain([&leaked]) {
        assert_eq!(denial(&reader, key).await, None);
    }
    let misses = reader.health().cache_misses;
    let done = AtomicBool::new(false);
    let serving = async {
        let mut checks = 0_u32;
        while !done.load(Ordering::SeqCst) {
            for key in &kept {
                assert_eq!(denial(&reader, key).await, None);
                assert!(reader.health().lease_remaining.is_some());
                checks += 1;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        checks
    };
    let changing = async {
        let revoked = writer.revoke_all("acme").confirmed().await.unwrap();
        assert!(revoked.value);
        assert_eq!(denial(&reader, &leaked).await, Some(DenyReason::Revoked));
        let last = KeyId::from_u128(1);
        assert!(store.find(&last).await.unwrap().unwrap().revoked.is_some());
        assert_eq!(writer.purge(at(2_000)).await.unwrap(), OVER);
        done.store(true, Ordering::SeqCst);
    };
    let (checks, ()) = tokio::join!(serving, changing);
    assert!(checks > 0);
    // The removal has reached the other node too.
    assert!(
        soon(writer.revoke(kept[0].id()).confirmed())
            .await
            .unwrap()
            .value
    );
    for key in &kept[1..] {
        assert_eq!(denial(&reader, key).await, None);
    }
    let read = reader.health().cache_misses - misses;
    // A lease that ends for a moment on a busy machine reads some of them again. A cache that was
    // flushed reads all of them.
    assert!(
        read < kept.len() as u64 / 2,
        "only what was revoked is read again; it was {read}"
    );

    // Negative control.
    flush().await;
    let flushed = within(PATIENCE, async || {
        for key in &kept[1..] {
            assert_eq!(denial(&reader, key).await, None);
        }
        reader.health().cache_misses - misses >= kept.len() as u64 - 1
    });
    assert!(flushed.await.is_some(), "a flush is noticed by this test");
    writer.shutdown().await.unwrap();
    reader.shutdown().await.unwrap();
}
