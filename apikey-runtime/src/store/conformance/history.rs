//! Checks of `changes`.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::bulk::{purge, revoke_owner};
use super::records::add;
use super::samples::{at, because, id, owned, plain};
use super::{CheckResult, CheckVerdict, NO_LOG, OrViolation, Violation, ensure};
use crate::key::KeyId;
use crate::record::{KeyPatch, KeyRecord};
use crate::store::{
    ChangeLog, ChangeSet, ChangedItem, Changes, Cursor, KeyStore, ListQuery, WriteOptions,
};

/// Returns the change log, or skips the check if the store does not keep one.
macro_rules! change_log {
    ($store:expr) => {
        match $store.change_log() {
            Some(log) => log,
            None => return Ok(NO_LOG),
        }
    };
}

async fn changes(log: &dyn ChangeLog, since: Option<&Cursor>) -> Result<Changes, Violation> {
    let changes = log.changes(since, None).await;
    changes.or_violation("`changes` fails")
}

/// Returns the ids that changed after `since`, a cursor that this store just returned, and the new
/// cursor.
async fn followed(log: &dyn ChangeLog, since: &Cursor) -> Result<(Vec<KeyId>, Cursor), Violation> {
    let changes = changes(log, Some(since)).await?;
    match changes.set {
        ChangeSet::Entries(items) => {
            let ids = items.into_iter().filter_map(ChangedItem::key).collect();
            Ok((ids, changes.cursor))
        }
        ChangeSet::Resync => Err(Violation(format!(
            "the store must know {since:?}, which it just returned"
        ))),
    }
}

pub(super) async fn a_poll_without_a_cursor_is_a_resync(store: Arc<dyn KeyStore>) -> CheckResult {
    let store = &*store;
    let log = change_log!(store);
    for number in 1..=2 {
        let Changes { set, cursor, .. } = changes(log, None).await?;
        ensure!(
            set == ChangeSet::Resync,
            "a poll without a cursor must return `Resync`; got {set:?}"
        );
        let (ids, same) = followed(log, &cursor).await?;
        ensure!(
            ids.is_empty() && same == cursor,
            "a poll without a cursor must return the current cursor"
        );
        add(store, &plain(number)).await?;
    }
    Ok(CheckVerdict::Passed)
}

pub(super) async fn an_unchanged_store_reports_no_change(store: Arc<dyn KeyStore>) -> CheckResult {
    let store = &*store;
    let log = change_log!(store);
    let cursor = changes(log, None).await?.cursor;
    let (ids, same) = followed(log, &cursor).await?;
    ensure!(
        ids.is_empty() && same == cursor,
        "an unchanged store must not report changes; got {ids:?} at {same:?}"
    );
    add(store, &plain(1)).await?;
    let (_, cursor) = followed(log, &cursor).await?;
    store.find(&id(1)).await.or_violation("`find` fails")?;
    store
        .list(&ListQuery::first(10))
        .await
        .or_violation("`list` fails")?;
    let (ids, same) = followed(log, &cursor).await?;
    ensure!(
        ids.is_empty() && same == cursor,
        "a read must not be logged as a change; got {ids:?} at {same:?}"
    );
    Ok(CheckVerdict::Passed)
}

pub(super) async fn every_change_takes_the_next_epoch_and_names_its_key(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let store = &*store;
    let log = change_log!(store);
    let start = changes(log, None).await?.cursor;
    let mut cursor = start.clone();
    let mut all_ids = Vec::new();
    for (what, change, expected) in changes_of_every_kind() {
        change.make(store).await?;
        let (ids, next) = followed(log, &cursor).await?;
        let unique: HashSet<KeyId> = ids.iter().copied().collect();
        ensure!(
            unique == expected.iter().copied().collect(),
            "{what} must log {expected:?}; got {ids:?}"
        );
        ensure!(
            next.epoch == cursor.epoch + expected.len() as u64,
            "{what} must take {} epochs; went from {} to {}",
            expected.len(),
            cursor.epoch,
            next.epoch
        );
        cursor = next;
        all_ids.extend(ids);
    }
    let (ids, end) = followed(log, &start).await?;
    ensure!(
        end == cursor,
        "one poll for all changes must end at {cursor:?}; got {end:?}"
    );
    let distinct = |ids: Vec<KeyId>| {
        let mut seen = HashSet::new();
        ids.into_iter()
            .filter(|id| seen.insert(*id))
            .collect::<Vec<_>>()
    };
    ensure!(
        distinct(ids) == distinct(all_ids),
        "changes must be logged in commit order"
    );
    Ok(CheckVerdict::Passed)
}

