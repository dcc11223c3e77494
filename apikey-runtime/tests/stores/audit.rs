//! The audit log in a file: equal to that of the store in memory, and what an operator's statements leave in it.

mod by_hand;
mod crash;
mod upgrade;

use std::sync::Arc;
use std::time::Duration;

use apikey_runtime::audit::{AuditAction, AuditEntry, ChangeChannel, ChangeOrigin};
use apikey_runtime::clock::ManualClock;
use apikey_runtime::store::{
    AuditQuery, AuditStore, KeyPatch, OwnerRevocation, OwnerStore, PreviousDigest, StoreError,
    WriteOptions,
};
use apikey_runtime::{KeyStore, Limit, MemoryStore, Quota, Scopes, SqliteStore};
use sqlx::SqliteConnection;

use crate::{InSteps, Place, at, because, id, number, owned, record, run};

/// A label of 200 characters with a meaning in JSON, SQL, CSV, terminals and HTML.
fn hostile(seed: &str) -> String {
    let part = "\"],\"x\":[null,'; DROP TABLE api_keys; --\r\n\t\u{1}\u{7f}\u{202e}\\u0000<b>\u{10ffff}=1+1,\u{fffd}";
    let label: String = seed.chars().chain(part.chars().cycle()).take(200).collect();
    assert_eq!(label.chars().count(), 200);
    label
}

fn origin() -> ChangeOrigin {
    ChangeOrigin::new()
        .with_actor(hostile("actor"))
        .with_channel(ChangeChannel::Page)
        .with_address("2001:db8::7".parse().unwrap())
        .with_request_id("4bf92f35")
        .with_reason(hostile("why"))
}

fn options() -> WriteOptions {
    WriteOptions::new().with_origin(origin())
}

/// Returns all entries, read in pages.
async fn entries(store: &dyn AuditStore, mut query: AuditQuery) -> Vec<AuditEntry> {
    let mut entries = Vec::new();
    loop {
        let page = store.read_audit(&query).await.unwrap();
        entries.extend(page.entries);
        query.before = page.next;
        if query.before.is_none() {
            return entries;
        }
    }
}

async fn newest(store: &SqliteStore) -> AuditEntry {
    let page = store.read_audit(&AuditQuery::newest(1)).await.unwrap();
    page.entries.into_iter().next().unwrap()
}

async fn count(store: &SqliteStore) -> usize {
    entries(store, AuditQuery::newest(1_000)).await.len()
}

/// Patches that change each field, and one that changes none.
fn patches() -> Vec<KeyPatch> {
    let patch = |change: &dyn Fn(&mut KeyPatch)| {
        let mut patch = KeyPatch::new();
        change(&mut patch);
        patch
    };
    let previous = PreviousDigest {
        digest: "sha256$00".to_owned(),
        until: at(9_000),
    };
    vec![
        KeyPatch::new(),
        patch(&|patch| patch.label = Some(hostile("label"))),
        patch(&|patch| patch.description = Some(Some(hostile("words")))),
        patch(&|patch| patch.owner = Some(Some(hostile("owner")))),
        patch(&|patch| patch.owner = Some(None)),
        patch(&|patch| patch.owner = Some(Some("acme".to_owned()))),
        patch(&|patch| patch.scopes = Some(Scopes::new(["a:b", "c"]).unwrap())),
        patch(&|patch| {
            let metadata = serde_json::json!({ "n": [1, null, hostile("metadata")] });
            patch.metadata = metadata.as_object().cloned();
        }),
        patch(&|patch| patch.environment = Some(Some("live".to_owned()))),
        patch(&|patch| patch.networks = Some(vec!["192.0.2.0/24".parse().unwrap()])),
        patch(&|patch| patch.methods = Some(vec!["GET".to_owned(), "POST".to_owned()])),
        patch(&|patch| patch.limits = Some(vec![Limit::new("day", Quota::per_day(5))])),
        patch(&|patch| patch.expires = Some(Some(at(i64::MAX)))),
        patch(&|patch| patch.not_before = Some(Some(at(-1)))),
        patch(&|patch| patch.enabled = Some(false)),
        patch(&|patch| patch.enabled = Some(true)),
        patch(&|patch| {
            patch.enabled = Some(false);
            patch.label = Some("two fields".to_owned());
        }),
        patch(&|patch| {
            patch.digest = Some("sha256$secret-digest".to_owned());
            patch.previous = Some(Some(previous.clone()));
        }),
        patch(&|patch| patch.previous = Some(None)),
        patch(&|patch| patch.expires = Some(None)),
    ]
}

