//! Checks of owners: their rows, revocations and marking.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::bulk::{KEYS, add_many, purge};
use super::records::{add, all};
use super::samples::{at, because, id, owned, plain};
use super::{CheckResult, CheckVerdict, OrViolation, Violation, ensure, ensure_conflict};
use crate::audit::ChangeOrigin;
use crate::record::{KeyPatch, KeyRecord, OwnerRevocation, OwnerState, Revocation};
use crate::store::{
    ChangeSet, ChangedItem, Cursor, KeyStore, ListQuery, ListRange, OwnerStore, WriteOptions,
};

/// More steps than the marking of a check's keys can need.
const MAX_STEPS: usize = 10_000;

pub(super) const NO_OWNERS: CheckVerdict =
    CheckVerdict::Skipped("the store does not keep owners: `owners` returns `None`");

/// Returns the store of owners, or skips the check if the store does not have it.
macro_rules! owners {
    ($store:expr) => {
        match $store.owners() {
            Some(owners) => owners,
            None => return Ok($crate::store::conformance::owners::NO_OWNERS),
        }
    };
}
pub(super) use owners;

/// Returns a revocation of all keys of an owner.
pub(super) fn leaving(millis: i64, reason: &str) -> OwnerRevocation {
    OwnerRevocation::new(at(millis))
        .with_reason(Some(reason.to_owned()))
        .with_actor(Some("ann".to_owned()))
}

/// Revokes all keys of an owner that has had a key.
pub(super) async fn revoke_keys(
    owners: &dyn OwnerStore,
    owner: &str,
    revocation: &OwnerRevocation,
) -> Result<OwnerState, Violation> {
    let state = owners
        .revoke_owner_keys(owner, revocation, &ChangeOrigin::new())
        .await;
    state.or_violation("`revoke_owner_keys` of an owner that has had a key fails")
}

pub(super) async fn suspend(
    owners: &dyn OwnerStore,
    owner: &str,
    suspended: bool,
) -> Result<(OwnerState, bool), Violation> {
    let answer = owners
        .set_owner_suspended(owner, suspended, &ChangeOrigin::new())
        .await;
    answer.or_violation("`set_owner_suspended` of an owner that has had a key fails")
}

pub(super) async fn state_of(
    owners: &dyn OwnerStore,
    owner: &str,
) -> Result<Option<OwnerState>, Violation> {
    let state = owners.find_owner(owner).await;
    state.or_violation("`find_owner` fails")
}

/// Marks until nothing is left.
pub(super) async fn mark_all(owners: &dyn OwnerStore) -> Result<(), Violation> {
    for _ in 0..MAX_STEPS {
        let more = owners.mark_revoked_keys().await;
        if !more.or_violation("`mark_revoked_keys` fails")? {
            return Ok(());
        }
    }
    Err(Violation("`mark_revoked_keys` does not end".to_owned()))
}

/// Reads a key with `find` and with `list`, which must agree.
pub(super) async fn read(store: &dyn KeyStore, number: u128) -> Result<KeyRecord, Violation> {
    let found = store.find(&id(number)).await.or_violation("`find` fails")?;
    let found = found.or_violation("a record is missing")?;
    let query = ListQuery::of(ListRange::Id(id(number).to_string()), 1);
    let page = store.list(&query).await.or_violation("`list` fails")?;
    ensure!(
        page.records == [found.clone()],
        "`list` must return a record as `find` does, with its owner's state; got {:?}, found {found:?}",
        page.records
    );
    Ok(found)
}

/// Checks what a read says of the key `number`: its own number of revocations, its owner's state, and
/// whether it is revoked.
pub(super) async fn ensure_reads(
    store: &dyn KeyStore,
    number: u128,
    revocations: u64,
    state: OwnerState,
    revoked: Option<Revocation>,
    rule: &str,
) -> Result<(), Violation> {
    let found = read(store, number).await?;
    ensure!(
        found.owner_revocations == revocations,
        "{rule}: `owner_revocations` must be {revocations}; found {found:?}"
    );
    ensure!(
        found.owner_state == Some(state),
        "{rule}: `owner_state` must be {state:?}; found {found:?}"
    );
    ensure!(
        found.revoked == revoked,
        "{rule}: `revoked` must be {revoked:?}; found {found:?}"
    );
    Ok(())
}

