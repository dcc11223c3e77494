//! Servers that cannot be used, or only with a warning; and what must not be shown.

use std::time::Duration;

use apikey_runtime::audit::ChangeOrigin;
use apikey_runtime::store::{
    ChangeLog, Charge, CopySection, KeyPatch, LimitCounter, LimitStore, ListQuery, Membership,
    NodeId, OwnerQuery, OwnerState, OwnerStore, SharedSecretStore, StoreCopy, StoreError,
    UsageStore, WriteOptions,
};
use apikey_runtime::usage::{NetworkUse, Outcome, SecretUse, UsageBatch, UsageQuery, UsageRow};
use apikey_runtime::{KeyStore, Quota, Rate, RedisStore};
use apikey_test_support::servers::redis::{DURABLE, RedisServer};

use super::fake::Fake;
use super::owners::left;
use super::{changed, cursor, redis_server, soon, started};
use crate::owner_lists::names;
use crate::warnings::Warnings;
use crate::{InSteps, because, id, record};

/// Returns the warnings of `start`.
async fn warned(url: &str) -> String {
    let (warnings, _guard) = Warnings::capture();
    let store = RedisStore::new(url);
    store.start().await.unwrap();
    store.stop().await;
    warnings.text()
}

#[tokio::test]
async fn settings_that_can_lose_what_was_acknowledged_are_warned_of() {
    let durable = redis_server!(DURABLE);
    let quiet = warned(&durable.url()).await;
    assert!(!quiet.contains("can lose"), "{quiet}");
    let cases: [(&[(&str, &str)], &str); 3] = [
        (&[], "set `appendonly yes`"),
        (&[("appendonly", "yes")], "set `appendfsync always`"),
        (
            &[("maxmemory", "100mb"), ("maxmemory-policy", "allkeys-lru")],
            "set `maxmemory-policy noeviction`",
        ),
    ];
    for (settings, expected) in cases {
        let server = RedisServer::start(settings);
        let text = warned(&server.url()).await;
        assert!(text.contains("WARN") && text.contains(expected), "{text}");
    }
    let forbidden = durable.command(&["ACL", "SETUSER", "default", "-config"]);
    assert_eq!(forbidden.text(), "OK");
    let text = warned(&durable.url()).await;
    assert!(
        text.contains("settings of the Redis server cannot be read"),
        "{text}"
    );
}

