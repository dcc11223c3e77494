//! S-03: the server is killed, again and again, and never leaves a change half done.

use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use apikey_runtime::audit::ChangeOrigin;
use apikey_runtime::store::{KeyPatch, ListQuery, OwnerStore, StoreError, WriteOptions};
use apikey_runtime::{KeyId, KeyStore, PostgresStore};
use apikey_test_support::servers::postgres::Postgres;
use sqlx::Row;
use tokio::time::sleep;

use super::{Place, connection, for_reason};
use crate::{InSteps, at, because, id, owned};

/// The number of keys of an owner that are revoked together.
const GROUP: u128 = 5;

/// The changes that have returned, with their keys.
type Told = Arc<Mutex<Vec<(&'static str, KeyId)>>>;

fn random(below: u64) -> u64 {
    RandomState::new().hash_one(()) % below
}

/// Changes keys, numbered from `first`, until a call fails.
async fn write(store: Arc<PostgresStore>, first: u128, told: Told) -> StoreError {
    let say = |what, id| told.lock().unwrap().push((what, id));
    let writing = async {
        for group in 0.. {
            let owner = format!("owner {first} {group}");
            let base = first + group * GROUP;
            for number in base..base + GROUP {
                store
                    .insert(&owned(number, &owner), &WriteOptions::new())
                    .await?;
                say("insert", id(number));
            }
            let mut patch = KeyPatch::new();
            patch.label = Some("changed".to_owned());
            patch.enabled = Some(false);
            store
                .update(&id(base), &patch, &WriteOptions::new())
                .await?;
            say("update", id(base));
            let left = for_reason(3_000, "left");
            store
                .revoke_owner_keys(&owner, &left, &ChangeOrigin::new())
                .await?;
            say("revoke", id(base));
            if group % 2 == 1 {
                while store.mark_revoked_keys().await? {}
            }
            if group % 4 == 3 {
                store.purge_all(at(i64::MAX)).await?;
                say("purge", id(base));
            }
        }
        Ok(())
    };
    writing.await.unwrap_err()
}

/// Writes, and calls `kill` meanwhile; returns the changes that had returned.
async fn interrupted(
    store: &Arc<PostgresStore>,
    first: u128,
    kill: impl AsyncFnOnce(),
) -> Vec<(&'static str, KeyId)> {
    let told = Told::default();
    let writing = tokio::spawn(write(Arc::clone(store), first, Arc::clone(&told)));
    let changes = 1 + random(40) as usize;
    while told.lock().unwrap().len() < changes {
        sleep(Duration::from_millis(1)).await;
    }
    sleep(Duration::from_micros(random(3_000))).await;
    kill().await;
    let error = writing.await.unwrap();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
    std::mem::take(&mut *told.lock().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s03_a_killed_server_leaves_all_of_a_change_or_nothing() {
    let Some(server) = Postgres::start() else {
        return;
    };
    let place = Place::on(&server).await;
    let store = Arc::new(place.started().await);
    let mut all = Vec::new();
    for round in 0..4 {
        let told = interrupted(&store, (round + 1) * 1_000_000, async || server.kill()).await;
        all.extend(told);
        server.run();
        look(&place, &all).await.unwrap();
    }
    // Kills one process of the server: the others restart by themselves.
    for round in 4..8 {
        let mut tool = connection(&server.url()).await;
        let told = interrupted(&store, (round + 1) * 1_000_000, async || {
            let pid: Option<i32> = sqlx::query_scalar(
                "SELECT max(pid) FROM pg_stat_activity WHERE application_name = 'apikey' AND state <> 'idle'",
            )
            .fetch_one(&mut tool)
            .await
            .unwrap();
            let any = "SELECT max(pid) FROM pg_stat_activity WHERE application_name = 'apikey'";
            let pid = match pid {
                Some(pid) => pid,
                None => sqlx::query_scalar(any).fetch_one(&mut tool).await.unwrap(),
            };
            server.kill_backend(pid.try_into().unwrap());
        })
        .await;
        all.extend(told);
        while store.find(&id(0)).await.is_err() {
            sleep(Duration::from_millis(10)).await;
        }
        look(&place, &all).await.unwrap();
    }
}

/// Negative control: a change made of several transactions is found half done.
#[tokio::test]
async fn s03_a_change_in_several_steps_is_found_out() {
    let place = super::place!();
    let store = place.started().await;
    for number in 0..GROUP {
        store
            .insert(&owned(number, "a"), &WriteOptions::new())
            .await
            .unwrap();
    }
    let mut patch = KeyPatch::new();
    patch.label = Some("changed".to_owned());
    patch.enabled = Some(false);
    store
        .update(&id(0), &patch, &WriteOptions::new())
        .await
        .unwrap();
    look(&place, &[("update", id(0))]).await.unwrap();
    for number in 0..2 {
        store
            .revoke(&id(number), &because("left"), &WriteOptions::new())
            .await
            .unwrap();
    }
    let said = look(&place, &[]).await.unwrap_err();
    assert!(said.contains("are revoked in part"), "{said}");
    let said = look(&place, &[("insert", id(77))]).await.unwrap_err();
    assert!(
        said.contains("in part") || said.contains("is lost"),
        "{said}"
    );
}

/// Asserts that the returned changes are there, and that log and records agree.
async fn look(place: &Place<'_>, told: &[(&str, KeyId)]) -> Result<(), String> {
    let store = place.started().await;
    let mut records = Vec::new();
    let mut query = ListQuery::first(1_000);
    loop {
        let page = store.list(&query).await.unwrap();
        assert_eq!(page.unreadable, [""; 0]);
        records.extend(page.records);
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    store.stop().await;
    let mut groups: BTreeMap<&str, Vec<bool>> = BTreeMap::new();
    for record in &records {
        let owner = record.owner.as_deref().unwrap();
        groups
            .entry(owner)
            .or_default()
            .push(record.revoked.is_some());
        if (record.label == "changed") == record.enabled {
            return Err(format!("half an update: {record:?}"));
        }
    }
    for (owner, revoked) in groups {
        let all_or_none = revoked.iter().all(|one| *one) || !revoked.iter().any(|one| *one);
        if !all_or_none {
            return Err(format!("the keys of {owner} are revoked in part"));
        }
    }
    let mut tool = place.tool().await;
    let mut logged: BTreeMap<KeyId, i64> = BTreeMap::new();
    let sql = "SELECT key_id, count(*) FROM api_key_changes WHERE key_id <> '' GROUP BY key_id";
    for row in sqlx::query(sql).fetch_all(&mut tool).await.unwrap() {
        logged.insert(row.get::<String, _>(0).parse().unwrap(), row.get(1));
    }
    let kept: HashSet<KeyId> = records.iter().map(|record| record.id).collect();
    for (what, id) in told {
        if !logged.contains_key(id) {
            return Err(format!("{what} of {id} was told, and is lost"));
        }
        let revoked = records
            .iter()
            .any(|record| record.id == *id && record.revoked.is_some());
        if *what == "revoke" && kept.contains(id) && !revoked {
            return Err(format!("{id} was revoked, and is back"));
        }
    }
    if super::audit_kept::disagreements(&mut tool).await != 0 {
        return Err("the audit log has more or fewer entries than there were changes".to_owned());
    }
    for record in &records {
        if i64::try_from(record.version) != Ok(logged[&record.id]) {
            return Err(format!(
                "{record:?} was logged {} times",
                logged[&record.id]
            ));
        }
    }
    Ok(())
}
