//! The audit log: an entry for each change, found by key, owner and actor.

use apikey_runtime::audit::{AuditAction, AuditEntry, ChangeChannel, ChangeOrigin};
use apikey_runtime::store::{
    AuditQuery, AuditStore, KeyPatch, OwnerStore, PreviousDigest, StoreError, WriteOptions,
};
use apikey_runtime::{KeyStore, RedisStore, Timestamp};
use apikey_test_support::servers::redis::RedisServer;

use super::owners::{left, mark_all};
use super::{redis_server, started};
use crate::{InSteps, at, because, id, owned, record};

pub(super) const AUDIT: &str = "{apikey}:audit";
const AUDIT_INDEX: &str = "{apikey}:audit_index";

/// Returns all entries that match, the oldest first, read in small pages.
pub(super) async fn entries(store: &RedisStore, mut query: AuditQuery) -> Vec<AuditEntry> {
    let mut entries = Vec::new();
    loop {
        let page = store.read_audit(&query).await.unwrap();
        entries.extend(page.entries);
        query.before = page.next;
        if query.before.is_none() {
            entries.reverse();
            return entries;
        }
    }
}

fn all() -> AuditQuery {
    AuditQuery::newest(3)
}

fn of_key(number: u128) -> AuditQuery {
    let mut query = all();
    query.key = Some(id(number));
    query
}

fn of_owner(owner: &str) -> AuditQuery {
    let mut query = all();
    query.owner = Some(owner.to_owned());
    query
}

fn of_actor(actor: &str) -> AuditQuery {
    let mut query = all();
    query.actor = Some(actor.to_owned());
    query
}

fn actions(entries: &[AuditEntry]) -> Vec<&'static str> {
    entries.iter().map(|entry| entry.action.code()).collect()
}

fn by(actor: &str) -> ChangeOrigin {
    ChangeOrigin::new()
        .with_actor(actor)
        .with_channel(ChangeChannel::Page)
        .with_address("2001:db8::7".parse().unwrap())
        .with_request_id("4bf92f35")
        .with_reason("left \"the\" \u{202e}company\0")
}

fn hostile() -> String {
    "'\"><script>\u{202e}\0\n\\é%"
        .repeat(20)
        .chars()
        .take(200)
        .collect()
}

