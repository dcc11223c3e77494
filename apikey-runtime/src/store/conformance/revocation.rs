//! Checks of `revoke`, `revoke_owner` and `purge`.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::bulk::{purge, revoke_owner};
use super::records::{add, all, ensure_stored};
use super::samples::{at, because, full, id, owned, plain};
use super::{CheckResult, CheckVerdict, OrViolation, ensure, ensure_conflict, ensure_not_found};
use crate::key::KeyId;
use crate::record::{KeyPatch, KeyRecord, Revocation};
use crate::store::{KeyStore, WriteOptions};

/// Returns `record` as it is after a revocation by an actor that is not named.
fn revoked(mut record: KeyRecord, revocation: &Revocation) -> KeyRecord {
    record.revoked = Some(revocation.clone());
    record.version += 1;
    record.updated_by = None;
    record
}

pub(super) async fn the_first_revocation_stays(store: Arc<dyn KeyStore>) -> CheckResult {
    let store = &*store;
    let mut record = full(1);
    record.revoked = None;
    add(store, &record).await?;
    add(store, &plain(2)).await?;
    let first = because("first; it's \"100%\"");
    let done = store
        .revoke(&id(1), &first, &WriteOptions::new())
        .await
        .or_violation("`revoke` fails")?;
    ensure!(done, "the call that revokes a key must return `true`");
    let expected = revoked(record, &first);
    ensure_stored(
        store,
        &expected,
        "`revoke` must set `revoked` and increment the version",
    )
    .await?;
    for again in [
        because("second"),
        Revocation {
            at: at(1),
            reason: None,
        },
    ] {
        let done = store
            .revoke(&id(1), &again, &WriteOptions::new())
            .await
            .or_violation("a second `revoke` fails")?;
        ensure!(!done, "`revoke` of a revoked key must return `false`");
        ensure_stored(store, &expected, "the first time and reason must stay").await?;
    }
    ensure_stored(store, &plain(2), "`revoke` must not change other records").await?;
    Ok(CheckVerdict::Passed)
}

pub(super) async fn revoking_a_missing_record_is_not_found(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    add(&*store, &plain(1)).await?;
    let result = store
        .revoke(&id(2), &because("lost"), &WriteOptions::new())
        .await;
    ensure_not_found(result, "`revoke` of a missing record")?;
    let none = revoke_owner(&*store, "nobody", &because("lost")).await?;
    ensure!(
        none.is_empty(),
        "`revoke_owner` of an owner without keys must return nothing; got {none:?}"
    );
    ensure_stored(&*store, &plain(1), "`revoke` must not change other records").await?;
    Ok(CheckVerdict::Passed)
}

/// V-12, column by column.
pub(super) async fn a_late_update_does_not_undo_a_revocation(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let store = &*store;
    add(store, &plain(1)).await?;
    store
        .revoke(&id(1), &because("lost"), &WriteOptions::new())
        .await
        .or_violation("`revoke` fails")?;
    let mut expected = revoked(plain(1), &because("lost"));
    let late = KeyPatch {
        enabled: Some(true),
        label: Some("late".to_owned()),
        digest: Some("sha256$new".to_owned()),
        expires: Some(None),
        ..KeyPatch::new()
    };
    store
        .update(&id(1), &late, &WriteOptions::new())
        .await
        .or_violation("`update` of a revoked record fails")?;
    late.apply(&mut expected, None);
    ensure_stored(store, &expected, "a late update must not change `revoked`").await?;
    Ok(CheckVerdict::Passed)
}

/// V-12, with the version that the writer read.
pub(super) async fn a_late_update_of_an_old_version_is_a_conflict(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let store = &*store;
    for number in [1, 2] {
        add(store, &owned(number, "a")).await?;
    }
    store
        .revoke(&id(1), &because("lost"), &WriteOptions::new())
        .await
        .or_violation("`revoke` fails")?;
    revoke_owner(store, "a", &because("left")).await?;
    let of_first = WriteOptions::new().with_expected_version(Some(1));
    let late = KeyPatch {
        label: Some("late".to_owned()),
        ..KeyPatch::new()
    };
    for (number, reason) in [(1, "lost"), (2, "left")] {
        let result = store.update(&id(number), &late, &of_first).await;
        ensure_conflict(result, "an update of the version before a revocation")?;
        let expected = revoked(owned(number, "a"), &because(reason));
        ensure_stored(store, &expected, "a failed update must not change anything").await?;
    }
    Ok(CheckVerdict::Passed)
}