/// Makes each change that there is, and such that are refused.
async fn change_everything(store: &dyn KeyStore, clock: &ManualClock) {
    let owners = store.owners().unwrap();
    let mut first = owned(1, "acme");
    first.created_by = Some("anna".to_owned());
    first.label = hostile("first");
    store.insert(&first, &options()).await.unwrap();
    let taken = store.insert(&first, &options()).await;
    assert!(matches!(taken, Err(StoreError::Conflict)));
    store
        .insert(&record(2), &WriteOptions::new())
        .await
        .unwrap();
    for patch in patches() {
        clock.advance(Duration::from_millis(7));
        store.update(&id(1), &patch, &options()).await.unwrap();
    }
    let none = KeyPatch::new();
    let of_other = options().with_expected_owner(Some("b".to_owned()));
    let of_first = options().with_expected_version(Some(1));
    assert!(store.update(&id(1), &none, &of_other).await.is_err());
    assert!(store.update(&id(1), &none, &of_first).await.is_err());
    assert!(store.update(&id(3), &none, &options()).await.is_err());
    let lost = because(&hostile("lost"));
    assert!(store.revoke(&id(2), &lost, &options()).await.unwrap());
    assert!(!store.revoke(&id(2), &lost, &options()).await.unwrap());
    for suspended in [true, true, false] {
        clock.advance(Duration::from_millis(7));
        let origin = origin();
        let changed = owners.set_owner_suspended("acme", suspended, &origin);
        changed.await.unwrap();
    }
    let left = OwnerRevocation::new(at(5_000)).with_reason(Some("left".to_owned()));
    let revoked = owners.revoke_owner_keys("acme", &left, &origin()).await;
    revoked.unwrap();
    // It stays with its owner, and is revoked.
    let mut patch = KeyPatch::new();
    patch.owner = Some(Some("b".to_owned()));
    store.update(&id(1), &patch, &options()).await.unwrap();
    store.insert(&owned(4, "acme"), &options()).await.unwrap();
    let revoked = owners.revoke_owner_keys("acme", &left, &origin()).await;
    revoked.unwrap();
    while owners.mark_revoked_keys().await.unwrap() {}
    clock.advance(Duration::from_millis(7));
    assert_eq!(store.purge_all(at(i64::MAX)).await.unwrap().len(), 3);
}

/// The store in memory builds its entries from records, and this one by triggers from columns.
#[tokio::test]
async fn the_audit_log_in_a_file_is_that_in_memory() {
    let [clock, of_file] = [(); 2].map(|()| Arc::new(ManualClock::at(at(1_000_000))));
    let memory = MemoryStore::new().with_clock(Arc::clone(&clock) as _);
    change_everything(&memory, &clock).await;
    let place = Place::new();
    let store = SqliteStore::new(place.file()).clock(Arc::clone(&of_file) as _);
    store.start().await.unwrap();
    change_everything(&store, &of_file).await;

    let all = AuditQuery::newest(7);
    let mut expected = entries(&memory, all.clone()).await;
    let mut found = entries(&store, all).await;
    assert!(found.iter().rev().is_sorted_by_key(|entry| &entry.position));
    for entry in expected.iter_mut().chain(&mut found) {
        entry.position.clear();
    }
    // A step of a purge is one moment; its order is the store's own.
    for (expected, found) in expected.iter().zip(&found) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.len(), expected.len());
    let actions: Vec<_> = found.iter().map(|entry| entry.action).collect();
    for action in [
        AuditAction::Created,
        AuditAction::Updated,
        AuditAction::Rotated,
        AuditAction::Enabled,
        AuditAction::Disabled,
        AuditAction::Revoked,
        AuditAction::Purged,
        AuditAction::OwnerRevoked,
        AuditAction::OwnerSuspended,
        AuditAction::OwnerResumed,
    ] {
        assert!(actions.contains(&action), "{action}");
    }
    let mut tool = place.tool().await;
    assert_eq!(number(&mut tool, LEFT_OVER).await, 0);
    assert_eq!(digests(&mut tool).await, 0);
}

