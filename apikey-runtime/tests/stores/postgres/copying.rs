//! Copies to and from a file.

use std::sync::Arc;

use apikey_runtime::audit::{AuditAction, AuditEntry, ChangeOrigin};
use apikey_runtime::store::{
    CopiedEntry, CopyItems, CopyOutcome, CopySection, ListedOwner, NetworkUse, OwnerState,
    OwnerStore, StoreCopy, UsageStore,
};
use apikey_runtime::{KeyRecord, KeyStore, PostgresStore, conformance};
use tokio::task::JoinSet;

use super::{Place, number, place, run, server, until_waiting};
use crate::copying::in_file;
use crate::{because, id, record};

#[tokio::test]
async fn a_database_is_copied_to_a_file_and_back() {
    let Some(server) = server() else { return };
    let files = crate::Place::new();
    let in_database = || async {
        let place = Place::on(server).await;
        Arc::new(PostgresStore::new(place.url())) as Arc<dyn KeyStore>
    };
    conformance::copy_between(in_database, || async { in_file(&files) }).await;
    conformance::copy_between(|| async { in_file(&files) }, in_database).await;
}

/// Writes a page while `change` is not committed yet: what the page was compared with is changed before it is written.
async fn written_beside(place: &Place<'_>, change: &str, items: CopyItems) -> CopyOutcome {
    let store = Arc::new(PostgresStore::new(place.url()));
    store.start().await.unwrap();
    let mut tool = place.tool().await;
    run(&mut tool, &format!("BEGIN; {change}")).await.unwrap();
    let writing = {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.write_copy(&items).await })
    };
    until_waiting(place, &mut tool, 1).await;
    run(&mut tool, "COMMIT").await.unwrap();
    writing.await.unwrap().unwrap()
}

/// The record gets the version that a revoked one would have had.
#[tokio::test]
async fn a_key_that_is_changed_at_the_moment_of_a_copy_is_revoked() {
    let place = place!();
    let store = place.started().await;
    let keys = |record: KeyRecord| CopyItems::Keys(vec![record]);
    store.write_copy(&keys(record(1))).await.unwrap();
    let mut revoked = record(1);
    revoked.revoked = Some(because("lost"));
    let change = "UPDATE api_keys SET label = 'another', version = version + 1";
    let outcome = written_beside(&place, change, keys(revoked)).await;
    assert_eq!(outcome.revoked, [id(1).to_string()]);
    let found = store.find(&id(1)).await.unwrap().unwrap();
    assert_eq!(found.revoked, Some(because("lost")));
    assert_eq!(found.label, "another");
    assert_eq!(found.version, record(1).version + 2);
}

#[tokio::test]
async fn an_owner_that_is_changed_at_the_moment_of_a_copy_is_revoked() {
    let place = place!();
    let store = place.started().await;
    let owners = |state| CopyItems::Owners(vec![ListedOwner::new("a", state)]);
    store.write_copy(&owners(OwnerState::new())).await.unwrap();
    let change = "UPDATE api_key_owners SET suspended = TRUE, version = version + 1";
    let copied = OwnerState::new().with_revocations(2);
    let outcome = written_beside(&place, change, owners(copied)).await;
    assert_eq!(outcome.revoked, ["the owner \"a\""]);
    let found = store.find_owner("a").await.unwrap().unwrap();
    let expected = OwnerState::new().with_suspended(true).with_revocations(2);
    assert_eq!(found, expected.with_version(copied.version + 2));
}

/// The first try writes what the second one finds: it is counted once, as written.
#[tokio::test]
async fn what_is_written_beside_a_change_is_counted_as_written() {
    let place = place!();
    let store = place.started().await;
    let owners = |states: &[OwnerState]| {
        let owners = ["a", "b", "c", "d"].iter().zip(states);
        CopyItems::Owners(
            owners
                .map(|(name, state)| ListedOwner::new(*name, *state))
                .collect(),
        )
    };
    let suspended = OwnerState::new().with_suspended(true).with_version(5);
    let present = [OwnerState::new(), suspended, OwnerState::new()];
    store.write_copy(&owners(&present)).await.unwrap();
    let change =
        "UPDATE api_key_owners SET suspended = TRUE, version = version + 1 WHERE owner = 'a'";
    let left = OwnerState::new().with_revocations(2);
    let copied = owners(&[left, left, present[2], left]);
    let outcome = written_beside(&place, change, copied).await;
    assert_eq!((outcome.written, outcome.unchanged), (3, 1), "{outcome:?}");
    assert_eq!(outcome.revoked.len(), 2, "{outcome:?}");
    assert!(outcome.kept.is_empty(), "{outcome:?}");
    // Of the keys: changed meanwhile, changed before, the same, revoked by its owner, and a new one.
    let mut records: Vec<_> = (1..=5).map(record).collect();
    records[3].owner = Some("d".to_owned());
    records[1].version += 3;
    store
        .write_copy(&CopyItems::Keys(records[..4].to_vec()))
        .await
        .unwrap();
    records[1].version -= 3;
    for revoked in [0, 1, 3] {
        records[revoked].revoked = Some(because("lost"));
    }
    let change = format!(
        "UPDATE api_keys SET label = 'another', version = version + 1 WHERE id = '{}'",
        id(1)
    );
    let outcome = written_beside(&place, &change, CopyItems::Keys(records)).await;
    assert_eq!((outcome.written, outcome.unchanged), (4, 1), "{outcome:?}");
    let mut revoked = outcome.revoked;
    revoked.sort_unstable();
    assert_eq!(revoked, [id(1).to_string(), id(2).to_string()]);
    assert!(outcome.kept.is_empty(), "{:?}", outcome.kept);
}

