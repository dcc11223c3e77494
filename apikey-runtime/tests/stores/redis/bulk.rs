//! Bulk changes: steps whose size does not grow with the data, and the log that they leave.

use std::sync::Arc;

use apikey_runtime::audit::ChangeOrigin;
use apikey_runtime::store::{
    ChangeSet, ChangedItem, KeyPatch, ListQuery, ListRange, Membership, NodeId, OwnerRevocation,
    WriteOptions,
};
use apikey_runtime::{KeyStore, RedisStore};
use apikey_test_support::servers::redis::RedisServer;

use super::settings::rightful;
use super::{ask, changed, cursor, is_unknown, redis_server, soon, started};
use crate::many_keys::{LEASE, OF_ACME, OVER, disturb_no_other_key};
use crate::{InSteps, at, because, id, owned, record};

const META: &str = "{apikey}:meta";
const LOG: &str = "{apikey}:changes";
const PURGE_INDEX: &str = "{apikey}:purge_index";

/// Adds records of an owner, with these numbers, as the scripts do, but without the log. `expires` is a time, or empty.
pub(super) fn add(server: &RedisServer, from: u64, to: u64, owner: &str, expires: &str) {
    const ADD: &str = "for i = ARGV[1], ARGV[2] do \
        local id = string.format('%022d', i) \
        local record = '{apikey}:key:' .. id \
        redis.call('HSET', record, 'prefix', 'p', 'label', 'l', 'owner', ARGV[3], 'digest', 'd', 'created_at', '0', \
            'enabled', '1', 'version', '1') \
        redis.call('ZADD', '{apikey}:index', 0, 'i' .. id, 0, 'o' .. string.sub(redis.sha1hex(ARGV[3]), 1, 16) .. id, \
            0, 'l' .. string.sub(redis.sha1hex('l'), 1, 16) .. id) \
        if ARGV[4] ~= '' then \
            redis.call('HSET', record, 'expires_at', ARGV[4]) \
            redis.call('ZADD', '{apikey}:purge_index', ARGV[4], id) \
        end end return 'OK'";
    let [from, to] = [from, to].map(|number| number.to_string());
    let added = server.command(&["EVAL", ADD, "0", &from, &to, owner, expires]);
    assert_eq!(added.text(), "OK");
}

#[tokio::test]
async fn bulk_changes_of_twenty_thousand_keys_disturb_no_other_key() {
    let server = redis_server!();
    add(&server, 1, OF_ACME, "acme", "");
    add(&server, 100_001, 100_000 + OVER, "other", "1000");
    let store = || Arc::new(RedisStore::new(server.url()).lease(LEASE)) as Arc<dyn KeyStore>;
    disturb_no_other_key([store(), store()], async || {
        server.command(&["HINCRBY", META, "epoch", "1"]).text();
    })
    .await;
}

#[tokio::test]
async fn a_step_holds_up_the_server_for_a_bounded_number_of_keys() {
    let server = redis_server!();
    let store = started(&server).await;
    add(&server, 1, 250, "acme", "");
    add(&server, 251, 260, "other", "");
    // What is not a record, and an id that is none, are met once.
    let name = format!("{{apikey}}:key:{}", id(7));
    server.command(&["DEL", &name]).text();
    server.command(&["SET", &name, "a text"]).text();
    let owners = store.owners().unwrap();
    let revocation = OwnerRevocation::new(at(3_000));
    owners
        .revoke_owner_keys("acme", &revocation, &ChangeOrigin::new())
        .await
        .unwrap();
    let since = cursor(&store).await;
    let mut sizes = Vec::new();
    loop {
        let is_more = owners.mark_revoked_keys().await.unwrap();
        let marked = server.command(&["ZCARD", PURGE_INDEX]).text();
        sizes.push(marked.parse::<usize>().unwrap());
        if !is_more {
            break;
        }
    }
    assert_eq!(sizes, [99, 199, 249]);
    assert_eq!(changed(&store, &since).await, []);
    assert!(store.find(&id(8)).await.unwrap().unwrap().revoked.is_some());
    let query = ListQuery::of(ListRange::Owner("other".to_owned()), 20);
    let other = store.list(&query).await.unwrap().records;
    assert!(other.len() == 10 && other.iter().all(|record| record.revoked.is_none()));
}