/// Returns what is logged after `since`, if the store keeps a change log, and the new cursor.
pub(super) async fn logged(
    store: &dyn KeyStore,
    since: &mut Option<Cursor>,
) -> Result<Option<(Vec<ChangedItem>, u64)>, Violation> {
    let Some(log) = store.change_log() else {
        return Ok(None);
    };
    let changes = log.changes(since.as_ref(), None).await;
    let changes = changes.or_violation("`changes` fails")?;
    let before = since.replace(changes.cursor.clone());
    match (before, changes.set) {
        (None, _) => Ok(None),
        (Some(before), ChangeSet::Entries(items)) => {
            Ok(Some((items, changes.cursor.epoch - before.epoch)))
        }
        (Some(before), ChangeSet::Resync) => Err(Violation(format!(
            "the store must know {before:?}, which it just returned"
        ))),
    }
}

/// Checks that nothing was logged after `since`.
pub(super) async fn ensure_not_logged(
    store: &dyn KeyStore,
    since: &mut Option<Cursor>,
    what: &str,
) -> Result<(), Violation> {
    match logged(store, since).await? {
        Some((items, epochs)) if epochs > 0 || !items.is_empty() => Err(Violation(format!(
            "{what} must not be logged; got {items:?} in {epochs} epochs"
        ))),
        _ => Ok(()),
    }
}

pub(super) async fn an_owner_begins_with_its_first_key(store: Arc<dyn KeyStore>) -> CheckResult {
    let store = &*store;
    let owners = owners!(store);
    let none = state_of(owners, "a").await?;
    ensure!(
        none.is_none(),
        "an owner without keys is unknown; got {none:?}"
    );
    let mut first = owned(1, "a");
    first.expires = Some(at(10));
    first.owner_revocations = 7;
    first.owner_state = Some(OwnerState::new().with_suspended(true));
    let mut cursor = None;
    logged(store, &mut cursor).await?;
    add(store, &first).await?;
    if let Some(change) = logged(store, &mut cursor).await? {
        ensure!(
            change == (vec![ChangedItem::Key(id(1))], 1),
            "an owner's first key must be logged as the key alone; got {change:?}"
        );
    }
    let new = OwnerState::new();
    let rule = "the store must set what a new record has of its owner";
    ensure_reads(store, 1, 0, new, None, rule).await?;
    let state = state_of(owners, "a").await?;
    ensure!(
        state == Some(new),
        "an owner must begin as {new:?}; got {state:?}"
    );
    add(store, &plain(2)).await?;
    let alone = read(store, 2).await?;
    ensure!(
        alone == plain(2),
        "a record without an owner must not have an owner's state; found {alone:?}"
    );
    // Neither of these gets a key.
    ensure_conflict(
        store.insert(&owned(2, "c"), &WriteOptions::new()).await,
        "an insert of a used id",
    )?;
    let patch = to_owner(Some("d"));
    let other = WriteOptions::new().with_expected_version(Some(7));
    ensure_conflict(
        store.update(&id(2), &patch, &other).await,
        "an update of version 1",
    )?;
    for owner in ["c", "d"] {
        let state = state_of(owners, owner).await?;
        ensure!(
            state.is_none(),
            "a change that failed must not create an owner; got {state:?}"
        );
    }
    give(store, 2, Some("b")).await?;
    let rule = "an owner may begin with a change of owner";
    ensure_reads(store, 2, 0, new, None, rule).await?;
    let gone = purge(store, at(11)).await?;
    ensure!(gone == [id(1)], "an expired key must be removed");
    let state = state_of(owners, "a").await?;
    ensure!(
        state == Some(new),
        "an owner must outlive its keys; got {state:?}"
    );
    Ok(CheckVerdict::Passed)
}

/// Returns a patch that changes the owner.
pub(super) fn to_owner(owner: Option<&str>) -> KeyPatch {
    KeyPatch {
        owner: Some(owner.map(str::to_owned)),
        ..KeyPatch::new()
    }
}

/// Changes the owner of a key.
pub(super) async fn give(
    store: &dyn KeyStore,
    number: u128,
    owner: Option<&str>,
) -> Result<(), Violation> {
    let update = store
        .update(&id(number), &to_owner(owner), &WriteOptions::new())
        .await;
    update.or_violation("a change of owner fails")
}