/// Each kind of change, and what changes nothing.
#[tokio::test]
async fn each_change_is_one_entry_that_says_all_but_digests() {
    let server = redis_server!();
    let store = started(&server).await;
    let options = WriteOptions::new().with_origin(by("anna"));
    let mut new = owned(1, "a");
    new.label = hostile();
    new.digest = format!("sha256${}", "5ec4e7".repeat(12));
    store.insert(&new, &options).await.unwrap();
    let mut patch = KeyPatch::new();
    // Two of these cannot be folded by the script, which asks for it.
    patch.label = Some("É".repeat(200));
    patch.description = Some(Some(hostile()));
    store.update(&id(1), &patch, &options).await.unwrap();
    let mut patch = KeyPatch::new();
    patch.label = Some("ascii".to_owned());
    store.update(&id(1), &patch, &options).await.unwrap();
    for enabled in [false, true] {
        let mut patch = KeyPatch::new();
        patch.enabled = Some(enabled);
        store.update(&id(1), &patch, &options).await.unwrap();
    }
    let mut patch = KeyPatch::new();
    patch.digest = Some(format!("sha256${}", "5ec4e8".repeat(12)));
    patch.previous = Some(Some(PreviousDigest {
        digest: new.digest.clone(),
        until: at(5_000),
    }));
    store.update(&id(1), &patch, &options).await.unwrap();
    let mut patch = KeyPatch::new();
    patch.owner = Some(Some("b".to_owned()));
    store.update(&id(1), &patch, &options).await.unwrap();
    store
        .update(&id(1), &KeyPatch::new(), &options)
        .await
        .unwrap();
    assert!(
        store
            .revoke(&id(1), &because("lost"), &options)
            .await
            .unwrap()
    );
    store
        .set_owner_suspended("b", true, &by("bert"))
        .await
        .unwrap();
    store
        .set_owner_suspended("b", false, &by("bert"))
        .await
        .unwrap();
    store
        .revoke_owner_keys("b", &left(3_000, "left"), &by("bert"))
        .await
        .unwrap();
    // None of these is a change.
    mark_all(&store).await;
    assert!(
        !store
            .revoke(&id(1), &because("again"), &options)
            .await
            .unwrap()
    );
    assert!(
        !store
            .set_owner_suspended("b", false, &by("bert"))
            .await
            .unwrap()
            .1
    );
    assert!(matches!(
        store.insert(&new, &options).await,
        Err(StoreError::Conflict)
    ));
    let stale = options.clone().with_expected_version(Some(1));
    assert!(matches!(
        store.update(&id(1), &patch, &stale).await,
        Err(StoreError::Conflict)
    ));
    let full = options.clone().with_max_live_keys(Some(0));
    assert!(store.insert(&owned(2, "a"), &full).await.is_err());
    let purged = store.purge(at(4_000), None, &by("job")).await.unwrap();
    assert_eq!(purged.keys, [id(1)]);

    let entries = entries(&store, all()).await;
    let expected = [
        "created",
        "updated",
        "updated",
        "disabled",
        "enabled",
        "rotated",
        "updated",
        "updated",
        "revoked",
        "owner_suspended",
        "owner_resumed",
        "owner_revoked",
        "purged",
    ];
    assert_eq!(actions(&entries), expected);
    assert_eq!(entries[0].origin, by("anna"));
    assert_eq!(entries[12].origin, by("job"));
    let of_owners: Vec<_> = entries.iter().filter(|entry| entry.key.is_none()).collect();
    assert_eq!(of_owners.len(), 3);
    assert!(
        of_owners
            .iter()
            .all(|entry| entry.owner.as_deref() == Some("b"))
    );
    let field = |place: usize, name: &str| {
        let found = entries[place]
            .fields
            .iter()
            .find(|change| change.field == name);
        let found = found.unwrap_or_else(|| panic!("{name} in {:?}", entries[place]));
        [&found.before, &found.after].map(|value| {
            value
                .clone()
                .map_or("-".to_owned(), |value| match value.as_str() {
                    Some(text) => text.to_owned(),
                    None => value.to_string(),
                })
        })
    };
    assert_eq!(field(0, "label"), ["-".to_owned(), hostile()]);
    assert_eq!(field(0, "scopes"), ["-", "[]"]);
    assert_eq!(field(0, "metadata"), ["-", "{}"]);
    assert_eq!(field(1, "label"), [hostile(), "É".repeat(200)]);
    assert_eq!(field(1, "description"), ["-".to_owned(), hostile()]);
    assert_eq!(field(3, "enabled"), ["true", "false"]);
    assert_eq!(
        field(5, "previous_until"),
        ["-", "1970-01-01T00:00:05.000Z"]
    );
    assert_eq!(entries[5].fields.len(), 1);
    assert_eq!(field(6, "owner"), ["a", "b"]);
    assert_eq!(
        (
            entries[6].owner.as_deref(),
            entries[6].former_owner.as_deref()
        ),
        (Some("b"), Some("a"))
    );
    assert_eq!(entries[7].fields, []);
    assert_eq!(field(8, "revoked_reason"), ["-", "lost"]);
    assert_eq!(field(9, "suspended"), ["false", "true"]);
    assert_eq!(field(11, "revocations"), ["0", "1"]);
    assert_eq!(field(12, "label"), ["ascii", "-"]);
    let raw = server.command(&["XRANGE", AUDIT, "-", "+"]).text();
    assert!(!raw.contains("5ec4e") && !raw.contains("sha256"), "{raw}");
    let positions: Vec<_> = entries.iter().map(|entry| &entry.position).collect();
    assert!(
        positions.is_sorted_by(|one, other| one < other),
        "{positions:?}"
    );
    let ours = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as i64;
    assert!(
        entries
            .iter()
            .all(|entry| (entry.at.as_millis() - ours).abs() < 600_000)
    );
}