/// Entries of the index that do not lead to a record which is over stay behind the steps that follow.
#[tokio::test]
async fn a_purge_makes_progress_past_what_it_cannot_remove() {
    let server = redis_server!();
    let store = started(&server).await;
    add(&server, 1, 500, "acme", "1000");
    // More than a step of each: no record, another type, and times that were changed by hand.
    for number in 1..=350_u32 {
        let id = format!("{number:022}");
        let name = format!("{{apikey}}:key:{id}");
        match number {
            1..=110 => drop(server.command(&["DEL", &name])),
            111..=230 => {
                server.command(&["DEL", &name]);
                server.command(&["SET", &name, "a text"]);
            }
            _ => drop(server.command(&["HSET", &name, "expires_at", "5000"])),
        }
    }
    assert_eq!(store.purge_all(at(2_000)).await.unwrap().len(), 150);
    let left = server.command(&["ZCARD", PURGE_INDEX]).text();
    assert_eq!(
        left, "240",
        "those of another type, and those that end later"
    );
    assert_eq!(store.purge_all(at(2_000)).await.unwrap(), []);
    assert_eq!(store.purge_all(at(6_000)).await.unwrap().len(), 120);
}

#[tokio::test]
async fn a_long_log_is_read_page_by_page() {
    let server = redis_server!();
    let store = started(&server).await;
    let since = cursor(&store).await;
    add(&server, 1, 2_500, "acme", "");
    assert_eq!(
        store
            .revoke_all("acme", &because("left"))
            .await
            .unwrap()
            .len(),
        2_500
    );
    let (mut at, mut seen, mut sizes) = (since.clone(), Vec::new(), Vec::new());
    loop {
        let page = ask(&store, Some(&at)).await;
        assert_eq!(page.head, since.epoch + 2_500);
        let keys = crate::keys_in(page.set);
        assert_eq!(page.cursor.epoch, at.epoch + keys.len() as u64);
        sizes.push(keys.len());
        seen.extend(keys);
        at = page.cursor;
        if at.epoch == page.head {
            break;
        }
    }
    assert_eq!(sizes, [1_000, 1_000, 500]);
    assert_eq!(changed(&store, &at).await, []);
    let ids = seen.iter().map(|id| id.as_str().parse::<u32>().unwrap());
    assert!(ids.eq((1..=2_500).rev()));
}

#[tokio::test]
async fn an_entry_that_is_missing_anywhere_is_noticed() {
    let server = redis_server!();
    let store = started(&server).await;
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    for missing in 1..=4 {
        let since = cursor(&store).await;
        for _ in 0..4 {
            store
                .update(&id(1), &KeyPatch::new(), &WriteOptions::new())
                .await
                .unwrap();
        }
        assert_eq!(changed(&store, &since).await.len(), 4);
        let entry = format!("{}-0", since.epoch + missing);
        assert_eq!(server.command(&["XDEL", LOG, &entry]).text(), "1");
        assert!(is_unknown(&store, &since).await, "without the {missing}th");
    }
}

