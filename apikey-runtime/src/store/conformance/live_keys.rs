//! Checks of the maximum of live keys: what counts, and which writes it bounds.

use std::sync::Arc;

use super::fields::labelled;
use super::owners::{
    ensure_not_logged, give, leaving, logged, mark_all, owners, revoke_keys, suspend, to_owner,
};
use super::records::{add, ensure_stored};
use super::samples::{at, because, full, id, owned, plain};
use super::{
    CheckResult, CheckVerdict, OrViolation, Violation, ensure, ensure_conflict, ensure_not_found,
    ensure_too_many,
};
use crate::error::StoreError;
use crate::record::{KeyPatch, KeyRecord, OwnerState};
use crate::store::{KeyStore, OwnerStore, WriteOptions};

/// A time that no clock has reached: in the year 2100.
pub(super) const LATER: i64 = 4_102_444_800_000;

/// Returns options with a maximum of live keys.
pub(super) fn at_most(max: u32) -> WriteOptions {
    WriteOptions::new().with_max_live_keys(Some(max))
}

/// Returns a patch of the expiry.
pub(super) fn ending(expires: Option<i64>) -> KeyPatch {
    KeyPatch {
        expires: Some(expires.map(at)),
        ..KeyPatch::new()
    }
}

/// Returns a record of `owner` that expires at `millis`.
pub(super) fn expiring(number: u128, owner: &str, millis: i64) -> KeyRecord {
    let mut record = owned(number, owner);
    record.expires = Some(at(millis));
    record
}

async fn insert(
    store: &dyn KeyStore,
    record: &KeyRecord,
    max: u32,
    rule: &str,
) -> Result<(), Violation> {
    let insert = store.insert(record, &at_most(max)).await;
    insert.or_violation(rule)?;
    ensure_stored(store, record, rule).await
}

async fn ensure_missing(store: &dyn KeyStore, number: u128) -> Result<(), Violation> {
    let found = store.find(&id(number)).await.or_violation("`find` fails")?;
    ensure!(
        found.is_none(),
        "a refused insert must not store a record; found {found:?}"
    );
    Ok(())
}

/// Checks how many live keys are counted for `owner`, without a maximum and up to each.
async fn ensure_live(
    owners: &dyn OwnerStore,
    owner: &str,
    live: u32,
    rule: &str,
) -> Result<(), Violation> {
    for max in [u32::MAX, live.saturating_add(1), live, live / 2, 0] {
        let counted = owners.count_live_keys(owner, max).await;
        let counted = counted.or_violation("`count_live_keys` fails")?;
        ensure!(
            counted == live.min(max),
            "{rule}: {owner:?} has {live} live keys, counted up to {max}; got {counted}"
        );
    }
    Ok(())
}

/// For each store: one that does not count live keys refuses the write.
pub(super) async fn a_maximum_of_live_keys_is_not_ignored(store: Arc<dyn KeyStore>) -> CheckResult {
    let store = &*store;
    add(store, &owned(1, "a")).await?;
    for max in [0, 1] {
        match store.insert(&owned(2, "a"), &at_most(max)).await {
            Err(StoreError::TooManyKeys { max: named }) if named == max => {}
            // Such a store does not keep owners, so a manager does not pass a maximum.
            Err(StoreError::InvalidArgument(_)) if store.owners().is_none() => {}
            other => {
                return Err(Violation(format!(
                    "an insert above the maximum of {max} live keys must be refused; got {other:?}"
                )));
            }
        }
        ensure_missing(store, 2).await?;
    }
    Ok(CheckVerdict::Passed)
}

