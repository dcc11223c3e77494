//! Records: their names, broken ones, and records that a tool writes by hand.

use apikey_runtime::store::{
    AuditStore, BatchReads, FindResult, KeyPatch, ListQuery, ListRange, OwnerState, PreviousDigest,
    StoreError, WriteOptions,
};
use apikey_runtime::{KeyStore, RedisStore, Timestamp};
use apikey_test_support::servers::redis::RedisServer;

use super::{changed, cursor, is_unknown, redis_server, started};
use crate::{InSteps, at, because, id, owned, record};

/// Returns the name of the record with this number.
fn name(number: u128) -> String {
    format!("{{apikey}}:key:{}", id(number))
}

/// I-02: texts with a meaning in Redis, Lua or its patterns.
const ODD: [&str; 9] = [
    "*",
    "{}",
    "{other}:key:1",
    "a\r\nDEL {apikey}:meta\r\n",
    "nul\0in the middle",
    "' .. redis.call('FLUSHALL') .. '",
    "[a-z]?\\",
    "\u{ff}\u{10ffff}",
    "",
];

#[tokio::test]
async fn i02_odd_owners_and_labels_find_only_themselves() {
    let server = redis_server!();
    let store = started(&server).await;
    for (number, odd) in (1..).zip(ODD) {
        let mut odd_one = owned(number, odd);
        odd_one.label = odd.to_owned();
        odd_one.prefix = odd.to_owned();
        odd_one.environment = Some(odd.to_owned());
        odd_one.owner_state = Some(OwnerState::new());
        store.insert(&odd_one, &WriteOptions::new()).await.unwrap();
        assert_eq!(store.find(&id(number)).await.unwrap().unwrap(), odd_one);
    }
    for (number, odd) in (1..).zip(ODD) {
        let query = ListQuery::of(ListRange::Owner(odd.to_owned()), 100);
        let page = store.list(&query).await.unwrap();
        let ids: Vec<_> = page.records.iter().map(|record| record.id).collect();
        assert_eq!(ids, [id(number)], "{odd:?}");
        let ids = store.revoke_all(odd, &because(odd)).await.unwrap();
        assert_eq!(ids, [id(number)], "{odd:?}");
        let found = store.find(&id(number)).await.unwrap().unwrap();
        assert_eq!(found.revoked, Some(because(odd)));
    }
    let names = server.command(&["KEYS", "*"]).text();
    assert!(
        names.lines().all(|name| name.starts_with("{apikey}:")),
        "{names}"
    );
}

#[tokio::test]
async fn i02_odd_namespaces_are_refused_or_kept_apart() {
    let server = redis_server!();
    for bad in ["", "a{", "}a", "{}", "a\r\nb", "a\0b", "\u{7f}"] {
        let store = RedisStore::new(server.url()).namespace(bad);
        let error = store.start().await.unwrap_err();
        assert!(
            matches!(error, StoreError::InvalidArgument(_)),
            "{bad:?}: {error:?}"
        );
    }
    for (number, odd) in (1..).zip(["*", "a b", "a:", "?", "Zoë"]) {
        let store = RedisStore::new(server.url()).namespace(odd);
        store.start().await.unwrap();
        store
            .insert(&record(number), &WriteOptions::new())
            .await
            .unwrap();
        let page = store.list(&ListQuery::first(10)).await.unwrap();
        assert_eq!(page.records.len(), 1, "{odd:?}");
    }
}

#[tokio::test]
async fn odd_prefixes_of_keys_are_refused_and_stores_of_two_prefixes_kept_apart() {
    let server = redis_server!();
    for bad in [
        "a{", "}", "{}", "a*", "a?", "[a", "a]", "a\\", "a\r\nb", "\0", "\u{7f}",
    ] {
        let store = RedisStore::new(server.url()).key_prefix(bad);
        let error = store.start().await.unwrap_err();
        assert!(
            matches!(error, StoreError::InvalidArgument(_)),
            "{bad:?}: {error:?}"
        );
    }
    for (number, prefix) in (1..).zip(["", "app:", "app:a b:", "Zoë-"]) {
        let store = RedisStore::new(server.url()).key_prefix(prefix);
        store.start().await.unwrap();
        store
            .insert(&record(number), &WriteOptions::new())
            .await
            .unwrap();
        let page = store.list(&ListQuery::first(10)).await.unwrap();
        assert_eq!(page.records.len(), 1, "{prefix:?}");
        let meta = format!("{prefix}{{apikey}}:meta");
        assert_eq!(server.command(&["EXISTS", &meta]).text(), "1");
    }
}

