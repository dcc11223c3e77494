//! Checks of owners: what a change of an owner does and logs.

use std::sync::Arc;

use super::bulk::{purge, revoke_owner};
use super::owners::{
    ensure_not_logged, ensure_reads, leaving, logged, mark_all, owners, revoke_keys, state_of,
    suspend,
};
use super::records::add;
use super::samples::{ODD_TEXTS, at, because, id, owned};
use super::{CheckResult, CheckVerdict, OrViolation, ensure, ensure_not_found};
use crate::audit::ChangeOrigin;
use crate::record::{OwnerState, Revocation};
use crate::store::{ChangedItem, KeyStore, WriteOptions};

pub(super) async fn a_suspension_that_changes_nothing_is_not_logged(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let store = &*store;
    let owners = owners!(store);
    add(store, &owned(1, "a")).await?;
    add(store, &owned(2, "b")).await?;
    let mut expected = OwnerState::new();
    let mut cursor = None;
    for suspended in [false, true, true, false, false, true] {
        let changes = expected.suspended != suspended;
        expected.suspended = suspended;
        expected.version += u64::from(changes);
        logged(store, &mut cursor).await?;
        let answer = suspend(owners, "a", suspended).await?;
        ensure!(
            answer == (expected, changes),
            "`set_owner_suspended` must return {expected:?}, and {changes}; got {answer:?}"
        );
        let (owner, state) = ("a".to_owned(), expected);
        let entry = ChangedItem::Owner { owner, state };
        match logged(store, &mut cursor).await? {
            Some(change) if changes => ensure!(
                change == (vec![entry], 1),
                "a change of `suspended` must be logged once; got {change:?}"
            ),
            Some(change) => ensure!(
                change == (Vec::new(), 0),
                "an unchanged `suspended` must not be logged; got {change:?}"
            ),
            None => {}
        }
        let rule = format!("after `set_owner_suspended` with {suspended}");
        ensure_reads(store, 1, 0, expected, None, &rule).await?;
        ensure_reads(store, 2, 0, OwnerState::new(), None, &rule).await?;
    }
    add(store, &owned(3, "a")).await?;
    let rule = "a new key of a suspended owner";
    ensure_reads(store, 3, 0, expected, None, rule).await?;
    let state = revoke_keys(owners, "a", &leaving(4_000, "left")).await?;
    ensure!(
        state.suspended,
        "a revocation of all keys must not resume the owner"
    );
    Ok(CheckVerdict::Passed)
}

pub(super) async fn a_change_of_an_unknown_owner_is_not_found(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let store = &*store;
    let owners = owners!(store);
    add(store, &owned(1, "a")).await?;
    let mut cursor = None;
    logged(store, &mut cursor).await?;
    let left = leaving(4_000, "left");
    for owner in ["", "A", "a ", id(1).as_str()] {
        let revoke = owners
            .revoke_owner_keys(owner, &left, &ChangeOrigin::new())
            .await;
        ensure_not_found(revoke, "`revoke_owner_keys` of an unknown owner")?;
        for suspended in [true, false] {
            let suspend = owners
                .set_owner_suspended(owner, suspended, &ChangeOrigin::new())
                .await;
            ensure_not_found(suspend, "`set_owner_suspended` of an unknown owner")?;
        }
        let state = state_of(owners, owner).await?;
        ensure!(
            state.is_none(),
            "a call that fails must not create an owner; got {state:?}"
        );
    }
    ensure_not_logged(store, &mut cursor, "a call of an unknown owner").await?;
    ensure_reads(store, 1, 0, OwnerState::new(), None, "another owner's key").await?;
    Ok(CheckVerdict::Passed)
}

pub(super) async fn every_change_of_an_owner_takes_one_epoch_and_carries_the_newest_state(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let store = &*store;
    let owners = owners!(store);
    add(store, &owned(1, "a")).await?;
    add(store, &owned(2, "b")).await?;
    let mut cursor = None;
    logged(store, &mut cursor).await?;
    let since = cursor.clone();
    revoke_keys(owners, "a", &leaving(4_000, "first")).await?;
    let mut state = revoke_keys(owners, "a", &leaving(5_000, "second")).await?;
    for read in 0..2 {
        let Some((items, epochs)) = logged(store, &mut cursor).await? else {
            return Ok(CheckVerdict::Passed);
        };
        let owner = "a".to_owned();
        let expected = ChangedItem::Owner { owner, state };
        ensure!(
            !items.is_empty() && items.iter().all(|item| *item == expected),
            "a change must be logged as the owner, with its newest state {state:?}; got {items:?}"
        );
        ensure!(
            epochs == [2, 3][read],
            "each change must take one epoch; 2 and 1 took {epochs}"
        );
        state = suspend(owners, "a", true).await?.0;
        cursor.clone_from(&since);
    }
    Ok(CheckVerdict::Passed)
}