pub(super) async fn only_live_keys_count(store: Arc<dyn KeyStore>) -> CheckResult {
    let store = &*store;
    let owners = owners!(store);
    ensure_live(owners, "a", 0, "an owner that has never had a key").await?;
    let mut disabled = owned(1, "a");
    disabled.enabled = false;
    let mut early = expiring(2, "a", LATER);
    early.not_before = Some(at(LATER - 1));
    let mut last = owned(3, "a");
    last.expires = Some(at(i64::MAX));
    let mut revoked = full(5);
    revoked.owner = Some("a".to_owned());
    revoked.expires = None;
    for record in [
        disabled,
        early,
        last,
        owned(4, "a"),
        revoked,
        expiring(6, "a", 2_000),
        expiring(7, "a", i64::MIN),
        owned(8, "A"),
        owned(9, "a "),
        plain(10),
    ] {
        add(store, &record).await?;
    }
    let rule =
        "disabled keys and those that are not yet valid are live; revoked and expired keys are not";
    ensure_live(owners, "a", 4, rule).await?;
    ensure_live(owners, "A", 1, rule).await?;
    suspend(owners, "a", true).await?;
    ensure_live(owners, "a", 4, "keys of a suspended owner are live").await?;
    let refused = store.insert(&owned(11, "a"), &at_most(4)).await;
    ensure_too_many(refused, 4, "an insert of a fifth live key")?;
    let lost = store
        .revoke(&id(4), &because("lost"), &WriteOptions::new())
        .await;
    lost.or_violation("`revoke` fails")?;
    ensure_live(owners, "a", 3, "a revoked key is not live").await?;
    give(store, 3, Some("b")).await?;
    ensure_live(owners, "a", 2, "a key that was given away").await?;
    ensure_live(owners, "b", 1, "a key that was given to another owner").await?;
    let shortened = store
        .update(&id(2), &ending(Some(2_000)), &at_most(0))
        .await;
    shortened.or_violation("an earlier expiry fails")?;
    ensure_live(owners, "a", 1, "a key that got an earlier expiry").await?;
    insert(store, &owned(11, "a"), 2, "an insert of a second live key").await?;
    revoke_keys(owners, "a", &leaving(4_000, "left")).await?;
    for marked in [false, true] {
        let rule = format!("keys that their owner revoked are not live (marked: {marked})");
        ensure_live(owners, "a", 0, &rule).await?;
        insert(store, &owned(20 + u128::from(marked), "c"), 2, &rule).await?;
        mark_all(owners).await?;
    }
    insert(store, &owned(12, "a"), 1, "an insert after a revocation").await?;
    let refused = store.insert(&owned(13, "a"), &at_most(1)).await;
    ensure_too_many(refused, 1, "an insert of a second live key")?;
    ensure_live(owners, "a", 1, "a key that is newer than a revocation").await?;
    Ok(CheckVerdict::Passed)
}

/// Adds the live keys 1 and 2 of `full`, its expired key 3, and keys of others.
async fn add_full_owner(store: &dyn KeyStore) -> Result<(), Violation> {
    for record in [
        expiring(1, "full", LATER),
        owned(2, "full"),
        expiring(3, "full", 2_000),
        owned(4, "other"),
        plain(5),
        expiring(6, "other", 2_000),
    ] {
        add(store, &record).await?;
    }
    Ok(())
}

pub(super) async fn a_write_that_makes_a_key_live_is_bounded(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let store = &*store;
    let owners = owners!(store);
    add_full_owner(store).await?;
    let mut before = Vec::new();
    for number in 3..=6 {
        let found = store.find(&id(number)).await.or_violation("`find` fails")?;
        before.extend(found);
    }
    let mut cursor = None;
    logged(store, &mut cursor).await?;
    let both = KeyPatch {
        expires: Some(None),
        ..to_owner(Some("full"))
    };
    for max in [2, 1, 0] {
        let record = owned(9, "full");
        let refused = store.insert(&record, &at_most(max)).await;
        ensure_too_many(refused, max, "an insert of a third live key")?;
        ensure_missing(store, 9).await?;
        for (number, patch, what) in [
            (3, ending(Some(LATER)), "a later expiry of an expired key"),
            (
                3,
                ending(None),
                "the removal of the expiry of an expired key",
            ),
            (4, to_owner(Some("full")), "a change of owner"),
            (5, to_owner(Some("full")), "a first owner"),
            (6, both.clone(), "a change of owner and of expiry"),
        ] {
            let refused = store.update(&id(number), &patch, &at_most(max)).await;
            ensure_too_many(refused, max, what)?;
        }
    }
    let refused = store.insert(&owned(9, "new"), &at_most(0)).await;
    ensure_too_many(refused, 0, "an insert of the owner's first key")?;
    let refused = store
        .update(&id(4), &to_owner(Some("new")), &at_most(0))
        .await;
    ensure_too_many(refused, 0, "a change to a new owner")?;
    let state = owners.find_owner("new").await;
    ensure!(
        state.or_violation("`find_owner` fails")?.is_none(),
        "a refused write must not create an owner"
    );
    for record in before {
        let found = store.find(&record.id).await.or_violation("`find` fails")?;
        ensure!(
            found.as_ref() == Some(&record),
            "a refused update must not change anything; found {found:?}, before it {record:?}"
        );
    }
    ensure_not_logged(store, &mut cursor, "a refused write").await?;
    // What the caller writes of the owner's state does not count.
    let mut forged = owned(9, "full");
    forged.owner_state = Some(OwnerState::new().with_revocations(5));
    let refused = store.insert(&forged, &at_most(2)).await;
    ensure_too_many(refused, 2, "an insert with a state of the owner")?;
    insert(store, &owned(9, "full"), 3, "an insert up to the maximum").await?;
    let update = store.update(&id(3), &ending(None), &at_most(4)).await;
    update.or_violation("a later expiry up to the maximum fails")?;
    ensure_live(owners, "full", 4, "writes up to the maximum").await?;
    Ok(CheckVerdict::Passed)
}