/// Data of an unreleased build is rejected and left unchanged; a store that lost `meta` starts a
/// new change log.
#[tokio::test]
async fn data_of_an_unreleased_build_is_refused() {
    let server = redis_server!();
    const META: &str = "{apikey}:meta";
    server.command(&["HSET", META, "epoch", "7", "lease_ms", "2000"]);
    let schemas = [None, Some("0"), Some("99"), Some("106"), Some("planted")];
    for schema in schemas {
        if let Some(schema) = schema {
            server.command(&["HSET", META, "schema", schema]);
        }
        let error = RedisStore::new(server.url()).start().await.unwrap_err();
        let expected = match schema {
            Some("106") => "take a newer release",
            Some("planted") => "`schema` is not a number",
            _ => "create a new store",
        };
        assert!(error.to_string().contains(expected), "{schema:?}: {error}");
        assert_eq!(server.command(&["HGET", META, "epoch"]).text(), "7");
    }
    server.command(&["DEL", META]);
    started(&server).await;
    assert_eq!(server.command(&["HGET", META, "schema"]).text(), "105");
    started(&server).await;
}

#[tokio::test]
async fn a_small_record_takes_little_memory() {
    let server = redis_server!();
    let store = started(&server).await;
    let mut small = owned(1, "owner 42");
    small.digest = format!("sha256${}", "ab".repeat(32));
    small.previous = Some(PreviousDigest {
        digest: format!("hmac-sha256$v1${}", "cd".repeat(32)),
        until: at(5),
    });
    small.expires = Some(Timestamp::MAX);
    small.owner_state = Some(OwnerState::new());
    store.insert(&small, &WriteOptions::new()).await.unwrap();
    assert_eq!(store.find(&id(1)).await.unwrap().unwrap(), small);
    let encoding = server.command(&["OBJECT", "ENCODING", &name(1)]).text();
    assert_eq!(
        encoding, "listpack",
        "no value is too long for the small form"
    );
    let mut patch = KeyPatch::new();
    patch.previous = Some(None);
    patch.digest = Some("sha256$short".to_owned());
    store
        .update(&id(1), &patch, &WriteOptions::new())
        .await
        .unwrap();
    let found = store.find(&id(1)).await.unwrap().unwrap();
    assert_eq!(
        (found.digest.as_str(), found.previous),
        ("sha256$short", None),
        "the ends of the longer ones are gone"
    );
}

/// Commands that break a record, with the column that the error names.
const BROKEN: [(&[&str], &str); 10] = [
    (&["HSET", "", "scopes", "a  b"], "scopes"),
    (
        &["HSET", "", "scopes", "a", "metadata", "{\"planted"],
        "metadata",
    ),
    (&["HSET", "", "metadata", "[\"planted\"]"], "metadata"),
    (
        &["HSET", "", "metadata", "{}", "previous_digest", "planted"],
        "previous_until",
    ),
    (&["HSET", "", "previous_until", "planted"], "previous_until"),
    (
        &["HSET", "", "previous_until", "1", "networks", "planted"],
        "networks",
    ),
    (
        &[
            "HSET",
            "",
            "networks",
            "",
            "limits",
            r#"[{"name":"planted"}]"#,
        ],
        "limits",
    ),
    (
        &["HSET", "", "limits", "[]", "limits_end", "planted"],
        "limits",
    ),
    (
        &["HSET", "", "limits_end", "", "version", "planted"],
        "version",
    ),
    (&["HDEL", "", "digest"], "digest"),
];

/// S-08: records that only a tool can leave.
#[tokio::test]
async fn s08_a_broken_record_costs_that_key_only() {
    let server = redis_server!();
    let store = started(&server).await;
    for number in 1..=3 {
        store
            .insert(&owned(number, "a"), &WriteOptions::new())
            .await
            .unwrap();
    }
    for (command, column) in BROKEN {
        let mut command = command.to_vec();
        let name = name(2);
        command[1] = &name;
        server.command(&command).text();
        match store.find(&id(2)).await {
            Err(StoreError::Corrupt { id: named, reason }) => {
                assert_eq!(named, id(2).to_string());
                assert!(
                    reason.contains(column) && !reason.contains("planted"),
                    "{reason}"
                );
            }
            other => panic!("{command:?}: {other:?}"),
        }
        let page = store.list(&ListQuery::first(10)).await.unwrap();
        assert_eq!(page.unreadable, [id(2).to_string()], "{command:?}");
        assert_eq!(page.records.len(), 2);
    }
    assert!(
        store
            .revoke(&id(2), &because("broken"), &WriteOptions::new())
            .await
            .unwrap()
    );
    let revoked_at = server.command(&["HGET", &name(2), "revoked_at"]).text();
    assert_eq!(revoked_at, "3000", "it can still be revoked");
}

#[tokio::test]
async fn s08_what_is_no_hash_is_that_key_only() {
    let server = redis_server!();
    let store = started(&server).await;
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    store
        .insert(&record(2), &WriteOptions::new())
        .await
        .unwrap();
    let since = cursor(&store).await;
    server.command(&["SET", &name(2), "planted"]).text();
    let corrupt = |error: StoreError| matches!(error, StoreError::Corrupt { .. });
    assert!(corrupt(store.find(&id(2)).await.unwrap_err()));
    assert!(corrupt(
        store
            .revoke(&id(2), &because("lost"), &WriteOptions::new())
            .await
            .unwrap_err()
    ));
    let page = store.list(&ListQuery::first(10)).await.unwrap();
    assert_eq!((page.records.len(), page.unreadable.len()), (1, 1));
    assert_eq!(
        cursor(&store).await,
        since,
        "a rejected write does not change anything"
    );
}