/// Owners that a store might take for one another, or for something else.
pub(super) async fn owners_are_different_if_a_byte_differs(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let store = &*store;
    let owners = owners!(store);
    let (long, key) = ("o".repeat(255), id(1));
    let longest = ["a", "b", "A", " "].map(|last| format!("{long}{last}"));
    let key = [
        key.as_str().to_owned(),
        key.as_str().to_lowercase() + "_",
        format!("{key}:"),
    ];
    let odd = ODD_TEXTS.map(str::to_owned);
    let like = ["a", "A", "a ", " a", "\u{e9}", "owners", "a:suspended"].map(str::to_owned);
    let names: Vec<String> = [&longest[..], &key, &odd, &like].concat();
    for (number, owner) in (1..).zip(&names) {
        add(store, &owned(number, owner)).await?;
    }
    for owner in names.iter().step_by(2) {
        revoke_keys(owners, owner, &leaving(4_000, owner)).await?;
    }
    for owner in names.iter().skip(1).step_by(2) {
        suspend(owners, owner, true).await?;
    }
    for marked in [false, true] {
        for (number, owner) in (1..).zip(&names) {
            let new = OwnerState::new().with_version(2);
            let (state, revoked) = match number % 2 {
                1 => (
                    new.with_revocations(1),
                    Some(leaving(4_000, owner).of_key()),
                ),
                _ => (new.with_suspended(true), None),
            };
            let rule = format!("the owner {owner:?} is its own (marked: {marked})");
            ensure_reads(store, number, 0, state, revoked, &rule).await?;
            ensure!(state_of(owners, owner).await? == Some(state), "{rule}");
        }
        mark_all(owners).await?;
    }
    Ok(CheckVerdict::Passed)
}

pub(super) async fn a_key_that_its_owner_revoked_is_not_revoked_again(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let store = &*store;
    let owners = owners!(store);
    add(store, &owned(1, "a")).await?;
    let left = leaving(4_000, "left");
    let state = revoke_keys(owners, "a", &left).await?;
    let mut cursor = None;
    logged(store, &mut cursor).await?;
    for marked in [false, true] {
        let again = store
            .revoke(&id(1), &because("again"), &WriteOptions::new())
            .await;
        ensure!(
            !again.or_violation("`revoke` fails")?,
            "`revoke` of a key that its owner revoked must return `false` (marked: {marked})"
        );
        let keys = revoke_owner(store, "a", &because("again")).await?;
        ensure!(
            keys.is_empty(),
            "`revoke_owner` must not find a key that its owner revoked; got {keys:?}"
        );
        ensure_not_logged(store, &mut cursor, "a revocation that changes nothing").await?;
        let rule = "the first time and reason must stay";
        ensure_reads(store, 1, 0, state, Some(left.of_key()), rule).await?;
        mark_all(owners).await?;
    }
    Ok(CheckVerdict::Passed)
}

pub(super) async fn purge_removes_keys_that_their_owner_revoked_before(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let store = &*store;
    let owners = owners!(store);
    for marked in [false, true] {
        add(store, &owned(1, "a")).await?;
        let state = revoke_keys(owners, "a", &leaving(4_000, "left")).await?;
        add(store, &owned(2, "a")).await?;
        if marked {
            mark_all(owners).await?;
        }
        let none = purge(store, at(4_000)).await?;
        ensure!(
            none.is_empty(),
            "a key that was revoked at that time must stay (marked: {marked}); removed {none:?}"
        );
        let gone = purge(store, at(4_001)).await?;
        ensure!(
            gone == [id(1)],
            "a key that its owner revoked before must be removed (marked: {marked}); removed {gone:?}"
        );
        add(store, &owned(1, "a")).await?;
        let revocations = state.revocations;
        let rule = "a new key with a purged id";
        ensure_reads(store, 1, revocations, state, None, rule).await?;
        for number in [1, 2] {
            let lost = Revocation {
                at: at(1),
                reason: None,
            };
            let lost = store.revoke(&id(number), &lost, &WriteOptions::new()).await;
            ensure!(
                lost.or_violation("`revoke` fails")?,
                "a key that is not revoked must be revocable"
            );
        }
        purge(store, at(2)).await?;
    }
    Ok(CheckVerdict::Passed)
}