#[tokio::test]
async fn entries_are_found_by_key_owner_actor_and_time() {
    let server = redis_server!();
    let store = started(&server).await;
    for (number, owner, actor) in [
        (1, "a", "anna"),
        (2, "a", "bert"),
        (3, "b", "anna"),
        (4, "", ""),
    ] {
        let mut options = WriteOptions::new();
        if !actor.is_empty() {
            options.origin = by(actor);
        }
        store.insert(&owned(number, owner), &options).await.unwrap();
        let mut patch = KeyPatch::new();
        patch.owner = Some(Some("c".to_owned()));
        store.update(&id(number), &patch, &options).await.unwrap();
    }
    store
        .insert(&record(5), &WriteOptions::new())
        .await
        .unwrap();
    store
        .set_owner_suspended("a", true, &by("anna"))
        .await
        .unwrap();
    let keys = async |query| {
        let found = entries(&store, query).await;
        found
            .iter()
            .map(|entry| entry.key.map_or(0, |key| key.to_u128()))
            .collect::<Vec<_>>()
    };
    assert_eq!(keys(all()).await, [1, 1, 2, 2, 3, 3, 4, 4, 5, 0]);
    assert_eq!(keys(of_key(2)).await, [2, 2]);
    assert_eq!(
        keys(of_owner("a")).await,
        [1, 1, 2, 2, 0],
        "and those that it gave away"
    );
    assert_eq!(keys(of_owner("")).await, [4, 4]);
    assert_eq!(keys(of_owner("c")).await, [1, 2, 3, 4]);
    assert_eq!(keys(of_actor("anna")).await, [1, 1, 3, 3, 0]);
    let mut query = of_owner("c");
    query.actor = Some("anna".to_owned());
    assert_eq!(keys(query.clone()).await, [1, 3]);
    query.key = Some(id(3));
    assert_eq!(keys(query.clone()).await, [3]);
    query.key = Some(id(2));
    assert_eq!(keys(query).await, [0_u128; 0]);

    let found = entries(&store, all()).await;
    let (middle, last) = (found[4].at, found[9].at);
    for query in [all(), of_owner("c"), of_actor("anna")] {
        let whole = entries(&store, query.clone()).await;
        let [mut early, mut late, mut never] = [(); 3].map(|()| query.clone());
        early.to = Some(middle);
        late.from = Some(middle);
        (never.from, never.to) = (Some(last), Some(at(-5)));
        let (early, late) = (entries(&store, early).await, entries(&store, late).await);
        assert!(early.iter().all(|entry| entry.at < middle));
        assert_eq!([early, late].concat(), whole);
        assert_eq!(entries(&store, never).await, []);
    }
    let mut query = all();
    query.before = Some("x".to_owned());
    assert!(matches!(
        store.read_audit(&query).await,
        Err(StoreError::InvalidArgument(_))
    ));
}

/// Two texts whose hashes begin alike share a place. Here, a member is put there by hand, and one without an entry.
#[tokio::test]
async fn an_entry_that_shares_a_place_in_the_index_is_compared_with_the_text() {
    const SHARE: &str = "local m = redis.call('ZRANGE', KEYS[1], '[a', '(b', 'BYLEX') \
        local stem, other = string.sub(m[1], 1, 9), string.sub(m[2], 10) \
        return redis.call('ZADD', KEYS[1], 0, stem .. other, 0, stem .. string.rep('\\9', 10))";
    let server = redis_server!();
    let store = started(&server).await;
    for (number, actor) in [(1, "anna"), (2, "bert")] {
        let options = WriteOptions::new().with_origin(by(actor));
        store.insert(&record(number), &options).await.unwrap();
    }
    assert_eq!(
        server.command(&["EVAL", SHARE, "1", AUDIT_INDEX]).text(),
        "2"
    );
    for (number, actor) in [(1, "anna"), (2, "bert")] {
        let found = entries(&store, of_actor(actor)).await;
        let keys: Vec<_> = found.iter().map(|entry| entry.key).collect();
        assert_eq!(keys, [Some(id(number))]);
    }
}

#[tokio::test]
async fn old_entries_are_removed_in_steps_with_their_places_in_the_index() {
    let server = redis_server!();
    let store = started(&server).await;
    for number in 0..450 {
        let options = WriteOptions::new().with_origin(by("anna"));
        store.insert(&owned(number, "a"), &options).await.unwrap();
    }
    let found = entries(&store, AuditQuery::newest(1_000)).await;
    let length = || {
        server
            .command(&["XLEN", AUDIT])
            .text()
            .parse::<usize>()
            .unwrap()
    };
    let places = || {
        server
            .command(&["ZCARD", AUDIT_INDEX])
            .text()
            .parse::<usize>()
            .unwrap()
    };
    assert_eq!((length(), places()), (450, 3 * 450));
    assert!(!store.prune_audit(at(-1)).await.unwrap());
    assert!(!store.prune_audit(found[0].at).await.unwrap());
    assert_eq!(length(), 450, "from before the time only");
    let middle = found[100].at;
    while store.prune_audit(middle).await.unwrap() {}
    let kept = entries(&store, AuditQuery::newest(1_000)).await;
    assert_eq!(
        kept,
        found
            .into_iter()
            .filter(|entry| middle <= entry.at)
            .collect::<Vec<_>>()
    );
    assert_eq!(entries(&store, of_owner("a")).await, kept);
    assert_eq!(places(), 3 * length());
    let mut sizes = vec![length()];
    while store.prune_audit(Timestamp::MAX).await.unwrap() {
        sizes.push(length());
    }
    sizes.push(length());
    assert!(
        sizes.windows(2).all(|pair| pair[0] - pair[1] <= 200),
        "{sizes:?}"
    );
    assert_eq!((length(), places()), (0, 0));
    store
        .insert(&record(1_000), &WriteOptions::new())
        .await
        .unwrap();
    assert_eq!(actions(&entries(&store, all()).await), ["created"]);
}