/// Rows that are in the tables only in the middle of a change.
const LEFT_OVER: &str =
    "SELECT (SELECT count(*) FROM api_key_origin) + (SELECT count(*) FROM api_key_numbering)";

/// Returns how many rows of the audit log have the digest of a key in them.
async fn digests(tool: &mut SqliteConnection) -> i64 {
    let sql = "SELECT count(*) FROM api_key_audit WHERE fields LIKE '%sha256$%' \
        OR fields LIKE '%digest\"%' OR fields LIKE '%label_key%'";
    number(tool, sql).await
}

#[tokio::test]
async fn each_filter_finds_its_entries_in_pages_of_each_size() {
    let clock = Arc::new(ManualClock::at(at(1_000_000)));
    let place = Place::new();
    let store = SqliteStore::new(place.file()).clock(Arc::clone(&clock) as _);
    store.start().await.unwrap();
    change_everything(&store, &clock).await;
    let all = entries(&store, AuditQuery::newest(1_000)).await;
    let middle = all[all.len() / 2].at;
    let keys = [None, Some(id(1)), Some(id(9))];
    let owners = [None, Some("acme".to_owned()), Some(hostile("owner"))];
    let actors = [None, origin().actor, Some("other".to_owned())];
    let times = [(None, None), (Some(middle), None), (None, Some(middle))];
    for limit in [1, 3, 1_000] {
        for key in keys {
            for owner in &owners {
                for actor in &actors {
                    for (from, to) in times {
                        let mut query = AuditQuery::newest(limit);
                        (query.key, query.owner) = (key, owner.clone());
                        (query.actor, query.from, query.to) = (actor.clone(), from, to);
                        let expected = all.iter().filter(|entry| query.matches(entry));
                        let found = entries(&store, query.clone()).await;
                        assert!(found.iter().eq(expected), "{query:?}");
                    }
                }
            }
        }
    }
    let mut query = AuditQuery::newest(1);
    query.before = Some("nonsense".to_owned());
    let refused = store.read_audit(&query).await;
    assert!(matches!(refused, Err(StoreError::InvalidArgument(_))));
}

/// A page that looks for several things reads 1,000 entries at most.
#[tokio::test]
async fn a_page_without_a_match_goes_on() {
    let place = Place::new();
    let store = place.store().await;
    store.insert(&owned(1, "acme"), &options()).await.unwrap();
    let mut tool = place.tool().await;
    for _ in 0..1_500 {
        run(&mut tool, "UPDATE api_keys SET version = version + 1")
            .await
            .unwrap();
    }
    let mut query = AuditQuery::newest(10);
    (query.owner, query.actor) = (Some("acme".to_owned()), origin().actor);
    let page = store.read_audit(&query).await.unwrap();
    assert!(page.entries.is_empty() && page.next.is_some());
    let found = entries(&store, query).await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].action, AuditAction::Created);
}

