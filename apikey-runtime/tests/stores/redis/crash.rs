//! S-03: the server is killed during writes, and keeps what it acknowledged, completely.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use apikey_runtime::audit::ChangeOrigin;
use apikey_runtime::store::{
    ExpiryNotices, KeyPatch, ListQuery, NodeId, OwnerRevocation, OwnerStore, WriteOptions,
};
use apikey_runtime::{KeyId, KeyRecord, KeyStore, RedisStore};
use apikey_test_support::servers::redis::{DURABLE, RedisServer};

use super::audit_crash::differing;
use super::{cursor, notices, redis_server, soon, started};
use crate::{at, because, id, owned};

/// The number of keys of an owner that are revoked together.
const GROUP: u128 = 5;

/// The acknowledged changes.
#[derive(Default)]
struct Told {
    inserted: Vec<KeyId>,
    revoked: Vec<KeyId>,
}

/// Writes until the server is gone. The keys are numbered from `first`.
async fn write(store: &RedisStore, first: u128, told: &Mutex<Told>) -> Result<(), ()> {
    for base in (first..).step_by(GROUP as usize) {
        let owner = format!("owner {base}");
        for number in base..base + GROUP {
            let mut record = owned(number, &owner);
            record.expires = Some(at(9_000));
            store
                .insert(&record, &WriteOptions::new())
                .await
                .map_err(drop)?;
            told.lock().unwrap().inserted.push(id(number));
        }
        let mut patch = KeyPatch::new();
        patch.label = Some("changed".to_owned());
        patch.enabled = Some(false);
        patch.expires = Some(Some(at(9_001)));
        store
            .update(&id(base), &patch, &WriteOptions::new())
            .await
            .map_err(drop)?;
        let revocation = OwnerRevocation::new(at(3_000));
        let revoked = store
            .revoke_owner_keys(&owner, &revocation, &ChangeOrigin::new())
            .await;
        revoked.map_err(drop)?;
        let group = (base..base + GROUP).map(id);
        told.lock().unwrap().revoked.extend(group);
        store.mark_revoked_keys().await.map_err(drop)?;
        let node = NodeId::from_u128(first);
        let claimed = store.claim_notices(&node, at(0), 7).await.map_err(drop)?;
        let plans = [None, Some(at(5_000))].into_iter().cycle();
        let finished: Vec<_> = claimed.into_iter().zip(plans).take(5).collect();
        store.finish_notices(&node, &finished).await.map_err(drop)?;
    }
    Ok(())
}

/// Kills the server while four tasks write, and restarts it; returns the acknowledged changes.
async fn crash(server: &mut RedisServer, round: u128) -> Told {
    let store = Arc::new(started(server).await);
    let told = Arc::new(Mutex::new(Told::default()));
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..4 {
        let (store, told) = (Arc::clone(&store), Arc::clone(&told));
        tasks.spawn(
            async move { write(&store, round * 10_000_000 + task * 1_000_000, &told).await },
        );
    }
    soon(async || (told.lock().unwrap().revoked.len() > 40).then_some(())).await;
    tokio::time::sleep(Duration::from_micros(u64::try_from(round).unwrap() * 777)).await;
    server.kill();
    while tasks.join_next().await.is_some() {}
    store.stop().await;
    server.restart();
    drop(store);
    Arc::into_inner(told).unwrap().into_inner().unwrap()
}

async fn all(store: &RedisStore) -> BTreeMap<KeyId, KeyRecord> {
    let mut all = BTreeMap::new();
    let mut query = ListQuery::first(1_000);
    loop {
        let page = store.list(&query).await.unwrap();
        assert!(page.unreadable.is_empty());
        all.extend(page.records.into_iter().map(|record| (record.id, record)));
        query.after = page.next;
        if query.after.is_none() {
            return all;
        }
    }
}

/// Returns how many groups are revoked in part.
fn torn(records: &BTreeMap<KeyId, KeyRecord>) -> usize {
    let mut groups: BTreeMap<&str, HashSet<bool>> = BTreeMap::new();
    for record in records.values() {
        let owner = record.owner.as_deref().unwrap();
        groups
            .entry(owner)
            .or_default()
            .insert(record.revoked.is_some());
    }
    groups.values().filter(|states| states.len() > 1).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s03_a_killed_server_keeps_what_it_acknowledged_all_or_nothing() {
    let mut server = redis_server!(DURABLE);
    for round in 1..=5 {
        let told = crash(&mut server, round).await;
        let store = started(&server).await;
        let records = all(&store).await;
        for id in &told.inserted {
            assert!(
                records.contains_key(id),
                "{id} was acknowledged, and is lost"
            );
        }
        for id in &told.revoked {
            assert!(
                records[id].revoked.is_some(),
                "{id} was acknowledged as revoked"
            );
        }
        assert_eq!(torn(&records), 0);
        for record in records.values() {
            let is_changed = record.label == "changed";
            assert_eq!(is_changed, !record.enabled, "half an update: {record:?}");
        }
        // Each change has taken one epoch: as many as the versions count, after the first one. An owner's change does not
        // count in its keys, and marking does not count at all.
        let changes: u64 = records.values().map(|record| record.version).sum();
        let state =
            |record: &KeyRecord| (record.owner.clone(), record.owner_state.unwrap().version);
        let owners: BTreeMap<_, _> = records.values().map(state).collect();
        let of_owners: u64 = owners.values().map(|version| version - 1).sum();
        assert_eq!(cursor(&store).await.epoch, changes + of_owners + 1);
        assert_eq!(
            differing(&store).await,
            Vec::<String>::new(),
            "each change has one entry in the audit log"
        );
        let unfit = notices::differing(&server);
        assert_eq!(unfit, BTreeSet::new(), "each expiry has its notice");
        store.stop().await;
    }
}

/// Negative control: without persistence, acknowledged changes are lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s03_a_server_without_a_log_on_disk_is_found_out() {
    let mut server = redis_server!();
    let told = crash(&mut server, 1).await;
    let records = all(&started(&server).await).await;
    assert!(told.inserted.iter().any(|id| !records.contains_key(id)));
}

/// Negative control: a revocation in several steps is found half done.
#[tokio::test]
async fn s03_a_revocation_in_several_steps_is_found_out() {
    let server = redis_server!();
    let store = started(&server).await;
    for number in 0..GROUP {
        store
            .insert(&owned(number, "a"), &WriteOptions::new())
            .await
            .unwrap();
    }
    for number in 0..2 {
        store
            .revoke(&id(number), &because("left"), &WriteOptions::new())
            .await
            .unwrap();
    }
    assert_eq!(torn(&all(&store).await), 1);
}