#[tokio::test]
async fn an_entry_of_an_unknown_kind_is_a_resync() {
    let server = redis_server!();
    let store = started(&server).await;
    let since = cursor(&store).await;
    let planted = |kind: Option<&str>, key: &str| {
        let epoch = server.command(&["HINCRBY", META, "epoch", "1"]).text();
        let entry = format!("{epoch}-0");
        let tag = server.command(&["HGET", META, "tag"]).bytes().to_vec();
        let mut words: Vec<&[u8]> = vec![b"XADD", LOG.as_bytes(), entry.as_bytes(), b"tag", &tag];
        words.extend([&b"key_id"[..], key.as_bytes()]);
        if let Some(kind) = kind {
            words.extend([&b"kind"[..], kind.as_bytes()]);
        }
        server.try_command(&words).unwrap().text();
    };
    let key = id(1);
    planted(Some("key"), key.as_str());
    planted(Some("member"), "");
    // As the first release wrote them.
    planted(None, key.as_str());
    planted(None, "");
    let items = [ChangedItem::Key(key), ChangedItem::Member];
    let known = ChangeSet::Entries([items.clone(), items].concat());
    assert_eq!(ask(&store, Some(&since)).await.set, known);
    for (kind, key) in [
        ("owner", key.as_str()),
        ("all", ""),
        ("key", "no id"),
        ("key", ""),
    ] {
        let since = cursor(&store).await;
        planted(Some(kind), key);
        assert!(is_unknown(&store, &since).await, "{kind} {key}");
        assert_eq!(changed(&store, &cursor(&store).await).await, []);
    }
    assert_eq!(ask(&store, None).await.required_protocol, 2);
    for (set, read) in [("3", 3), ("-1", u32::MAX), ("", u32::MAX)] {
        server
            .command(&["HSET", META, "required_protocol", set])
            .text();
        assert_eq!(ask(&store, None).await.required_protocol, read, "{set:?}");
    }
}

fn log_length(server: &RedisServer) -> u64 {
    server.command(&["XLEN", LOG]).text().parse().unwrap()
}

/// With the rights of the docs.
#[tokio::test]
async fn the_log_is_trimmed_to_what_all_nodes_have_acknowledged() {
    let server = redis_server!();
    let store = RedisStore::new(rightful(&server, &[]));
    store.start().await.unwrap();
    let [quick, slow] = [1, 2].map(NodeId::from_u128);
    store.join(&quick).await.unwrap();
    store.join(&slow).await.unwrap();
    add(&server, 1, 3_000, "acme", "");
    add(&server, 3_001, 3_500, "other", "");
    store.revoke_all("other", &because("left")).await.unwrap();
    let behind = cursor(&store).await;
    store.acknowledge(&slow, &behind).await.unwrap();
    store.revoke_all("acme", &because("left")).await.unwrap();
    // As a node does with each heartbeat. The stream gives whole blocks of a hundred entries back.
    let until = async |least: u64, most: u64| {
        soon(async || {
            let newest = cursor(&store).await;
            store.acknowledge(&quick, &newest).await.unwrap();
            let length = log_length(&server);
            assert!(length >= least, "{length} entries are left");
            (length <= most).then_some(())
        })
        .await;
    };
    until(3_001, 3_100).await;
    assert_eq!(
        changed(&store, &behind).await.len(),
        1_000,
        "the slow node goes on"
    );
    store.leave(&slow).await.unwrap();
    until(1, 100).await;
    assert!(is_unknown(&store, &behind).await);
    let newest = cursor(&store).await;
    store
        .insert(&owned(1_u128 << 100, "a"), &WriteOptions::new())
        .await
        .unwrap();
    assert_eq!(changed(&store, &newest).await.len(), 1);
}

/// Data of the first release: its entries have no kind.
#[tokio::test]
async fn data_of_the_first_release_is_brought_up_to_date() {
    let server = redis_server!();
    let store = started(&server).await;
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    store.stop().await;
    server.command(&["HSET", META, "schema", "100"]).text();
    let store = started(&server).await;
    assert_eq!(server.command(&["HGET", META, "schema"]).text(), "105");
    let since = cursor(&store).await;
    store
        .revoke(&id(1), &because("lost"), &WriteOptions::new())
        .await
        .unwrap();
    assert_eq!(changed(&store, &since).await, [id(1)]);
}
