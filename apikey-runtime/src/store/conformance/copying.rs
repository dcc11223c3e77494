//! Checks of copying.

use std::sync::Arc;

use super::copied::{Everything, content, copy, fill};
use super::samples::{at, because, id, owned, plain};
use super::{CheckResult, CheckVerdict, NO_LOG, OrViolation, Violation, ensure};
use crate::error::StoreError;
use crate::record::{KeyPatch, KeyRecord};
use crate::store::{
    ChangeSet, CopyItems, CopyOutcome, CopySection, Cursor, KeyStore, ListedOwner, OwnerState,
    StoreCopy, WriteOptions,
};

/// Returns what copies the content of the store, or skips the check if the store cannot be copied.
macro_rules! copying {
    ($store:expr) => {
        match $store.copying() {
            Some(copying) => copying,
            None => {
                return Ok(CheckVerdict::Skipped(
                    "the store cannot be copied: `copying` returns `None`",
                ))
            }
        }
    };
}
pub(super) use copying;

pub(super) async fn a_copy_has_everything(
    store: Arc<dyn KeyStore>,
    other: Arc<dyn KeyStore>,
) -> CheckResult {
    let (source, target) = (copying!(store), copying!(other));
    fill(&*store).await?;
    let expected = content(source, 1_000).await?;
    for (section, items) in &expected.sections {
        ensure!(
            items.len() > 3 || !Everything::keeps(&*store, *section),
            "a page of {section} must have what the store keeps; found {items:?}"
        );
    }
    let outcome = copy(source, target, 1_000).await?;
    ensure!(
        outcome.unchanged == 0 && outcome.kept.is_empty(),
        "a copy to an empty store must write each item; got {outcome:?}"
    );
    let copied = content(target, 1_000).await?;
    copied.ensure_equals(&expected, "a copy must have each item as it was")?;
    Everything::ensure_reads(&*store, &*other).await?;
    Ok(CheckVerdict::Passed)
}

pub(super) async fn pages_of_a_copy_are_complete(
    store: Arc<dyn KeyStore>,
    other: Arc<dyn KeyStore>,
) -> CheckResult {
    let (source, target) = (copying!(store), copying!(other));
    fill(&*store).await?;
    let expected = content(source, 1_000).await?;
    for limit in [0, 1, 2, 5] {
        let paged = content(source, limit).await?;
        paged.ensure_equals(
            &expected,
            &format!("pages with a limit of {limit} must have each item once, in the same order"),
        )?;
    }
    copy(source, target, 2).await?;
    let copied = content(target, 3).await?;
    copied.ensure_equals(&expected, "a copy in pages must have each item as it was")?;
    Ok(CheckVerdict::Passed)
}

pub(super) async fn a_repeated_copy_changes_nothing(
    store: Arc<dyn KeyStore>,
    other: Arc<dyn KeyStore>,
) -> CheckResult {
    let (source, target) = (copying!(store), copying!(other));
    fill(&*store).await?;
    // A copy that was ended early: one page of each section.
    for section in CopySection::ALL {
        let page = source.read_copy(section, None, 2).await;
        let page = page.or_violation("`read_copy` fails")?;
        write(target, &page.items).await?;
        let again = write(target, &page.items).await?;
        ensure!(
            again.written == 0 && again.unchanged == page.items.len() as u64,
            "a page of {section} that is written again must not change anything; got {again:?}"
        );
    }
    copy(source, target, 1_000).await?;
    let expected = content(source, 1_000).await?;
    let mut cursor = None;
    poll(&*other, &mut cursor).await?;
    for (one, from, to) in [("again", source, target), ("back", target, source)] {
        let outcome = copy(from, to, 3).await?;
        ensure!(
            outcome.written == 0 && outcome.kept.is_empty(),
            "a copy that is made {one} must not change anything; got {outcome:?}"
        );
    }
    let copied = content(target, 1_000).await?;
    copied.ensure_equals(&expected, "a copy that was ended early must be completed")?;
    ensure!(
        poll(&*other, &mut cursor).await? == Some(ChangeSet::Entries(Vec::new())),
        "a copy that changes nothing must not be in the change log"
    );
    Ok(CheckVerdict::Passed)
}