pub(super) async fn revoking_an_owner_revokes_all_earlier_keys_at_once(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let store = &*store;
    let owners = owners!(store);
    for (number, owner) in (1..).zip(["a", "a", "a", "b"]) {
        add(store, &owned(number, owner)).await?;
    }
    let lost = store
        .revoke(&id(3), &because("lost"), &WriteOptions::new())
        .await;
    lost.or_violation("`revoke` fails")?;
    let left = leaving(4_000, "left; it's \"100%\"");
    let state = revoke_keys(owners, "a", &left).await?;
    let expected = OwnerState::new().with_version(2).with_revocations(1);
    ensure!(
        state == expected && state_of(owners, "a").await? == Some(expected),
        "a first revocation must return and keep {expected:?}; got {state:?}"
    );
    add(store, &owned(6, "a")).await?;
    for marked in [false, true] {
        let rule = format!("after a revocation of all keys (marked: {marked})");
        for number in [1, 2] {
            ensure_reads(store, number, 0, expected, Some(left.of_key()), &rule).await?;
            let version = read(store, number).await?.version;
            ensure!(version == 1, "{rule}: a key's version must stay");
        }
        let lost = Some(because("lost"));
        ensure_reads(store, 3, 0, expected, lost, &rule).await?;
        ensure_reads(store, 4, 0, OwnerState::new(), None, &rule).await?;
        ensure_reads(store, 6, 1, expected, None, &rule).await?;
        mark_all(owners).await?;
    }
    Ok(CheckVerdict::Passed)
}

pub(super) async fn two_revocations_of_an_owner_keep_both_times_and_reasons(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let store = &*store;
    let owners = owners!(store);
    let first = leaving(4_000, "first");
    // Earlier than the first, as a clock that was set back says.
    let second = OwnerRevocation::new(at(2_000));
    for (case, marks) in (1..).zip([[false; 2], [true, false], [false, true], [true; 2]]) {
        let owner = format!("owner {case}");
        let number = case * 10;
        add(store, &owned(number, &owner)).await?;
        revoke_keys(owners, &owner, &first).await?;
        if marks[0] {
            mark_all(owners).await?;
        }
        add(store, &owned(number + 1, &owner)).await?;
        let state = revoke_keys(owners, &owner, &second).await?;
        ensure!(
            (state.version, state.revocations) == (3, 2),
            "a second revocation must be counted; got {state:?}"
        );
        if marks[1] {
            mark_all(owners).await?;
        }
        add(store, &owned(number + 2, &owner)).await?;
        let rule = format!("after two revocations (marked after each: {marks:?})");
        ensure_reads(store, number, 0, state, Some(first.of_key()), &rule).await?;
        ensure_reads(store, number + 1, 1, state, Some(second.of_key()), &rule).await?;
        ensure_reads(store, number + 2, 2, state, None, &rule).await?;
    }
    Ok(CheckVerdict::Passed)
}

/// Reads every record, in pages.
async fn read_all(store: &dyn KeyStore) -> Result<Vec<KeyRecord>, Violation> {
    let (mut records, mut query) = (Vec::new(), ListQuery::first(1_000));
    for _ in 0..MAX_STEPS {
        let page = store.list(&query).await.or_violation("`list` fails")?;
        records.extend(page.records);
        if page.next.is_none() {
            return Ok(records);
        }
        query.after = page.next;
    }
    Err(Violation("the pages of a list must end".to_owned()))
}

pub(super) async fn marking_changes_nothing_that_is_read(store: Arc<dyn KeyStore>) -> CheckResult {
    let owners = owners!(store);
    add_many(&store).await?;
    let state = revoke_keys(owners, "a", &leaving(4_000, "left")).await?;
    let before = read_all(&*store).await?;
    let mut cursor = None;
    logged(&*store, &mut cursor).await?;
    let revoked = before.iter().filter(|record| record.revoked.is_some());
    ensure!(
        revoked.count() as u128 == KEYS,
        "each of the {KEYS} keys must read as revoked at once"
    );
    owners
        .mark_revoked_keys()
        .await
        .or_violation("`mark_revoked_keys` fails")?;
    ensure!(
        read_all(&*store).await? == before,
        "a first step of marking must not change what a read returns"
    );
    // Two nodes mark at once, and each does so once more after the end.
    let mut nodes = JoinSet::new();
    for _ in 0..2 {
        let store = Arc::clone(&store);
        nodes.spawn(async move {
            let owners = store.owners().or_violation("`owners` must not change")?;
            mark_all(owners).await?;
            mark_all(owners).await
        });
    }
    all(nodes).await?;
    ensure!(
        read_all(&*store).await? == before && state_of(owners, "a").await? == Some(state),
        "marking must not change what a read returns"
    );
    ensure_not_logged(&*store, &mut cursor, "marking").await?;
    Ok(CheckVerdict::Passed)
}