/// The commands that the docs give to an operator.
#[tokio::test]
async fn a_change_by_hand_is_learned_of_when_the_epoch_is_counted_up() {
    let server = redis_server!();
    let store = started(&server).await;
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    let since = cursor(&store).await;
    server
        .command(&["HSET", &name(1), "revoked_at", "1767225600000"])
        .text();
    assert_eq!(
        changed(&store, &since).await,
        [],
        "the tool alone does not log a change"
    );
    server
        .command(&["HINCRBY", "{apikey}:meta", "epoch", "1"])
        .text();
    assert!(
        is_unknown(&store, &since).await,
        "every node evicts everything"
    );
    let found = store.find(&id(1)).await.unwrap().unwrap();
    assert_eq!(found.revoked.unwrap().at, at(1_767_225_600_000));
    let since = cursor(&store).await;
    assert_eq!(changed(&store, &since).await, []);
    store
        .insert(&record(2), &WriteOptions::new())
        .await
        .unwrap();
    store
        .update(&id(1), &KeyPatch::new(), &WriteOptions::new())
        .await
        .unwrap();
    let after = cursor(&store).await;
    assert_eq!(after.epoch, since.epoch + 2, "the change log continues");
    store
        .insert(&record(3), &WriteOptions::new())
        .await
        .unwrap();
    assert_eq!(changed(&store, &after).await, [id(3)]);
}

/// Times that a 64-bit float cannot distinguish.
#[tokio::test]
async fn purge_compares_times_exactly() {
    let server = redis_server!();
    let store = started(&server).await;
    let edge = 1 << 60;
    for (number, expires) in (1..).zip([edge - 1, edge, edge + 1, -edge - 1, -edge, -edge + 1]) {
        let mut record = record(number);
        record.expires = Some(at(expires));
        store.insert(&record, &WriteOptions::new()).await.unwrap();
    }
    assert_eq!(store.purge_all(at(-edge)).await.unwrap(), [id(4)]);
    assert_eq!(store.purge_all(at(-edge + 1)).await.unwrap(), [id(5)]);
    let mut ids = store.purge_all(at(edge + 1)).await.unwrap();
    ids.sort_unstable();
    assert_eq!(ids, [id(1), id(2), id(6)]);
    assert!(store.find(&id(3)).await.unwrap().is_some());
}

/// Everything except for the change log is deleted with the last record.
#[tokio::test]
async fn what_was_removed_leaves_nothing_behind() {
    let server = redis_server!();
    let store = started(&server).await;
    for number in 1..=50 {
        store
            .insert(
                &owned(number, &format!("{}", number % 3)),
                &WriteOptions::new(),
            )
            .await
            .unwrap();
    }
    let mut patch = KeyPatch::new();
    patch.owner = Some(None);
    patch.label = Some("other".to_owned());
    store
        .update(&id(7), &patch, &WriteOptions::new())
        .await
        .unwrap();
    for owner in ["0", "1", "2"] {
        store.revoke_all(owner, &because("left")).await.unwrap();
    }
    store
        .revoke(&id(7), &because("left"), &WriteOptions::new())
        .await
        .unwrap();
    assert_eq!(store.purge_all(at(i64::MAX)).await.unwrap().len(), 50);
    let mut names: Vec<_> = all_names(&server);
    names.sort_unstable();
    let kept = ["audit", "audit_index", "changes", "index", "meta", "owners"];
    assert_eq!(
        names,
        kept.map(|name| format!("{{apikey}}:{name}")),
        "owners outlive their keys"
    );
    // The names of the three owners are listed, and no key is.
    assert_eq!(server.command(&["ZCARD", "{apikey}:index"]).text(), "3");
    while store.prune_audit(Timestamp::MAX).await.unwrap() {}
    // A stream that is trimmed to nothing stays.
    assert!(!all_names(&server).contains(&"{apikey}:audit_index".to_owned()));
    assert_eq!(server.command(&["XLEN", "{apikey}:audit"]).text(), "0");
}

fn all_names(server: &RedisServer) -> Vec<String> {
    let names = server.command(&["KEYS", "*"]).text();
    names.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn a_record_that_is_broken_by_hand_does_not_hide_others_of_its_batch() {
    let server = redis_server!();
    let store = started(&server).await;
    for number in 1..=3 {
        let (record, options) = (owned(number, "a"), WriteOptions::new());
        store.insert(&record, &options).await.unwrap();
    }
    server.command(&["SET", &name(2), "x"]);
    let found = store.find_many(&[3, 2, 9, 1].map(id)).await.unwrap();
    let [third, second, none, first] = <[FindResult; 4]>::try_from(found).unwrap();
    assert_eq!(third.unwrap(), store.find(&id(3)).await.unwrap());
    let broken = second.unwrap_err();
    assert!(
        matches!(&broken, StoreError::Corrupt { id: said, .. } if *said == id(2).to_string()),
        "{broken:?}"
    );
    assert_eq!(none.unwrap(), None);
    assert_eq!(first.unwrap().unwrap().id, id(1));
}