/// A change to make.
enum Change {
    Insert(Box<KeyRecord>),
    Update(KeyId),
    Revoke(KeyId),
    RevokeAll(&'static str),
    Purge(i64),
}

impl Change {
    async fn make(self, store: &dyn KeyStore) -> Result<(), Violation> {
        let reason = because("lost");
        let done = match self {
            Self::Insert(record) => store.insert(&record, &WriteOptions::new()).await,
            Self::Update(id) => {
                let patch = KeyPatch {
                    enabled: Some(true),
                    ..KeyPatch::new()
                };
                store.update(&id, &patch, &WriteOptions::new()).await
            }
            Self::Revoke(id) => store
                .revoke(&id, &reason, &WriteOptions::new())
                .await
                .map(drop),
            Self::RevokeAll(owner) => {
                return revoke_owner(store, owner, &reason).await.map(drop);
            }
            Self::Purge(before) => return purge(store, at(before)).await.map(drop),
        };
        done.or_violation("a change fails")
    }
}

/// Returns changes, each with a description and the keys that it must log.
fn changes_of_every_kind() -> Vec<(&'static str, Change, Vec<KeyId>)> {
    let insert = |record: KeyRecord| Change::Insert(Box::new(record));
    let mut expired = plain(5);
    expired.expires = Some(at(10));
    vec![
        ("an insert", insert(plain(9)), vec![id(9)]),
        ("an insert", insert(owned(2, "a")), vec![id(2)]),
        ("an insert", insert(owned(3, "a")), vec![id(3)]),
        ("an insert", insert(plain(4)), vec![id(4)]),
        ("an insert", insert(expired), vec![id(5)]),
        ("an update", Change::Update(id(9)), vec![id(9)]),
        (
            "an update to the same values",
            Change::Update(id(9)),
            vec![id(9)],
        ),
        ("a revocation", Change::Revoke(id(4)), vec![id(4)]),
        (
            "revoking an owner's keys",
            Change::RevokeAll("a"),
            vec![id(2), id(3)],
        ),
        (
            "an update of a revoked key",
            Change::Update(id(2)),
            vec![id(2)],
        ),
        ("a purge of an expired key", Change::Purge(11), vec![id(5)]),
        (
            "a purge of revoked keys",
            Change::Purge(3_001),
            vec![id(2), id(3), id(4)],
        ),
        ("an insert of a purged id", insert(plain(4)), vec![id(4)]),
    ]
}

pub(super) async fn a_call_that_changes_nothing_is_not_logged(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let store = &*store;
    let log = change_log!(store);
    add(store, &plain(1)).await?;
    store
        .revoke(&id(1), &because("lost"), &WriteOptions::new())
        .await
        .or_violation("`revoke` fails")?;
    let cursor = changes(log, None).await?.cursor;
    let wrong = WriteOptions::new().with_expected_version(Some(1));
    // Each of these fails or finds nothing to do; other checks test their results.
    let _ = store.insert(&plain(1), &WriteOptions::new()).await;
    let _ = store.update(&id(1), &KeyPatch::new(), &wrong).await;
    let _ = store
        .update(&id(2), &KeyPatch::new(), &WriteOptions::new())
        .await;
    let _ = store
        .revoke(&id(1), &because("again"), &WriteOptions::new())
        .await;
    let _ = store
        .revoke(&id(2), &because("lost"), &WriteOptions::new())
        .await;
    let _ = revoke_owner(store, "nobody", &because("left")).await;
    let _ = purge(store, at(i64::MIN)).await;
    let (ids, same) = followed(log, &cursor).await?;
    ensure!(
        ids.is_empty() && same == cursor,
        "a call that changes nothing must not be logged; got {ids:?} at {same:?}"
    );
    Ok(CheckVerdict::Passed)
}

pub(super) async fn an_invalid_cursor_is_a_resync(store: Arc<dyn KeyStore>) -> CheckResult {
    let store = &*store;
    let log = change_log!(store);
    for number in 1..=3 {
        add(store, &plain(number)).await?;
    }
    let present = changes(log, None).await?.cursor;
    let with_tag = |tag| Cursor {
        epoch: present.epoch,
        tag,
    };
    let with_epoch = |epoch| Cursor {
        epoch,
        tag: present.tag.clone(),
    };
    let mut flipped = present.tag.clone();
    ensure!(!flipped.is_empty(), "a cursor must have a tag");
    flipped[0] ^= 1;
    let mut longer = present.tag.clone();
    longer.push(0);
    let strangers = [
        with_tag(flipped),
        with_tag(Vec::new()),
        with_tag(longer),
        with_epoch(present.epoch + 1),
        with_epoch(i64::MAX as u64),
        with_epoch(1 << 63),
        with_epoch(u64::MAX),
    ];
    for stranger in strangers {
        let Changes { set, cursor, .. } = changes(log, Some(&stranger)).await?;
        ensure!(
            set == ChangeSet::Resync,
            "{stranger:?} is not a cursor of this store and must return `Resync`; got {set:?}"
        );
        ensure!(
            cursor == present,
            "`Resync` must come with the current cursor"
        );
    }
    Ok(CheckVerdict::Passed)
}

/// As after a restore: the same number of changes, but different ones.
pub(super) async fn a_cursor_of_another_store_is_a_resync(
    store: Arc<dyn KeyStore>,
    other: Arc<dyn KeyStore>,
) -> CheckResult {
    let log = change_log!(store);
    let other_log = change_log!(other);
    for number in 1..=3 {
        let foreign = changes(other_log, None).await?.cursor;
        let own = changes(log, Some(&foreign)).await?;
        ensure!(
            own.set == ChangeSet::Resync,
            "a cursor of another store must return `Resync`, even at the same epoch; got {:?}",
            own.set
        );
        ensure!(
            own.cursor.tag != foreign.tag,
            "two stores must have different tags"
        );
        add(&*store, &plain(number)).await?;
        add(&*other, &plain(number)).await?;
    }
    Ok(CheckVerdict::Passed)
}

pub(super) async fn every_poll_returns_the_same_lease(store: Arc<dyn KeyStore>) -> CheckResult {
    let store = &*store;
    let log = change_log!(store);
    let first = changes(log, None).await?;
    add(store, &plain(1)).await?;
    let second = changes(log, Some(&first.cursor)).await?;
    ensure!(
        first.lease == second.lease,
        "all polls must return the same lease; got {:?} and {:?}",
        first.lease,
        second.lease
    );
    Ok(CheckVerdict::Passed)
}

/// Number of concurrent writers, and of keys that each of them changes.
const WRITERS: u128 = 8;
const KEYS: u128 = 12;

/// V-19: a poller sees every change, even if changes overlap. It sees a change that returned at the
/// next poll.
pub(super) async fn a_poller_misses_no_change_of_concurrent_writers(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let log = change_log!(store);
    for number in 0..WRITERS * KEYS {
        add(&*store, &plain(number)).await?;
    }
    let mut cursor = changes(log, None).await?.cursor;
    let returned = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = JoinSet::new();
    for writer in 0..WRITERS {
        let (store, returned) = (Arc::clone(&store), Arc::clone(&returned));
        tasks.spawn(async move { change_each_once(&*store, writer, &returned).await });
    }
    let mut told: HashSet<KeyId> = HashSet::new();
    loop {
        let expected = returned.lock().clone();
        let (ids, next) = followed(log, &cursor).await?;
        ensure!(
            next.epoch >= cursor.epoch,
            "the epoch must not go back from {cursor:?} to {next:?}"
        );
        told.extend(ids);
        cursor = next;
        let missed: Vec<_> = expected.iter().filter(|id| !told.contains(id)).collect();
        ensure!(
            missed.is_empty(),
            "a poll must return all changes made before it; it misses those of {missed:?}"
        );
        if expected.len() as u128 == WRITERS * KEYS {
            return Ok(CheckVerdict::Passed);
        }
        // A writer that fails never records all of its changes.
        while let Some(joined) = tasks.try_join_next() {
            joined.map_err(|error| Violation(format!("a call panics: {error}")))??;
        }
        tokio::task::yield_now().await;
    }
}

/// Changes each key of a writer once, so that a later change cannot hide that an earlier one was
/// not logged. Records the calls that returned.
async fn change_each_once(
    store: &dyn KeyStore,
    writer: u128,
    returned: &Mutex<Vec<KeyId>>,
) -> Result<(), Violation> {
    for number in 0..KEYS {
        let id = id(writer * KEYS + number);
        if number % 2 == 0 {
            store
                .revoke(&id, &because("lost"), &WriteOptions::new())
                .await
                .map(drop)
        } else {
            store
                .update(
                    &id,
                    &KeyPatch {
                        enabled: Some(false),
                        ..KeyPatch::new()
                    },
                    &WriteOptions::new(),
                )
                .await
        }
        .or_violation("a concurrent change fails")?;
        returned.lock().push(id);
    }
    Ok(())
}
