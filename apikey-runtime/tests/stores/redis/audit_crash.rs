//! A client that is killed while it writes leaves each change with its entry in the audit log, or neither.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use apikey_runtime::audit::ChangeOrigin;
use apikey_runtime::store::{AuditQuery, KeyPatch, ListQuery, OwnerStore, WriteOptions};
use apikey_runtime::{KeyStore, RedisStore};
use apikey_test_support::servers::redis::RedisServer;

use super::audit::{AUDIT, entries};
use super::owners::left;
use super::{redis_server, soon, started};
use crate::{because, id, owned};

/// Set for the process that is killed: the server, and the number of its first key.
const WRITER: [&str; 2] = ["AUDIT_WRITER_URL", "AUDIT_WRITER_FIRST"];

/// Writes until it is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_writes_until_it_is_killed() {
    let [Ok(url), Ok(first)] = WRITER.map(std::env::var) else {
        return;
    };
    let store = RedisStore::new(url);
    store.start().await.unwrap();
    let first: u128 = first.parse().unwrap();
    let write = async |first: u128| {
        let options = WriteOptions::new();
        for number in first.. {
            let owner = format!("owner {}", number / 3);
            store
                .insert(&owned(number, &owner), &options)
                .await
                .unwrap();
            let mut patch = KeyPatch::new();
            patch.label = Some(format!("é {number}"));
            store.update(&id(number), &patch, &options).await.unwrap();
            patch.label = Some("ascii".to_owned());
            store.update(&id(number), &patch, &options).await.unwrap();
            store
                .revoke(&id(number), &because("lost"), &options)
                .await
                .unwrap();
            let revocation = left(3_000, "left");
            store
                .revoke_owner_keys(&owner, &revocation, &ChangeOrigin::new())
                .await
                .unwrap();
        }
    };
    tokio::join!(write(first), write(first + 100_000), write(first + 200_000));
}

/// Compares what the records and owners count of their changes with the entries. Returns the keys and owners that differ.
pub(super) async fn differing(store: &RedisStore) -> Vec<String> {
    let mut changes: BTreeMap<String, u64> = BTreeMap::new();
    let mut query = ListQuery::first(1_000);
    loop {
        let page = store.list(&query).await.unwrap();
        for record in page.records {
            changes.insert(record.id.to_string(), record.version);
            if let (Some(owner), Some(state)) = (record.owner, record.owner_state) {
                changes.insert(format!("owner {owner}"), state.version - 1);
            }
        }
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    let mut logged: BTreeMap<String, u64> = changes.keys().map(|name| (name.clone(), 0)).collect();
    for entry in entries(store, AuditQuery::newest(1_000)).await {
        let name = match entry.key {
            Some(key) => key.to_string(),
            None => format!("owner {}", entry.owner.unwrap()),
        };
        *logged.entry(name).or_default() += 1;
    }
    logged.retain(|name, count| changes.get(name) != Some(count));
    logged.into_keys().collect()
}

#[tokio::test]
async fn a_killed_client_leaves_a_change_and_its_entry_or_neither() {
    let server = redis_server!();
    for round in 0..4_u64 {
        let length = |server: &RedisServer| {
            let length = server.command(&["XLEN", AUDIT]).text();
            length.parse::<u64>().unwrap_or(0)
        };
        let before = length(&server);
        let mut client = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "redis::audit_crash::a_client_that_writes_until_it_is_killed",
            ])
            .env(WRITER[0], server.url())
            .env(WRITER[1], (round * 1_000_000).to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        soon(async || (length(&server) > before + 200 + 7 * round).then_some(())).await;
        client.kill().unwrap();
        client.wait().unwrap();
        let store = started(&server).await;
        assert_eq!(differing(&store).await, Vec::<String>::new());
        store.stop().await;
    }
    // Negative control: an entry that is missing, and a change without one, are found out.
    let store = started(&server).await;
    let newest = server.command(&["XREVRANGE", AUDIT, "+", "-", "COUNT", "1"]);
    let newest = newest.list()[0].list()[0].text();
    server.command(&["XDEL", AUDIT, &newest]);
    assert_eq!(differing(&store).await.len(), 1);
    server.command(&[
        "HINCRBY",
        &format!("{{apikey}}:key:{}", id(0)),
        "version",
        "1",
    ]);
    assert_eq!(differing(&store).await.len(), 2);
}