pub(super) async fn what_was_changed_since_a_copy_stays(
    store: Arc<dyn KeyStore>,
    other: Arc<dyn KeyStore>,
) -> CheckResult {
    let (source, target) = (copying!(store), copying!(other));
    let (store, other) = (&*store, &*other);
    let options = WriteOptions::new();
    for number in 1..=4 {
        let inserted = store.insert(&plain(number), &options).await;
        inserted.or_violation("`insert` fails")?;
    }
    copy(source, target, 1_000).await?;
    let labelled = |label: &str| KeyPatch {
        label: Some(label.to_owned()),
        ..KeyPatch::new()
    };
    let update = async |store: &dyn KeyStore, number, label| {
        let updated = store.update(&id(number), &labelled(label), &options).await;
        updated.or_violation("`update` fails")
    };
    // A later change of the target, a revocation there, and one that is older than a change of the source.
    update(other, 1, "target").await?;
    other
        .revoke(&id(2), &because("leaked"), &options)
        .await
        .or_violation("`revoke` fails")?;
    other
        .revoke(&id(3), &because("leaked"), &options)
        .await
        .or_violation("`revoke` fails")?;
    update(store, 3, "source").await?;
    update(store, 3, "source").await?;
    update(store, 4, "source").await?;
    let outcome = write(target, &keys(source).await?).await?;
    let mut kept = outcome.kept.clone();
    kept.sort_unstable();
    let expected = [1, 2, 3].map(|number| id(number).to_string());
    ensure!(
        outcome.written == 1 && kept == expected,
        "a copy must keep records that were changed since, and revocations; got {outcome:?}"
    );
    for (number, label, is_revoked) in [
        (1, "target", false),
        (2, "label 2", true),
        (3, "label 3", true),
        (4, "source", false),
    ] {
        let found = other.find(&id(number)).await.or_violation("`find` fails")?;
        let found = found.or_violation("`find` must return a copied record")?;
        ensure!(
            found.label == label && found.revoked.is_some() == is_revoked,
            "record {number} must have the label `{label}`; found {found:?}"
        );
    }
    Ok(CheckVerdict::Passed)
}

pub(super) async fn a_state_of_an_owner_that_was_changed_since_a_copy_stays(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let target = copying!(store);
    let Some(owners) = store.owners() else {
        return Ok(CheckVerdict::Skipped(
            "the store does not keep owners: `owners` returns `None`",
        ));
    };
    let write_state = async |state| {
        let items = CopyItems::Owners(vec![ListedOwner::new("a", state)]);
        write(target, &items).await
    };
    let present = OwnerState::new().with_version(5_000);
    let present = present.with_revocations(3_000).with_suspended(true);
    let outcome = write_state(present).await?;
    ensure!(
        outcome.written == 1,
        "a copy must write the state of an owner, however high its numbers are; got {outcome:?}"
    );
    for former in [
        present.with_version(4_999),
        present.with_suspended(false),
        present.with_version(9_000).with_revocations(2_999),
    ] {
        let outcome = write_state(former).await?;
        let found = owners
            .find_owner("a")
            .await
            .or_violation("`find_owner` fails")?;
        ensure!(
            outcome.kept.len() == 1 && found == Some(present),
            "a copy must not put {former:?} in the place of {present:?}; got {outcome:?}, found {found:?}"
        );
    }
    let later = present.with_version(9_000).with_revocations(8_000);
    write_state(later.with_suspended(false)).await?;
    let found = owners
        .find_owner("a")
        .await
        .or_violation("`find_owner` fails")?;
    ensure!(
        found == Some(later.with_suspended(false)),
        "a copy must write a later state of an owner; found {found:?}"
    );
    Ok(CheckVerdict::Passed)
}

pub(super) async fn a_copy_is_a_resync(store: Arc<dyn KeyStore>) -> CheckResult {
    let target = copying!(store);
    let mut cursor = None;
    if poll(&*store, &mut cursor).await?.is_none() {
        return Ok(NO_LOG);
    }
    let suspended = OwnerState::new().with_suspended(true);
    let owner = CopyItems::Owners(vec![ListedOwner::new("a", suspended)]);
    if store.owners().is_some() {
        write(target, &owner).await?;
        ensure_resync(&*store, &mut cursor, "an owner").await?;
    }
    let mut record = copied();
    write(target, &CopyItems::Keys(vec![record.clone(), plain(2)])).await?;
    ensure_resync(&*store, &mut cursor, "records").await?;
    record.version += 1;
    write(target, &CopyItems::Keys(vec![record])).await?;
    ensure_resync(&*store, &mut cursor, "a changed record").await?;
    // The next change is logged by itself.
    update(&*store, 2).await?;
    let set = poll(&*store, &mut cursor).await?;
    ensure!(
        set == Some(ChangeSet::of_keys([id(2)])),
        "a change after a copy must be logged by itself; got {set:?}"
    );
    Ok(CheckVerdict::Passed)
}