/// What cannot be audited is not changed.
#[tokio::test]
async fn a_change_that_cannot_be_audited_is_not_made() {
    let server = redis_server!();
    let store = started(&server).await;
    store
        .insert(&owned(1, "a"), &WriteOptions::new())
        .await
        .unwrap();
    for broken in [AUDIT_INDEX, AUDIT] {
        server.command(&["DEL", AUDIT, AUDIT_INDEX]);
        server.command(&["SET", broken, "a text"]);
        let options = WriteOptions::new();
        let mut patch = KeyPatch::new();
        patch.label = Some("other".to_owned());
        store.insert(&owned(2, "a"), &options).await.unwrap_err();
        store.update(&id(1), &patch, &options).await.unwrap_err();
        store
            .revoke(&id(1), &because("lost"), &options)
            .await
            .unwrap_err();
        store
            .revoke_owner_keys("a", &left(3_000, "a"), &by("anna"))
            .await
            .unwrap_err();
        store
            .set_owner_suspended("a", true, &by("anna"))
            .await
            .unwrap_err();
        let found = store.find(&id(1)).await.unwrap().unwrap();
        assert_eq!((found.version, found.revoked), (1, None), "{broken}");
        assert_eq!(found.owner_state.unwrap().version, 1, "{broken}");
        assert_eq!(store.find(&id(2)).await.unwrap(), None, "{broken}");
        if broken == AUDIT_INDEX {
            assert_eq!(
                server.command(&["EXISTS", AUDIT]).text(),
                "0",
                "no entry without its change"
            );
        }
    }
}

/// Entries that a tool, or a later release, has written.
#[tokio::test]
async fn entries_that_are_not_ours_do_not_stop_a_page() {
    let server = redis_server!();
    let store = started(&server).await;
    server.command(&["XADD", AUDIT, "1-1", "what", "ever"]);
    server.command(&[
        "XADD",
        AUDIT,
        "2-1",
        "action",
        "teleported",
        "key",
        "x",
        "fields",
        "{\"labels\":3,\"label\":7,\"enabled\":[]}",
    ]);
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    let found = entries(&store, AuditQuery::newest(1)).await;
    assert_eq!(found.len(), 2);
    assert_eq!(
        (found[0].action, found[0].key),
        (AuditAction::Unknown, None)
    );
    store.prune_audit(at(1_000)).await.unwrap();
    assert_eq!(actions(&entries(&store, all()).await), ["created"]);
}

/// The state bytes of a change, as the docs have them.
#[tokio::test]
async fn a_change_takes_the_bytes_that_the_docs_state() {
    let server = redis_server!();
    let store = started(&server).await;
    const KEYS: u128 = 5_000;
    let options = WriteOptions::new().with_origin(by("anna@example.com"));
    let used = |server: &RedisServer| {
        let sizes = [AUDIT, AUDIT_INDEX].map(|key| {
            let size = server
                .command(&["MEMORY", "USAGE", key, "SAMPLES", "0"])
                .text();
            size.parse::<u128>().unwrap_or(0)
        });
        sizes[0] + sizes[1]
    };
    for number in 0..KEYS {
        store
            .insert(&owned(number, &format!("owner {number}")), &options)
            .await
            .unwrap();
    }
    let created = used(&server);
    let mut patch = KeyPatch::new();
    patch.enabled = Some(false);
    for number in 0..KEYS {
        store.update(&id(number), &patch, &options).await.unwrap();
    }
    let (created, updated) = (created / KEYS, (used(&server) - created) / KEYS);
    println!("audit: {created} bytes for a new key, {updated} for an update");
    assert!(
        created < 800 && updated < 600,
        "{created} and {updated} bytes"
    );
}

/// A purge is audited for each key.
#[tokio::test]
async fn each_key_that_a_step_removes_has_an_entry() {
    let server = redis_server!();
    let store = started(&server).await;
    for number in 0..150 {
        let mut record = owned(number, "a");
        record.label = format!("é {number}");
        record.expires = Some(at(1_000));
        store.insert(&record, &WriteOptions::new()).await.unwrap();
    }
    assert_eq!(store.purge_all(at(2_000)).await.unwrap().len(), 150);
    let found = entries(&store, of_owner("a")).await;
    let purged = found
        .iter()
        .filter(|entry| entry.action == AuditAction::Purged);
    let keys: std::collections::BTreeSet<_> = purged.clone().map(|entry| entry.key).collect();
    assert_eq!((purged.count(), keys.len(), found.len()), (150, 150, 300));
}
