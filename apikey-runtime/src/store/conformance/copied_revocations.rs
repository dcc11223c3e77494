//! Checks of copying revocations to what was changed in the target.

use std::sync::Arc;

use super::copied::{content, copy};
use super::copying::{copying, poll, write};
use super::samples::{at, because, id, named, owned, plain};
use super::{CheckResult, CheckVerdict, OrViolation, Violation, ensure};
use crate::record::{KeyPatch, KeyRecord, OwnerRevocation, OwnerState};
use crate::store::{
    ChangeSet, CopyItems, CopyOutcome, CopySection, KeyStore, StoreCopy, WriteOptions,
};

/// Both were changed as often, or the target was changed more often, or both were revoked.
const CHANGES: [(u128, usize); 2] = [(1, 1), (2, 3)];
const REVOKED_IN_BOTH: u128 = 3;
const OWNED: u128 = 4;
const OWNED_BY_TARGET: u128 = 5;

pub(super) async fn a_copy_revokes_what_was_changed_since(
    store: Arc<dyn KeyStore>,
    other: Arc<dyn KeyStore>,
) -> CheckResult {
    let (source, target) = (copying!(store), copying!(other));
    let (store, other) = (&*store, &*other);
    change_both(store, other, source, target).await?;
    let mut cursor = None;
    poll(other, &mut cursor).await?;

    let [owners, keys] = copy_states(source, target).await?;
    let expected = CHANGES.map(|(number, _)| id(number).to_string());
    let has_owners = store.owners().is_some();
    ensure!(
        keys.revoked == expected && owners.revoked.len() == usize::from(has_owners),
        "a copy must revoke keys and owners that were changed since, if the source revoked them; got {keys:?} and {owners:?}"
    );
    for (number, _) in CHANGES {
        ensure_revoked(&find(store, number).await?, &find(other, number).await?)?;
    }
    if has_owners {
        ensure_owner(store, other).await?;
    }
    let set = poll(other, &mut cursor).await?;
    ensure!(
        set.is_none() || set == Some(ChangeSet::Resync),
        "after a copy that revokes, a poll must be a resync; got {set:?}"
    );

    for outcome in copy_states(source, target).await? {
        ensure!(
            outcome.written == 0 && outcome.revoked.is_empty(),
            "a copy that is made again must not change anything; got {outcome:?}"
        );
    }
    let set = poll(other, &mut cursor).await?;
    ensure!(
        set.is_none() || set == Some(ChangeSet::Entries(Vec::new())),
        "a copy that changes nothing must not be in the change log; got {set:?}"
    );

    // The versions in the target are later, so the source takes what is there.
    let [owners, keys] = copy_states(target, source).await?;
    ensure!(
        owners.written == u64::from(has_owners) && keys.written >= expected.len() as u64,
        "what a copy revoked must have later versions than in both stores; got {keys:?} and {owners:?}"
    );
    Ok(CheckVerdict::Passed)
}

/// The owner is copied before its keys, so its state revokes them before their records are copied.
pub(super) async fn a_copy_has_the_later_revocations_of_an_owner(
    store: Arc<dyn KeyStore>,
    other: Arc<dyn KeyStore>,
) -> CheckResult {
    let (source, target) = (copying!(store), copying!(other));
    let (Some(owners), Some(_)) = (store.owners(), other.owners()) else {
        return Ok(CheckVerdict::Skipped(
            "the store does not keep owners: `owners` returns `None`",
        ));
    };
    let insert = async |number, owner| {
        let (record, options) = (owned(number, owner), WriteOptions::new());
        let inserted = store.insert(&record, &options).await;
        inserted.or_violation("`insert` fails")
    };
    let revoke = async |owner| {
        let revocation = OwnerRevocation::new(at(4_000)).with_reason(Some("left".to_owned()));
        let origin = named("ann");
        let revoked = owners.revoke_owner_keys(owner, &revocation, &origin).await;
        revoked.or_violation("`revoke_owner_keys` fails")
    };
    // The keys are in the target before they are revoked, or after it.
    insert(1, "a").await?;
    insert(2, "a").await?;
    insert(3, "b").await?;
    revoke("b").await?;
    copy(source, target, 1_000).await?;
    revoke("a").await?;
    for is_marked in [false, true] {
        while is_marked
            && owners
                .mark_revoked_keys()
                .await
                .or_violation("`mark_revoked_keys` fails")?
        {}
        let outcome = copy(source, target, 1_000).await?;
        ensure!(
            outcome.kept.is_empty() && outcome.revoked.is_empty(),
            "a copy must have later revocations of an owner; got {outcome:?}"
        );
        let expected = content(source, 1_000).await?;
        let copied = content(target, 1_000).await?;
        copied.ensure_equals(&expected, "a copy must have later revocations of an owner")?;
        let again = copy(source, target, 1_000).await?;
        ensure!(
            again.written == 0 && again.kept.is_empty(),
            "a copy that is made again must not change anything; got {again:?}"
        );
    }
    Ok(CheckVerdict::Passed)
}