pub(super) async fn the_id_of_a_revoked_key_is_not_reusable(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let store = &*store;
    add(store, &plain(1)).await?;
    store
        .revoke(&id(1), &because("lost"), &WriteOptions::new())
        .await
        .or_violation("`revoke` fails")?;
    ensure_conflict(
        store.insert(&plain(1), &WriteOptions::new()).await,
        "an insert with the id of a revoked key",
    )?;
    let expected = revoked(plain(1), &because("lost"));
    ensure_stored(
        store,
        &expected,
        "a failed insert must leave the key revoked",
    )
    .await?;
    Ok(CheckVerdict::Passed)
}

pub(super) async fn revoking_an_owner_revokes_exactly_their_live_keys(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let store = &*store;
    let owners = ["a_%", "a_%", "abc", "A_%", "a_% ", "", "a_%"];
    for (number, owner) in (1..).zip(owners) {
        add(store, &owned(number, owner)).await?;
    }
    add(store, &plain(8)).await?;
    store
        .revoke(&id(7), &because("before"), &WriteOptions::new())
        .await
        .or_violation("`revoke` fails")?;
    let ids = revoke_owner(store, "a_%", &because("left")).await?;
    let ids: BTreeSet<KeyId> = ids.into_iter().collect();
    ensure!(
        ids == BTreeSet::from([id(1), id(2)]),
        "`revoke_owner` must return the keys that it revoked; got {ids:?}"
    );
    for (number, owner) in (1..).zip(owners) {
        let expected = match number {
            1 | 2 => revoked(owned(number, owner), &because("left")),
            7 => revoked(owned(number, owner), &because("before")),
            _ => owned(number, owner),
        };
        let rule = format!("`revoke_owner` of `a_%`, seen on a key of {owner:?}");
        ensure_stored(store, &expected, &rule).await?;
    }
    ensure_stored(
        store,
        &plain(8),
        "`revoke_owner` must not change a key without an owner",
    )
    .await?;
    Ok(CheckVerdict::Passed)
}

pub(super) async fn one_of_several_racing_revocations_succeeds(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    for number in 1..=10 {
        add(&*store, &owned(number, &format!("owner {number}"))).await?;
        let mut tasks = JoinSet::new();
        for racer in 0..4 {
            let store = Arc::clone(&store);
            tasks.spawn(async move {
                let reason = because(&format!("racer {racer}"));
                let won = if racer == 0 {
                    let owner = format!("owner {number}");
                    !revoke_owner(&*store, &owner, &reason).await?.is_empty()
                } else {
                    store
                        .revoke(&id(number), &reason, &WriteOptions::new())
                        .await
                        .or_violation("`revoke` fails")?
                };
                Ok(won.then_some(reason))
            });
        }
        let winners: Vec<_> = all(tasks).await?.into_iter().flatten().collect();
        ensure!(
            winners.len() == 1,
            "of 4 racing revocations of a key, one must succeed; got {}",
            winners.len()
        );
        let expected = revoked(owned(number, &format!("owner {number}")), &winners[0]);
        ensure_stored(&*store, &expected, "the winner's reason must stay").await?;
    }
    Ok(CheckVerdict::Passed)
}

pub(super) async fn purge_removes_only_keys_that_ended_before(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let store = &*store;
    let ended = |number, expires: Option<i64>, revoked: Option<i64>| {
        let mut record = plain(number);
        record.expires = expires.map(at);
        record.revoked = revoked.map(|millis| Revocation {
            at: at(millis),
            reason: None,
        });
        record
    };
    let gone = [
        ended(1, Some(99), None),
        ended(2, None, Some(99)),
        ended(3, Some(i64::MAX), Some(-5)),
        ended(4, Some(i64::MIN), Some(500)),
    ];
    let kept = [
        ended(5, Some(100), None),
        ended(6, None, Some(100)),
        ended(7, Some(i64::MAX), Some(101)),
        ended(8, None, None),
    ];
    for record in gone.iter().chain(&kept) {
        add(store, record).await?;
    }
    let ids = purge(store, at(100)).await?;
    let ids: BTreeSet<KeyId> = ids.into_iter().collect();
    let expected: BTreeSet<KeyId> = gone.iter().map(|record| record.id).collect();
    ensure!(
        ids == expected,
        "`purge` must return the ids that it removed; got {ids:?}"
    );
    for record in &gone {
        let found = store.find(&record.id).await.or_violation("`find` fails")?;
        ensure!(
            found.is_none(),
            "a key that ended before must be removed; found {found:?}"
        );
    }
    for record in &kept {
        ensure_stored(store, record, "a key that did not end before must stay").await?;
    }
    let again = purge(store, at(100)).await?;
    ensure!(
        again.is_empty(),
        "a second `purge` must find nothing; got {again:?}"
    );
    Ok(CheckVerdict::Passed)
}