pub(super) async fn a_write_that_makes_no_key_live_is_not_bounded(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let store = &*store;
    let owners = owners!(store);
    add_full_owner(store).await?;
    let enable = KeyPatch {
        enabled: Some(true),
        ..KeyPatch::new()
    };
    for max in [2, 1, 0] {
        for (number, patch, what) in [
            (1, ending(Some(LATER + 1)), "a later expiry of a live key"),
            (1, ending(None), "the removal of the expiry of a live key"),
            (1, to_owner(Some("full")), "a change to the same owner"),
            (2, enable.clone(), "enabling a key"),
            (2, labelled("new"), "a new label"),
            (3, ending(Some(3_000)), "a later expiry that has passed too"),
            (3, labelled("new"), "a new label of an expired key"),
            (5, labelled("new"), "a change of a key without an owner"),
            (
                6,
                to_owner(Some("full")),
                "a change of owner of an expired key",
            ),
            (
                6,
                to_owner(Some("other")),
                "a change back of an expired key",
            ),
            (2, to_owner(None), "a change to no owner"),
        ] {
            let update = store.update(&id(number), &patch, &at_most(max)).await;
            update.or_violation(&format!(
                "{what} is not bounded by {max} live keys, and fails"
            ))?;
        }
        give(store, 2, Some("full")).await?;
        let number = 10 + u128::from(max) * 10;
        let mut revoked = owned(number, "full");
        revoked.revoked = Some(because("before"));
        insert(store, &revoked, max, "an insert of a revoked key").await?;
        let expired = expiring(number + 1, "full", 2_000);
        insert(store, &expired, max, "an insert of an expired key").await?;
        insert(store, &plain(number + 2), max, "an insert without an owner").await?;
    }
    insert(store, &owned(8, "new"), 1, "an insert for another owner").await?;
    ensure_live(owners, "full", 2, "writes that make no key live").await?;
    revoke_keys(owners, "other", &leaving(4_000, "left")).await?;
    let stays = store
        .update(&id(4), &to_owner(Some("full")), &at_most(2))
        .await;
    stays.or_violation("a change of owner of a key that its owner revoked fails")?;
    let done = store.revoke(&id(1), &because("lost"), &at_most(0)).await;
    ensure!(
        done.or_violation("`revoke` with a maximum fails")?,
        "a revocation is not bounded by live keys"
    );
    Ok(CheckVerdict::Passed)
}

pub(super) async fn a_refusal_says_the_first_reason(store: Arc<dyn KeyStore>) -> CheckResult {
    let store = &*store;
    let _ = owners!(store);
    add_full_owner(store).await?;
    let taken = store.insert(&owned(4, "full"), &at_most(2)).await;
    ensure_conflict(taken, "an insert of a used id above the maximum")?;
    let patch = to_owner(Some("full"));
    let full = at_most(2);
    let missing = store.update(&id(9), &patch, &full).await;
    ensure_not_found(missing, "an update of a missing record above the maximum")?;
    let stranger = full.clone().with_expected_owner(Some("b".to_owned()));
    let stranger = store.update(&id(4), &patch, &stranger).await;
    ensure_not_found(
        stranger,
        "an update above the maximum that expects another owner",
    )?;
    let old = full.clone().with_expected_version(Some(7));
    let old = store.update(&id(4), &patch, &old).await;
    ensure_conflict(old, "an update of another version above the maximum")?;
    let right = full
        .with_expected_owner(Some("other".to_owned()))
        .with_expected_version(Some(1));
    let refused = store.update(&id(4), &patch, &right).await;
    ensure_too_many(refused, 2, "an update above the maximum")?;
    Ok(CheckVerdict::Passed)
}