/// Copies records, changes them in the target, and revokes them in the source.
async fn change_both(
    store: &dyn KeyStore,
    other: &dyn KeyStore,
    source: &dyn StoreCopy,
    target: &dyn StoreCopy,
) -> Result<(), Violation> {
    let options = WriteOptions::new();
    let insert = async |store: &dyn KeyStore, record: KeyRecord| {
        let inserted = store.insert(&record, &options).await;
        inserted.or_violation("`insert` fails")
    };
    let revoke = async |store: &dyn KeyStore, number, reason| {
        let revoked = store.revoke(&id(number), &because(reason), &options).await;
        revoked.or_violation("`revoke` fails")
    };
    for number in [1, 2, REVOKED_IN_BOTH] {
        insert(store, plain(number)).await?;
    }
    insert(store, owned(OWNED, "a")).await?;
    copy(source, target, 1_000).await?;

    for (number, times) in CHANGES {
        let patch = KeyPatch {
            label: Some("target".to_owned()),
            ..KeyPatch::new()
        };
        for _ in 0..times {
            let updated = other.update(&id(number), &patch, &options).await;
            updated.or_violation("`update` fails")?;
        }
        revoke(store, number, "lost").await?;
    }
    revoke(store, REVOKED_IN_BOTH, "lost").await?;
    revoke(other, REVOKED_IN_BOTH, "leaked").await?;

    if let (Some(owners), Some(others)) = (store.owners(), other.owners()) {
        let (revocation, origin) = (OwnerRevocation::new(at(4_000)), named("ann"));
        let revoked = owners.revoke_owner_keys("a", &revocation, &origin);
        revoked.await.or_violation("`revoke_owner_keys` fails")?;
        let suspended = others.set_owner_suspended("a", true, &named("ben")).await;
        suspended.or_violation("`set_owner_suspended` fails")?;
        insert(other, owned(OWNED_BY_TARGET, "a")).await?;
    }
    Ok(())
}

/// Copies owners and keys.
async fn copy_states(
    source: &dyn StoreCopy,
    target: &dyn StoreCopy,
) -> Result<[CopyOutcome; 2], Violation> {
    let page = async |section| {
        let page = source.read_copy(section, None, 1_000).await;
        Ok::<CopyItems, Violation>(page.or_violation("`read_copy` fails")?.items)
    };
    let owners = write(target, &page(CopySection::Owners).await?).await?;
    let keys = write(target, &page(CopySection::Keys).await?).await?;
    Ok([owners, keys])
}

async fn find(store: &dyn KeyStore, number: u128) -> Result<KeyRecord, Violation> {
    let found = store.find(&id(number)).await.or_violation("`find` fails")?;
    found.or_violation("`find` must return a copied record")
}

fn ensure_revoked(from: &KeyRecord, to: &KeyRecord) -> Result<(), Violation> {
    ensure!(
        to.revoked == from.revoked && to.revoked.is_some(),
        "a copy must revoke a record as the source did; found {to:?} beside {from:?}"
    );
    ensure!(
        to.label == "target" && to.version > from.version,
        "a record that a copy revokes must stay as it is otherwise, with a later version; found {to:?} beside {from:?}"
    );
    Ok(())
}

async fn ensure_owner(store: &dyn KeyStore, other: &dyn KeyStore) -> Result<(), Violation> {
    let state = async |store: &dyn KeyStore| {
        let owners = store.owners().or_violation("the store must keep owners")?;
        let state = owners.find_owner("a").await;
        let state = state.or_violation("`find_owner` fails")?;
        Ok::<OwnerState, Violation>(state.unwrap_or_default())
    };
    let (from, to) = (state(store).await?, state(other).await?);
    ensure!(
        to.revocations == from.revocations && to.suspended && to.version > from.version,
        "a copy must revoke the keys of an owner as the source did, and leave the owner suspended; found {to:?} beside {from:?}"
    );
    for number in [OWNED, OWNED_BY_TARGET] {
        let found = find(other, number).await?;
        let state = found.owner_state.unwrap_or_default();
        ensure!(
            found.revoked.is_some() || state.revokes(found.owner_revocations),
            "a key of an owner whose keys were revoked must be revoked; found {found:?}"
        );
    }
    Ok(())
}
