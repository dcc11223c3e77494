//! Checks of bulk changes: `revoke_owner` and `purge` in steps, and the pages of a long change log.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use tokio::task::JoinSet;

use super::records::{add, all, ensure_stored};
use super::samples::{at, because, id, owned};
use super::{CheckResult, CheckVerdict, NO_LOG, OrViolation, Violation, ensure};
use crate::audit::ChangeOrigin;
use crate::clock::Timestamp;
use crate::key::KeyId;
use crate::record::Revocation;
use crate::store::{BulkStep, ChangeSet, ChangedItem, Cursor, KeyStore, ListCursor};

/// More keys than a step or a page may have.
pub(super) const KEYS: u128 = 1_100;

/// Number of concurrent writers of the keys.
const WRITERS: u128 = 4;

/// More steps than the few keys of a check can need: each reads at least one record.
const MAX_STEPS: usize = 10_000;

/// Revokes the keys of an owner, step by step, and returns them.
pub(super) async fn revoke_owner(
    store: &dyn KeyStore,
    owner: &str,
    revocation: &Revocation,
) -> Result<Vec<KeyId>, Violation> {
    let (mut keys, mut after) = (Vec::new(), None);
    for _ in 0..MAX_STEPS {
        let step = store
            .revoke_owner(owner, revocation, after.as_ref(), &ChangeOrigin::new())
            .await;
        let step = step.or_violation("`revoke_owner` fails")?;
        after = next_step(&mut keys, step)?;
        if after.is_none() {
            return Ok(keys);
        }
    }
    Err(Violation("`revoke_owner` does not end".to_owned()))
}

/// Purges, step by step, and returns the removed keys.
pub(super) async fn purge(
    store: &dyn KeyStore,
    before: Timestamp,
) -> Result<Vec<KeyId>, Violation> {
    let (mut keys, mut after) = (Vec::new(), None);
    for _ in 0..MAX_STEPS {
        let step = store
            .purge(before, after.as_ref(), &ChangeOrigin::new())
            .await;
        after = next_step(&mut keys, step.or_violation("`purge` fails")?)?;
        if after.is_none() {
            return Ok(keys);
        }
    }
    Err(Violation("`purge` does not end".to_owned()))
}

fn next_step(keys: &mut Vec<KeyId>, step: BulkStep) -> Result<Option<ListCursor>, Violation> {
    ensure!(
        step.keys.len() <= BulkStep::MAX_KEYS,
        "a step must change at most {} keys; got {}",
        BulkStep::MAX_KEYS,
        step.keys.len()
    );
    keys.extend(step.keys);
    Ok(step.next)
}

/// Adds the keys 1 to [`KEYS`], all of one owner.
pub(super) async fn add_many(store: &Arc<dyn KeyStore>) -> Result<(), Violation> {
    let mut tasks = JoinSet::new();
    for writer in 0..WRITERS {
        let store = Arc::clone(store);
        tasks.spawn(async move {
            for number in (1..=KEYS).filter(|number| number % WRITERS == writer) {
                add(&*store, &owned(number, "a")).await?;
            }
            Ok(())
        });
    }
    all(tasks).await.map(drop)
}

/// The first step commits by itself, and the steps together reach each key once.
pub(super) async fn a_bulk_change_is_made_in_bounded_steps(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let expected: BTreeSet<KeyId> = (1..=KEYS).map(id).collect();
    add_many(&store).await?;
    let other = owned(KEYS + 1, "b");
    add(&*store, &other).await?;
    let first = store
        .revoke_owner("a", &because("left"), None, &ChangeOrigin::new())
        .await;
    let first = first.or_violation("`revoke_owner` fails")?;
    ensure!(
        first.keys.len() <= BulkStep::MAX_KEYS && first.next.is_some(),
        "a step must revoke at most {} keys, and name the next step; it revoked {}",
        BulkStep::MAX_KEYS,
        first.keys.len()
    );
    for id in &first.keys {
        let found = store.find(id).await.or_violation("`find` fails")?;
        ensure!(
            found.is_some_and(|record| record.revoked.is_some()),
            "a step must be committed when it returns"
        );
    }
    // As after a call that failed in between: from the start.
    let mut revoked = revoke_owner(&*store, "a", &because("left")).await?;
    ensure!(
        first.keys.iter().all(|id| !revoked.contains(id)),
        "a key that was revoked before must not be returned"
    );
    revoked.extend(first.keys);
    let count = revoked.len();
    ensure!(
        revoked.into_iter().collect::<BTreeSet<_>>() == expected && count as u128 == KEYS,
        "the steps must revoke {KEYS} keys once each; they revoked {count}"
    );
    let removed = purge(&*store, at(3_001)).await?;
    let count = removed.len();
    ensure!(
        removed.into_iter().collect::<BTreeSet<_>>() == expected && count as u128 == KEYS,
        "the steps must remove {KEYS} keys once each; they removed {count}"
    );
    ensure_stored(&*store, &other, "other keys must stay").await?;
    Ok(CheckVerdict::Passed)
}

/// A reader that is behind continues from page to page, and the head tells it how far.
pub(super) async fn a_long_change_log_is_read_page_by_page(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let Some(log) = store.change_log() else {
        return Ok(NO_LOG);
    };
    let changes = async |since: Option<&Cursor>| {
        let changes = log.changes(since, None).await;
        changes.or_violation("`changes` fails")
    };
    let start = changes(None).await?.cursor;
    add_many(&store).await?;
    let newest = changes(None).await?.cursor;
    let mut cursor = start;
    let mut named = HashSet::new();
    while cursor != newest {
        let page = changes(Some(&cursor)).await?;
        let ChangeSet::Entries(items) = page.set else {
            return Err(Violation(format!(
                "a poll of {cursor:?} must return its next changes; got `Resync`"
            )));
        };
        ensure!(
            (1..=ChangeSet::MAX_ENTRIES).contains(&items.len()),
            "a poll must return 1 to {} changes; got {}",
            ChangeSet::MAX_ENTRIES,
            items.len()
        );
        ensure!(
            page.cursor.epoch == cursor.epoch + items.len() as u64,
            "the cursor must be that of the last item; got {:?} for {} items after {cursor:?}",
            page.cursor,
            items.len()
        );
        ensure!(
            page.head == newest.epoch,
            "the head must be {}; got {}",
            newest.epoch,
            page.head
        );
        named.extend(items.into_iter().filter_map(ChangedItem::key));
        cursor = page.cursor;
    }
    ensure!(
        named.len() as u128 == KEYS,
        "the pages must name {KEYS} keys; they name {}",
        named.len()
    );
    Ok(CheckVerdict::Passed)
}
