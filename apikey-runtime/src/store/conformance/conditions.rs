//! Checks of the conditions of a write: the owner and the version that it expects.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::fields::labelled;
use super::owners::{ensure_not_logged, leaving, logged, mark_all, revoke_keys, to_owner};
use super::records::{add, all, ensure_stored};
use super::samples::{because, id, owned, plain};
use super::{
    CheckResult, CheckVerdict, OrViolation, Violation, ensure, ensure_conflict, ensure_not_found,
};
use crate::error::StoreError;
use crate::store::{KeyStore, WriteOptions};

/// How often a race is run.
const ROUNDS: u128 = 20;

/// Returns options that expect an owner and a version.
pub(super) fn expecting(owner: &str, version: Option<u64>) -> WriteOptions {
    WriteOptions::new()
        .with_expected_owner(Some(owner.to_owned()))
        .with_expected_version(version)
}

/// Returns each record that a write may find, and owners that it does not have.
fn strangers() -> [(u128, Option<&'static str>, &'static [&'static str]); 3] {
    [
        (1, Some("a"), &["b", "A", "a ", "", "%", "a\u{301}"]),
        (2, None, &["a", "", "null"]),
        (3, Some(""), &["a", " "]),
    ]
}

async fn add_strangers(store: &dyn KeyStore) -> Result<(), Violation> {
    for (number, owner, _) in strangers() {
        let mut record = plain(number);
        record.owner = owner.map(str::to_owned);
        add(store, &record).await?;
    }
    add(store, &owned(4, "b")).await
}

pub(super) async fn another_owner_is_not_found_before_the_version_is_compared(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let store = &*store;
    add_strangers(store).await?;
    for (number, owner, others) in strangers() {
        // 7 is a version that the record does not have.
        for version in [None, Some(1), Some(7)] {
            for other in others {
                let options = expecting(other, version);
                let what =
                    format!("of a key of {owner:?} that expects {other:?}, version {version:?}");
                let update = store.update(&id(number), &labelled("x"), &options).await;
                ensure_not_found(update, &format!("an update {what}"))?;
                let revoke = store.revoke(&id(number), &because("x"), &options).await;
                ensure_not_found(revoke, &format!("a revocation {what}"))?;
            }
            let missing = expecting(owner.unwrap_or("a"), version);
            let update = store.update(&id(9), &labelled("x"), &missing).await;
            ensure_not_found(update, "an update of a missing record")?;
            let revoke = store.revoke(&id(9), &because("x"), &missing).await;
            ensure_not_found(revoke, "a revocation of a missing record")?;
        }
    }
    // A revoked key too.
    let right = expecting("a", Some(1));
    let done = store.revoke(&id(1), &because("lost"), &right).await;
    ensure!(
        done.or_violation("`revoke` of the expected owner and version fails")?,
        "the first `revoke` must return `true`"
    );
    let again = store
        .revoke(&id(1), &because("x"), &expecting("b", None))
        .await;
    ensure_not_found(again, "a second revocation that expects another owner")?;
    let again = store
        .revoke(&id(1), &because("x"), &expecting("a", None))
        .await;
    ensure!(
        !again.or_violation("a second `revoke` fails")?,
        "a second `revoke` must return `false`"
    );
    let update = store
        .update(&id(1), &labelled("new"), &expecting("a", Some(2)))
        .await;
    update.or_violation("`update` of the expected owner and version fails")?;
    let mut expected = owned(1, "a");
    expected.revoked = Some(because("lost"));
    expected.version = 3;
    expected.label = "new".to_owned();
    ensure_stored(store, &expected, "a write that expects what is").await?;
    Ok(CheckVerdict::Passed)
}

pub(super) async fn a_refused_write_changes_nothing(store: Arc<dyn KeyStore>) -> CheckResult {
    let store = &*store;
    add_strangers(store).await?;
    let mut cursor = None;
    logged(store, &mut cursor).await?;
    for (owner, version) in [("b", None), ("b", Some(1))] {
        let options = expecting(owner, version);
        let update = store.update(&id(1), &to_owner(Some("c")), &options).await;
        ensure_not_found(update, "an update that expects another owner")?;
        let revoke = store.revoke(&id(1), &because("x"), &options).await;
        ensure_not_found(revoke, "a revocation that expects another owner")?;
    }
    for version in [0, 2, u64::MAX] {
        for options in [
            expecting("a", Some(version)),
            WriteOptions::new().with_expected_version(Some(version)),
        ] {
            let update = store.update(&id(1), &to_owner(Some("c")), &options).await;
            ensure_conflict(update, "an update of another version")?;
            let revoke = store.revoke(&id(1), &because("x"), &options).await;
            ensure_conflict(revoke, "a revocation of another version")?;
        }
    }
    ensure_stored(store, &owned(1, "a"), "a refused write").await?;
    ensure_not_logged(store, &mut cursor, "a refused write").await?;
    let Some(owners) = store.owners() else {
        return Ok(CheckVerdict::Passed);
    };
    let state = owners.find_owner("c").await;
    ensure!(
        state.or_violation("`find_owner` fails")?.is_none(),
        "a refused write must not create an owner"
    );
    // A key that its owner revoked has the same owner, before and after it is marked.
    revoke_keys(owners, "a", &leaving(4_000, "left")).await?;
    for version in [1, 2] {
        let update = store
            .update(&id(1), &labelled("x"), &expecting("b", Some(version)))
            .await;
        ensure_not_found(update, "an update that expects another owner")?;
        let update = store
            .update(&id(1), &labelled("x"), &expecting("a", Some(version)))
            .await;
        update.or_violation("an update of a key that its owner revoked fails")?;
        mark_all(owners).await?;
    }
    Ok(CheckVerdict::Passed)
}

/// Each racer expects the same owner and sets another.
pub(super) async fn one_of_several_racing_changes_of_owner_succeeds(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    for number in 1..=ROUNDS {
        add(&*store, &owned(number, "a")).await?;
        let mut tasks = JoinSet::new();
        for racer in 0..4 {
            let store = Arc::clone(&store);
            tasks.spawn(async move {
                let owner = format!("racer {racer}");
                let patch = to_owner(Some(&owner));
                let update = store
                    .update(&id(number), &patch, &expecting("a", None))
                    .await;
                match update {
                    Ok(()) => Ok(Some(owner)),
                    Err(StoreError::NotFound) => Ok(None),
                    Err(error) => Err(Violation(format!("an update that loses a race: {error:?}"))),
                }
            });
        }
        let winners: Vec<String> = all(tasks).await?.into_iter().flatten().collect();
        ensure!(
            winners.len() == 1,
            "of 4 racing updates that expect the owner `a` and set another, one must succeed; \
             got {winners:?}"
        );
        let mut expected = owned(number, &winners[0]);
        expected.version = 2;
        ensure_stored(&*store, &expected, "the winner's owner must stay").await?;
    }
    Ok(CheckVerdict::Passed)
}

/// The change of owner succeeds only if it is the first, and then the revocation must not find the key.
pub(super) async fn a_revocation_for_an_owner_races_with_a_change_of_owner(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    for number in 1..=ROUNDS {
        add(&*store, &owned(number, "a")).await?;
        let (giver, revoker) = (Arc::clone(&store), Arc::clone(&store));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let first = WriteOptions::new().with_expected_version(Some(1));
            let update = giver
                .update(&id(number), &to_owner(Some("b")), &first)
                .await;
            match update {
                Ok(()) => Ok("gave"),
                Err(StoreError::Conflict) => Ok("lost"),
                Err(error) => Err(Violation(format!("a change of owner fails: {error:?}"))),
            }
        });
        tasks.spawn(async move {
            let reason = because("left");
            let revoke = revoker
                .revoke(&id(number), &reason, &expecting("a", None))
                .await;
            match revoke {
                Ok(true) => Ok("revoked"),
                Err(StoreError::NotFound) => Ok("lost"),
                other => Err(Violation(format!("a revocation fails: {other:?}"))),
            }
        });
        let outcome = all(tasks).await?;
        let winner = outcome.iter().filter(|text| **text != "lost").count();
        let mut expected = owned(number, "b");
        if outcome.contains(&"revoked") {
            expected = owned(number, "a");
            expected.revoked = Some(because("left"));
        }
        expected.version = 2;
        ensure!(
            winner == 1,
            "a revocation that expects the owner `a` must not revoke a key of `b`; got {outcome:?}"
        );
        ensure_stored(&*store, &expected, "the first of two changes must stay").await?;
    }
    Ok(CheckVerdict::Passed)
}