/// Returns a page of entries of one time.
fn entries() -> CopyItems {
    let entry = |number: u64| {
        let origin = ChangeOrigin::new();
        let mut entry = AuditEntry::new("", record(1).created, AuditAction::Created, origin);
        entry.key = Some(id(number.into()));
        CopiedEntry::new(number, entry)
    };
    CopyItems::Audit((0..3).map(entry).collect())
}

async fn read(store: &PostgresStore, section: CopySection) -> CopyItems {
    store.read_copy(section, None, 1_000).await.unwrap().items
}

/// Both have compared the page with the log before either writes.
#[tokio::test]
async fn two_copies_at_once_write_each_audit_entry_once() {
    let place = place!();
    let store = place.started().await;
    let mut tool = place.tool().await;
    run(&mut tool, "BEGIN; LOCK TABLE api_key_audit IN SHARE MODE")
        .await
        .unwrap();
    let mut copies = JoinSet::new();
    for _ in 0..2 {
        let store = place.started().await;
        copies.spawn(async move { store.write_copy(&entries()).await.unwrap() });
    }
    until_waiting(&place, &mut tool, 2).await;
    run(&mut tool, "COMMIT").await.unwrap();
    let mut written = 0;
    while let Some(outcome) = copies.join_next().await {
        written += outcome.unwrap().written;
    }
    assert_eq!(written, 3);
    assert_eq!(read(&store, CopySection::Audit).await, entries());
}

/// A page that is written without taking turns is not seen at the same moment: the negative control.
#[tokio::test]
async fn a_copy_waits_for_the_page_of_another_one() {
    const TURN: &str = "SELECT pg_advisory_xact_lock(hashtextextended('', 'api_key_audit'::regclass::oid::bigint));";
    let page = (0..3).map(|number| {
        let key = id(number);
        format!(
            r#"{{"at":1000,"action":"created","key":"{key}","channel":"code","fields":"{{}}"}}"#
        )
    });
    let page = page.collect::<Vec<_>>().join(",");
    for (turn, expected) in [(TURN, 3), ("", 6)] {
        let place = place!();
        let store = place.started().await;
        let mut tool = place.tool().await;
        let other = format!("BEGIN; {turn} SELECT api_key_copy_audit('[{page}]')");
        run(&mut tool, &other).await.unwrap();
        let mut writing = tokio::spawn(async move { store.write_copy(&entries()).await });
        if turn.is_empty() {
            (&mut writing).await.unwrap().unwrap();
        } else {
            until_waiting(&place, &mut tool, 1).await;
        }
        run(&mut tool, "COMMIT").await.unwrap();
        if !turn.is_empty() {
            let outcome = writing.await.unwrap().unwrap();
            assert_eq!((outcome.written, outcome.unchanged), (0, 3));
        }
        let count = "SELECT count(*) FROM api_key_audit";
        assert_eq!(number(&mut tool, count).await, expected);
    }
}

/// Two batches at once may leave more networks than are kept.
#[tokio::test]
async fn the_latest_networks_are_read_and_the_others_are_removed() {
    let place = place!();
    let store = place.started().await;
    let key = CopyItems::Keys(vec![record(1)]);
    store.write_copy(&key).await.unwrap();
    let mut tool = place.tool().await;
    let by_hand = format!(
        "INSERT INTO api_key_networks (key, network, at, day) \
         SELECT '{}', '10.0.' || one || '.0/24', one / 2, 0 FROM generate_series(1, 25) AS one",
        id(1)
    );
    run(&mut tool, &by_hand).await.unwrap();
    let CopyItems::Networks(found) = read(&store, CopySection::Networks).await else {
        panic!("a page of another section");
    };
    let mut kept = store.read_networks(&[id(1)]).await.unwrap();
    kept.sort_by_cached_key(|used| used.network.to_string());
    assert_eq!(kept.len(), 20);
    assert_eq!(found, kept);

    let network = "192.0.2.0/24".parse().unwrap();
    let later = NetworkUse::new(id(1), network, record(1).created);
    let outcome = store.write_copy(&CopyItems::Networks(vec![later])).await;
    assert_eq!(outcome.unwrap().written, 1);
    let count = "SELECT count(*) FROM api_key_networks";
    assert_eq!(number(&mut tool, count).await, 20);
}