fn replica_of(primary: &RedisServer) -> RedisServer {
    let address = format!("127.0.0.1 {}", primary.port());
    let replica = RedisServer::start(&[("replicaof", address.as_str())]);
    let started = std::time::Instant::now();
    // A primary counts a replica after the replica has acknowledged its data.
    let is_up = || {
        let info = replica.command(&["INFO", "replication"]).text();
        let role = primary.command(&["ROLE"]);
        info.contains("master_link_status:up") && !role.list()[2].list().is_empty()
    };
    while !is_up() {
        assert!(started.elapsed() < super::PATIENCE);
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    replica
}

#[tokio::test]
async fn replicas_without_a_minimum_are_warned_of_and_never_read() {
    let primary = redis_server!(DURABLE);
    let store = started(&primary).await;
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    let replica = replica_of(&primary);
    let text = warned(&primary.url()).await;
    assert!(text.contains("set `min-replicas-to-write 1`"), "{text}");
    let error = RedisStore::new(replica.url()).start().await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
    assert!(error.to_string().contains("not the primary"), "{error}");
    let lax = replica.command(&["CONFIG", "SET", "replica-read-only", "no"]);
    assert_eq!(lax.text(), "OK");
    let error = RedisStore::new(replica.url()).start().await.unwrap_err();
    assert!(error.to_string().contains("not the primary"), "{error}");
}

fn charge() -> Charge {
    Charge::new(
        id(1),
        1,
        vec![LimitCounter::new("daily", Quota::per_day(5))],
    )
}

/// Returns a batch of one use, in the far future so that it does not expire at once.
fn usage() -> UsageBatch {
    let mut batch = UsageBatch::new(NodeId::from_u128(1), 1, Duration::from_secs(60));
    let mut row = UsageRow::new(id(1), "/a", 1_000_000, Outcome::Allowed);
    row.requests = 1;
    batch.rows = vec![row];
    batch.last_used = vec![SecretUse::new(id(1), 0, crate::at(5), None)];
    // One more than a key has.
    let network = |number: i64| {
        let network = format!("10.{number}.0.0/16").parse().unwrap();
        NetworkUse::new(id(1), network, crate::at(1_000_000 * 3_600_000 + number))
    };
    batch.networks = (0..21).map(network).collect();
    batch
}

/// Calls everything that counts.
async fn count(store: &RedisStore) {
    let rate = LimitCounter::new("fast", Rate::per_minute(1));
    let rolling = LimitCounter::new("minute", Quota::rolling(5, Duration::from_secs(60)));
    let mut charge = charge();
    charge.counters.extend([rate, rolling]);
    assert!(store.charge(&charge).await.unwrap().allowed);
    for counter in &charge.counters {
        store.refill(&id(1), counter, 1).await.unwrap();
    }
    store.add_usage(&usage()).await.unwrap();
    let query = UsageQuery::new(vec![id(1)], 0, i64::MAX);
    assert_eq!(store.read_usage(&query).await.unwrap(), usage().rows);
    let used = store.last_used(&[id(1)]).await.unwrap();
    assert_eq!(used[0].at, usage().last_used[0].at);
    let mut networks = store.read_networks(&[id(1)]).await.unwrap();
    networks.sort_by_key(|used| used.at);
    assert_eq!(networks, usage().networks[1..]);
}

/// A primary becomes a replica while its connection lives on.
#[tokio::test]
async fn a_server_that_is_demoted_answers_nothing_more() {
    let other = redis_server!();
    let server = RedisServer::start(&[]);
    let store = started(&server).await;
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    for read_only in ["yes", "no"] {
        server
            .command(&["CONFIG", "SET", "replica-read-only", read_only])
            .text();
        let port = other.port().to_string();
        server.command(&["REPLICAOF", "127.0.0.1", &port]).text();
        let node = NodeId::from_u128(1);
        let answers = [
            store.find(&id(1)).await.map(drop),
            store.changes(None, None).await.map(drop),
            store.members().await.map(drop),
            store.join(&node).await.map(drop),
            store.insert(&record(2), &WriteOptions::new()).await,
            store.list(&ListQuery::first(1)).await.map(drop),
            store.charge(&charge()).await.map(drop),
            store.refill(&id(1), &charge().counters[0], 1).await,
            store.add_usage(&usage()).await,
            store
                .read_usage(&UsageQuery::new(vec![id(1)], 0, 9))
                .await
                .map(drop),
            store.last_used(&[id(1)]).await.map(drop),
            store.find_owner("a").await.map(drop),
            store
                .revoke_owner_keys("a", &left(1, "x"), &ChangeOrigin::new())
                .await
                .map(drop),
            store
                .set_owner_suspended("a", true, &ChangeOrigin::new())
                .await
                .map(drop),
            store.mark_revoked_keys().await.map(drop),
        ];
        for answer in answers {
            assert!(
                matches!(answer, Err(StoreError::Unavailable { .. })),
                "{answer:?}"
            );
        }
        server.command(&["REPLICAOF", "NO", "ONE"]).text();
        soon(async || store.find(&id(1)).await.ok()).await;
        soon(async || store.changes(None, None).await.ok()).await;
    }
}

#[tokio::test]
async fn with_its_memory_full_a_server_changes_nothing_and_is_read_all_the_same() {
    let server = redis_server!();
    let store = started(&server).await;
    let mut over = crate::owned(1, "a");
    over.expires = Some(crate::at(2_000));
    over.owner_state = Some(OwnerState::new());
    store.insert(&over, &WriteOptions::new()).await.unwrap();
    let since = cursor(&store).await;
    server.command(&["SCRIPT", "FLUSH"]).text();
    server.command(&["CONFIG", "SET", "maxmemory", "1"]).text();
    let refused = [
        store.insert(&record(2), &WriteOptions::new()).await,
        store
            .update(&id(1), &KeyPatch::new(), &WriteOptions::new())
            .await,
        store
            .revoke(&id(1), &because("lost"), &WriteOptions::new())
            .await
            .map(drop),
        store.purge_all(crate::at(i64::MAX)).await.map(drop),
        store
            .revoke_owner_keys("a", &left(1, "x"), &ChangeOrigin::new())
            .await
            .map(drop),
        store
            .set_owner_suspended("a", true, &ChangeOrigin::new())
            .await
            .map(drop),
    ];
    for refused in refused {
        let error = refused.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
        assert!(error.to_string().contains("no memory left"), "{error}");
    }
    assert_eq!(store.find(&id(1)).await.unwrap(), Some(over));
    assert_eq!(changed(&store, &since).await, []);
    assert_eq!(
        store
            .list(&ListQuery::first(9))
            .await
            .unwrap()
            .records
            .len(),
        1
    );
    let another = started(&server).await;
    assert!(
        another.find(&id(1)).await.unwrap().is_some(),
        "a start does not write either"
    );
    server.command(&["CONFIG", "SET", "maxmemory", "0"]).text();
    assert!(
        store
            .revoke(&id(1), &because("lost"), &WriteOptions::new())
            .await
            .unwrap()
    );
    assert_eq!(changed(&store, &since).await, [id(1)]);
}

/// O-01, S-01.
#[tokio::test]
async fn the_password_is_shown_nowhere() {
    const PASSWORD: &str = "hunter2-planted";
    let server = redis_server!(&[("requirepass", PASSWORD)]);
    let (warnings, _guard) = Warnings::capture();
    let store = RedisStore::new(server.url());
    store.start().await.unwrap();
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    let wrong = server.url().replace(PASSWORD, "wrong-planted");
    let wrong = RedisStore::new(wrong);
    let error = wrong.start().await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
    assert!(error.to_string().contains("see the user and the password"));
    let bad = RedisStore::new(format!("redis://:{PASSWORD}@[nowhere:port"));
    let bad_error = bad.start().await.unwrap_err();
    assert!(
        matches!(bad_error, StoreError::InvalidArgument(_)),
        "{bad_error:?}"
    );
    let gone = RedisStore::new(format!("redis://:{PASSWORD}@127.0.0.1:1"));
    let gone_error = gone.start().await.unwrap_err();
    let source = |error: &StoreError| format!("{:?}", std::error::Error::source(error));
    let mut shown = format!("{store:?} {wrong:?} {bad:?} {gone:?} {}", warnings.text());
    for error in [&error, &bad_error, &gone_error] {
        shown += &format!("{error} {error:?} {}", source(error));
    }
    assert!(!shown.contains("planted"), "{shown}");
    assert!(!server.log().contains("planted"));
}

#[tokio::test]
async fn a_url_that_cannot_be_used_is_an_error_at_the_start() {
    for bad in [
        "",
        "nonsense",
        "http://127.0.0.1",
        "redis://",
        "rediss://127.0.0.1",
    ] {
        let store = RedisStore::new(bad);
        let error = store.start().await.unwrap_err();
        let is_invalid = matches!(error, StoreError::InvalidArgument(_));
        assert!(is_invalid, "{bad:?}: {error:?}");
    }
}

/// Creates a user with the commands that the docs name, and the keys and channels of `patterns` or,
/// if these are empty, of the docs; returns the URL with that user.
pub(super) fn rightful(server: &RedisServer, patterns: &[&str]) -> String {
    let docs = include_str!("../../../src/store/redis/docs.md");
    let (_, rights) = docs.split_once("# Rights").unwrap();
    let words: Vec<&str> = rights.split('`').skip(1).step_by(2).collect();
    let mut rule = vec!["ACL", "SETUSER", "store", "on", ">secret"];
    rule.extend(["resetkeys", "resetchannels"]);
    let commands: Vec<String> = words[2..].iter().map(|word| format!("+{word}")).collect();
    rule.extend(if patterns.is_empty() {
        &words[..2]
    } else {
        patterns
    });
    rule.extend(commands.iter().map(String::as_str));
    assert_eq!(server.command(&rule).text(), "OK", "{rule:?}");
    format!("redis://store:secret@127.0.0.1:{}", server.port())
}

/// The permissions that the docs name are enough.
#[tokio::test]
async fn a_user_with_the_rights_of_the_docs_can_do_all() {
    let server = redis_server!();
    let url = rightful(&server, &[]);
    does_all(&server, RedisStore::new(&url), "").await;
    // Another database than 0.
    let other = || RedisStore::new(format!("{url}/1"));
    let store = other();
    store.start().await.unwrap();
    store
        .insert(&record(3), &WriteOptions::new())
        .await
        .unwrap();
    assert!(store.find(&id(3)).await.unwrap().is_some());
    let name = format!("{{apikey}}:key:{}", id(3));
    assert_eq!(server.command(&["EXISTS", &name]).text(), "0");
    server.command(&["ACL", "SETUSER", "store", "-select"]);
    RedisStore::new(&url).start().await.unwrap();
    other().start().await.unwrap_err();
}

/// An operator's rule for an application, with the commands of the docs.
#[tokio::test]
async fn a_user_limited_to_a_prefix_can_do_all_with_that_prefix() {
    let server = redis_server!();
    let url = rightful(&server, &["~app:*", "&app:*"]);
    let error = RedisStore::new(&url).start().await.unwrap_err();
    assert!(error.to_string().contains("NOPERM"), "{error}");
    does_all(&server, RedisStore::new(&url).key_prefix("app:"), "app:").await;
    let names = server.command(&["KEYS", "*"]).text();
    assert!(
        names.lines().all(|name| name.starts_with("app:{apikey}:")),
        "{names}"
    );
}

/// Calls everything of `store`, which has this key prefix.
async fn does_all(server: &RedisServer, store: RedisStore, prefix: &str) {
    let (warnings, guard) = Warnings::capture();
    let mut listener = store.subscribe().unwrap();
    store.start().await.unwrap();
    tokio::time::timeout(super::PATIENCE, listener.notified())
        .await
        .unwrap();
    let since = cursor(&store).await;
    let node = NodeId::from_u128(1);
    store.join(&node).await.unwrap();
    let pushed = tokio::time::timeout(super::PATIENCE, listener.notified());
    pushed.await.expect("a change is published");
    store.acknowledge(&node, &since).await.unwrap();
    let seen = store.members().await.unwrap().nodes.remove(0);
    store.suspect(&seen).await.unwrap();
    store.remove_node(&seen).await.unwrap();
    store.leave(&node).await.unwrap();
    store
        .insert(&crate::owned(1, "a"), &WriteOptions::new())
        .await
        .unwrap();
    let mut patch = KeyPatch::new();
    patch.owner = Some(None);
    store
        .update(&id(1), &patch, &WriteOptions::new())
        .await
        .unwrap();
    store
        .insert(&crate::owned(2, "a"), &WriteOptions::new())
        .await
        .unwrap();
    assert!(
        store
            .set_owner_suspended("a", true, &ChangeOrigin::new())
            .await
            .unwrap()
            .1
    );
    store
        .revoke_owner_keys("a", &left(1, "x"), &ChangeOrigin::new())
        .await
        .unwrap();
    assert!(!store.mark_revoked_keys().await.unwrap());
    assert!(store.find_owner("a").await.unwrap().is_some());
    count(&store).await;
    let days = server.command(&[
        "ZRANGE",
        &format!("{prefix}{{apikey}}:usage_days"),
        "0",
        "-1",
    ]);
    assert_eq!(days.list().len(), 1);
    assert!(
        store
            .revoke(&id(1), &because("lost"), &WriteOptions::new())
            .await
            .unwrap()
    );
    assert_eq!(
        store
            .list(&ListQuery::first(9))
            .await
            .unwrap()
            .records
            .len(),
        2
    );
    store.shared_secret("forms", [1; 32]).await.unwrap();
    let mut pages = Vec::new();
    for section in CopySection::ALL {
        let page = store.read_copy(section, None, 100).await.unwrap();
        assert!(!page.items.is_empty(), "{section:?}");
        pages.push(page.items);
    }
    // At first, all is there already.
    for _ in 0..2 {
        for page in &pages {
            store.write_copy(page).await.unwrap();
        }
        let purged = store.purge_all(crate::at(i64::MAX)).await.unwrap();
        assert_eq!(purged.len(), 2);
        server.command(&["DEL", &format!("{prefix}{{apikey}}:audit")]);
    }
    // A start adds what an older release has left out.
    let owners = format!("{prefix}{{apikey}}:owners");
    server.command(&["HSET", &owners, "b", "1 0 0"]);
    store.stop().await;
    store.start().await.unwrap();
    let listed = store.list_owners(&OwnerQuery::first(9)).await.unwrap();
    assert_eq!(names(&listed.owners), ["a", "b"]);
    server
        .command(&["DEL", &format!("{prefix}{{apikey}}:meta")])
        .text();
    assert!(super::is_unknown(&store, &since).await);
    drop(guard);
    assert!(
        !warnings.text().contains("cannot be read"),
        "{}",
        warnings.text()
    );
}

#[tokio::test]
async fn a_server_that_is_too_old_is_refused_with_what_to_take() {
    let hello = "%1\r\n$5\r\nproto\r\n:3\r\n";
    for (hello, version) in [
        (hello, "6.2.14"),
        (
            "-ERR unknown command `HELLO`, with args beginning with: `3`, \r\n",
            "5.0.14",
        ),
    ] {
        let old = Fake::start(hello, version);
        let error = RedisStore::new(old.url("")).start().await.unwrap_err();
        assert!(matches!(error, StoreError::InvalidArgument(_)), "{error:?}");
        assert!(
            error
                .to_string()
                .contains("take Redis 7.0 or newer, or Valkey"),
            "{error}"
        );
    }
    let new = Fake::start(hello, "7.0.0");
    let error = RedisStore::new(new.url("")).start().await.unwrap_err();
    assert!(
        !matches!(error, StoreError::InvalidArgument(_)),
        "{error:?}"
    );
}

/// A server that does not know a command may echo its arguments.
#[tokio::test]
async fn a_password_that_a_server_quotes_is_not_told_on() {
    for code in ["ERR", "NOPROTO", "DENIED"] {
        let hello = format!("-{code} no `HELLO`, with args: `3`, `AUTH`, `default`, `planted`\r\n");
        let strange = Fake::start(&hello, "7.0.0");
        let store = RedisStore::new(strange.url(":planted@"));
        let error = store.start().await.unwrap_err();
        let source = std::error::Error::source(&error);
        let shown = format!("{error} {error:?} {source:?}");
        assert!(!shown.contains("planted"), "{shown}");
    }
}
