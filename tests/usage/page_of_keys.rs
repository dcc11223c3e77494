//! What a page that lists keys reads of the store.

use std::sync::Arc;

use apikey_runtime::{KeyId, MemoryStore};
use apikey_test_support::manager_on;
use apikey_test_support::store::{Call, GateStore};

/// Fifty keys, with the last use and the counts per day of each, are three calls.
#[actix_web::test]
async fn a_page_of_fifty_keys_with_their_usage_is_three_reads() {
    let store = GateStore::around(Arc::new(MemoryStore::new()));
    let manager = manager_on(store.clone()).await;
    for number in 0..60 {
        let key = manager.create(format!("key {number}")).owner("acme");
        let key = key.await.unwrap();
        manager.verify(key.expose_secret()).await.unwrap();
    }
    let reads = [Call::List, Call::LastUsed, Call::Usage];
    let others = [
        Call::Find,
        Call::Networks,
        Call::CountLiveKeys,
        Call::FindOwner,
    ];
    let before = reads.map(|call| store.count(call));
    let others_before = others.map(|call| store.count(call));

    let page = manager.list().owner("acme").page_size(50).await.unwrap();
    let ids: Vec<KeyId> = page.keys.iter().map(|key| key.id).collect();
    let used = manager.last_used_of(&ids).await.unwrap();
    let usage = manager.usage_of(&ids).await.unwrap().by_key_and_day();
    assert_eq!([page.keys.len(), used.len(), usage.len()], [50; 3]);
    assert!(
        usage
            .iter()
            .all(|of_key| of_key.days[0].counts.requests == 1)
    );
    let after = reads.map(|call| store.count(call));
    assert_eq!(after, before.map(|count| count + 1));
    assert_eq!(others.map(|call| store.count(call)), others_before);

    // All owners' keys have their last uses in the page itself.
    let page = manager.list().page_size(50).with_usage().await.unwrap();
    assert_eq!(page.last_used.len(), 50);
    let again = reads.map(|call| store.count(call));
    assert_eq!(again, [after[0] + 1, after[1] + 1, after[2]]);
}