#[tokio::test]
async fn old_entries_are_removed_in_steps_and_no_others() {
    let clock = Arc::new(ManualClock::at(at(1_000)));
    let place = Place::new();
    let store = SqliteStore::new(place.file()).clock(Arc::clone(&clock) as _);
    store.start().await.unwrap();
    for number in 0..2_500 {
        clock.advance(Duration::from_millis(1));
        // The clock is set back for a while.
        match number {
            500 => clock.step_wall(-400),
            900 => clock.step_wall(400),
            _ => {}
        }
        let options = WriteOptions::new();
        match number {
            0 => store.insert(&record(1), &options).await.unwrap(),
            _ => {
                let patch = KeyPatch::new();
                store.update(&id(1), &patch, &options).await.unwrap();
            }
        }
    }
    assert!(!store.prune_audit(at(1_001)).await.unwrap());
    assert_eq!(count(&store).await, 2_500);
    let before = at(1_000 + 2_400);
    let mut steps = 0;
    while store.prune_audit(before).await.unwrap() {
        steps += 1;
        assert_eq!(count(&store).await, 2_500 - steps * 1_000);
    }
    assert_eq!(steps, 2);
    let left = entries(&store, AuditQuery::newest(1_000)).await;
    assert_eq!(left.len(), 101);
    assert!(left.iter().all(|entry| entry.at >= before));
    let mut tool = place.tool().await;
    assert_eq!(number(&mut tool, LEFT_OVER).await, 0);
    // Numbers are not given again.
    store.prune_audit(at(i64::MAX)).await.unwrap();
    assert_eq!(count(&store).await, 0);
    let patch = KeyPatch::new();
    store.update(&id(1), &patch, &options()).await.unwrap();
    let position = "SELECT position FROM api_key_audit";
    assert_eq!(number(&mut tool, position).await, 2_501);
}

/// Two processes of which one has a clock that is behind.
#[tokio::test]
async fn entries_are_in_the_order_of_their_times_if_clocks_differ() {
    let place = Place::new();
    let store = async |millis| {
        let clock = Arc::new(ManualClock::at(at(millis)));
        let store = SqliteStore::new(place.file()).clock(clock);
        store.start().await.unwrap();
        store
    };
    let (ahead, behind) = (store(9_000).await, store(5_000).await);
    for number in 1..=6 {
        let store = if number % 2 == 0 { &ahead } else { &behind };
        store
            .insert(&owned(number, "acme"), &options())
            .await
            .unwrap();
    }
    for limit in 1..=7 {
        let mut query = AuditQuery::newest(limit);
        let keys = async |query: &AuditQuery| {
            let found = entries(&ahead, query.clone()).await;
            found
                .iter()
                .filter_map(|entry| entry.key)
                .collect::<Vec<_>>()
        };
        assert_eq!(keys(&query).await, [6, 4, 2, 5, 3, 1].map(id));
        query.owner = Some("acme".to_owned());
        (query.from, query.to) = (Some(at(5_000)), Some(at(9_000)));
        assert_eq!(keys(&query).await, [5, 3, 1].map(id));
    }
    assert!(!ahead.prune_audit(at(9_000)).await.unwrap());
    assert_eq!(count(&behind).await, 3);
}

/// A call that is refused leaves the connection as it was: the next one finds no origin of it.
#[tokio::test]
async fn a_refused_change_leaves_no_entry_and_no_origin() {
    let place = Place::new();
    let store = place.store().await;
    store.insert(&record(1), &options()).await.unwrap();
    let mut tool = place.tool().await;
    let full =
        "CREATE TRIGGER full BEFORE INSERT ON api_key_audit BEGIN SELECT RAISE(ABORT, 'full'); END";
    run(&mut tool, full).await.unwrap();
    let none = KeyPatch::new();
    for _ in 0..20 {
        assert!(store.update(&id(1), &none, &options()).await.is_err());
        assert!(store.insert(&record(2), &options()).await.is_err());
        let revoked = store.revoke(&id(1), &because("lost"), &options()).await;
        assert!(revoked.is_err());
        assert!(store.purge_all(at(i64::MAX)).await.unwrap().is_empty());
    }
    run(&mut tool, "DROP TRIGGER full").await.unwrap();
    assert_eq!(number(&mut tool, LEFT_OVER).await, 0);
    let found = store.find(&id(1)).await.unwrap().unwrap();
    assert_eq!((found.version, found.revoked), (1, None));
    assert_eq!(count(&store).await, 1);
    run(&mut tool, "UPDATE api_keys SET label = 'x'")
        .await
        .unwrap();
    let entry = newest(&store).await;
    assert_eq!(entry.origin.channel, ChangeChannel::Sql);
    assert_eq!(entry.origin.actor, None);
}