pub(super) async fn a_copy_is_not_audited(store: Arc<dyn KeyStore>) -> CheckResult {
    let target = copying!(store);
    let entries = async || {
        let page = target.read_copy(CopySection::Audit, None, 1_000).await;
        Ok::<_, Violation>(page.or_violation("`read_copy` fails")?.items)
    };
    let state = OwnerState::new().with_suspended(true);
    let state = state.with_version(3).with_revocations(1);
    if store.owners().is_some() {
        write(
            target,
            &CopyItems::Owners(vec![ListedOwner::new("a", state)]),
        )
        .await?;
    }
    let mut record = copied();
    write(target, &CopyItems::Keys(vec![record.clone(), plain(2)])).await?;
    // All that may change of a present record.
    record.version += 2;
    record.owner = Some("b".to_owned());
    record.owner_revocations = 2;
    record.digest = "sha256$22".to_owned();
    record.expires = Some(at(5));
    record.revoked = Some(because("lost"));
    write(target, &CopyItems::Keys(vec![record.clone()])).await?;
    let CopyItems::Keys(found) = keys(target).await? else {
        return Err(Violation("a page of keys must have keys".to_owned()));
    };
    ensure!(
        found.first() == Some(&record),
        "a copied record must be as it was; found {found:?} in place of {record:?}"
    );
    let found = entries().await?;
    ensure!(
        found.is_empty(),
        "a copy must not write entries of the audit log; found {found:?}"
    );
    update(&*store, 2).await?;
    let found = entries().await?;
    ensure!(
        store.audit().is_none() || found.len() == 1,
        "a change after a copy must be audited; found {found:?}"
    );
    Ok(CheckVerdict::Passed)
}

/// Returns a record with values that an insert or an update would not keep.
fn copied() -> KeyRecord {
    let mut record = owned(1, "a");
    (record.version, record.rotations) = (7, 3);
    (record.created_by, record.updated_by) = (Some("ann".to_owned()), Some("ben".to_owned()));
    record
}

async fn ensure_resync(
    store: &dyn KeyStore,
    cursor: &mut Option<Cursor>,
    copied: &str,
) -> Result<(), Violation> {
    let set = poll(store, cursor).await?;
    ensure!(
        set == Some(ChangeSet::Resync),
        "after a copy of {copied}, a poll must be a resync; got {set:?}"
    );
    Ok(())
}

async fn update(store: &dyn KeyStore, number: u128) -> Result<(), Violation> {
    let options = WriteOptions::new();
    let updated = store.update(&id(number), &KeyPatch::new(), &options).await;
    updated.or_violation("`update` fails")
}

pub(super) async fn a_copy_refuses_other_positions_and_too_many_items(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let copying = copying!(store);
    for section in CopySection::ALL {
        for after in ["", "-", "{}", "[[]]"] {
            let page = copying.read_copy(section, Some(after), 1).await;
            ensure!(
                matches!(page, Err(StoreError::InvalidArgument(_))),
                "a page of {section} after `{after}` must return `InvalidArgument`; got {page:?}"
            );
        }
    }
    let records = CopyItems::Keys((0..1_001).map(plain).collect());
    let written = copying.write_copy(&records).await;
    ensure!(
        matches!(written, Err(StoreError::InvalidArgument(_))),
        "1001 items at once must return `InvalidArgument`; got {written:?}"
    );
    let found = keys(copying).await?;
    ensure!(
        found.is_empty(),
        "a refused page must not be written; found {found:?}"
    );
    Ok(CheckVerdict::Passed)
}

pub(super) async fn write(
    target: &dyn StoreCopy,
    items: &CopyItems,
) -> Result<CopyOutcome, Violation> {
    let written = target.write_copy(items).await;
    written.or_violation("`write_copy` fails")
}

async fn keys(source: &dyn StoreCopy) -> Result<CopyItems, Violation> {
    let page = source.read_copy(CopySection::Keys, None, 1_000).await;
    Ok(page.or_violation("`read_copy` fails")?.items)
}

/// Returns what changed since the last poll; `None` without a change log.
pub(super) async fn poll(
    store: &dyn KeyStore,
    cursor: &mut Option<Cursor>,
) -> Result<Option<ChangeSet>, Violation> {
    let Some(log) = store.change_log() else {
        return Ok(None);
    };
    let changes = log.changes(cursor.as_ref(), None).await;
    let changes = changes.or_violation("`changes` fails")?;
    *cursor = Some(changes.cursor);
    Ok(Some(changes.set))
}
