//! Checks of keys that change their owner, and of calls that race with a change of an owner.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::owners::{
    ensure_reads, give, leaving, mark_all, owners, read, revoke_keys, state_of, to_owner,
};
use super::records::{add, all};
use super::samples::{id, owned};
use super::{CheckResult, CheckVerdict, OrViolation, Violation, ensure};
use crate::record::{KeyPatch, KeyRecord, OwnerState};
use crate::store::{KeyStore, ListQuery, ListRange, OwnerStore, WriteOptions};

/// How often a race is run.
const ROUNDS: u128 = 20;

/// Calls of one kind that race.
const RACERS: u128 = 4;

pub(super) async fn a_key_counts_from_when_it_came_to_its_owner(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let store = &*store;
    let owners = owners!(store);
    add(store, &owned(1, "a")).await?;
    add(store, &owned(2, "b")).await?;
    for _ in 0..2 {
        revoke_keys(owners, "b", &leaving(4_000, "before")).await?;
    }
    let new = OwnerState::new();
    let twice = new.with_version(3).with_revocations(2);
    give(store, 1, Some("b")).await?;
    let rule = "a key must get the number of its new owner";
    ensure_reads(store, 1, 2, twice, None, rule).await?;
    revoke_keys(owners, "a", &leaving(5_000, "a")).await?;
    let rule = "a revocation of the owner before must not end the key";
    ensure_reads(store, 1, 2, twice, None, rule).await?;
    give(store, 1, None).await?;
    revoke_keys(owners, "b", &leaving(6_000, "b")).await?;
    let alone = read(store, 1).await?;
    ensure!(
        (alone.owner_revocations, alone.owner_state, &alone.revoked) == (0, None, &None),
        "a key without an owner must not have a number or a state; found {alone:?}"
    );
    give(store, 1, Some("b")).await?;
    let thrice = new.with_version(4).with_revocations(3);
    let rule = "a key that comes back must get the present number";
    ensure_reads(store, 1, 3, thrice, None, rule).await?;
    give(store, 1, Some("b")).await?;
    mark_all(owners).await?;
    let rule = "a change to the same owner must not change the number";
    ensure_reads(store, 1, 3, thrice, None, rule).await?;
    let last = leaving(7_000, "last");
    let state = revoke_keys(owners, "b", &last).await?;
    let rule = "a revocation of the new owner must end the key";
    ensure_reads(store, 1, 3, state, Some(last.of_key()), rule).await?;
    Ok(CheckVerdict::Passed)
}

pub(super) async fn a_key_that_its_owner_revoked_stays_with_it(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let store = &*store;
    let owners = owners!(store);
    for (number, owner) in (1..).zip(["a", "a", "a", "b"]) {
        add(store, &owned(number, owner)).await?;
    }
    let left = leaving(4_000, "left");
    let state = revoke_keys(owners, "a", &left).await?;
    // The last is tried after marking.
    for (number, owner) in [(1, Some("b")), (2, None), (1, Some("a")), (3, Some("b"))] {
        let patch = KeyPatch {
            label: Some("new".to_owned()),
            enabled: Some(true),
            ..to_owner(owner)
        };
        let version = read(store, number).await?.version;
        let update = store
            .update(&id(number), &patch, &WriteOptions::new())
            .await;
        update.or_violation("`update` of a key that its owner revoked fails")?;
        let rule = format!("a key that its owner revoked is given to {owner:?}");
        let found = read(store, number).await?;
        ensure!(
            found.owner.as_deref() == Some("a"),
            "{rule}: it must keep its owner; found {found:?}"
        );
        ensure_reads(store, number, 0, state, Some(left.of_key()), &rule).await?;
        ensure!(
            found.label == "new" && found.version == version + 1,
            "{rule}: the rest of the patch must apply; found {found:?}"
        );
        mark_all(owners).await?;
    }
    let other = state_of(owners, "b").await?;
    ensure!(
        other == Some(OwnerState::new()),
        "a key that stays with its owner must not change another; got {other:?}"
    );
    Ok(CheckVerdict::Passed)
}

/// Checks that a record reads as revoked if and only if its number is older than its owner's.
fn ensure_derived(record: &KeyRecord) -> Result<OwnerState, Violation> {
    let state = record.owner_state;
    let state = state.or_violation("a record of an owner must have its state")?;
    ensure!(
        record.revoked.is_some() == state.revokes(record.owner_revocations),
        "a record and its owner's state must be of one moment; found {record:?}"
    );
    Ok(state)
}

pub(super) async fn a_read_has_the_state_of_its_owner_at_that_moment(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let _ = owners!(store);
    for number in 1..=ROUNDS {
        let owner = format!("owner {number}");
        add(&*store, &owned(number, &owner)).await?;
        let mut tasks = JoinSet::new();
        let (writer, name) = (Arc::clone(&store), owner.clone());
        tasks.spawn(async move {
            let owners = writer.owners().or_violation("`owners` must not change")?;
            revoke_keys(owners, &name, &leaving(4_000, "left")).await?;
            mark_all(owners).await
        });
        let query = ListQuery::of(ListRange::Owner(owner), 10);
        let mut newest = 0;
        while newest < 2 {
            let found = store.find(&id(number)).await.or_violation("`find` fails")?;
            let found = found.or_violation("a record is missing")?;
            let page = store.list(&query).await.or_violation("`list` fails")?;
            for record in page.records.iter().chain([&found]) {
                ensure_derived(record)?;
            }
            for record in [&found].into_iter().chain(&page.records) {
                let version = ensure_derived(record)?.version;
                ensure!(
                    version >= newest,
                    "a later read must not have an older state of the owner; found {record:?}"
                );
                newest = version;
            }
            // A writer that fails never changes the state.
            while let Some(joined) = tasks.try_join_next() {
                joined.map_err(|error| Violation(format!("a call panics: {error}")))??;
            }
            tokio::task::yield_now().await;
        }
        all(tasks).await?;
    }
    Ok(CheckVerdict::Passed)
}

/// Checks that each key is revoked for `reasons`, or has the newest number of its owner, now and after
/// marking.
async fn ensure_none_survives(
    store: &dyn KeyStore,
    owners: &dyn OwnerStore,
    reasons: &[&str],
) -> Result<(), Violation> {
    for marked in [false, true] {
        let page = store.list(&ListQuery::first(1_000)).await;
        for record in page.or_violation("`list` fails")?.records {
            let state = ensure_derived(&record)?;
            let owner = record.owner.as_deref().unwrap_or_default();
            let current = state_of(owners, owner).await?;
            ensure!(
                current == Some(state),
                "a read must have the owner's state {current:?}; found {record:?}"
            );
            let reason = record.revoked.as_ref().map(|revoked| &revoked.reason);
            ensure!(
                reason.is_none_or(|reason| reason
                    .as_deref()
                    .is_some_and(|text| reasons.contains(&text))),
                "a key must be revoked for one of {reasons:?} (marked: {marked}); found {record:?}"
            );
        }
        mark_all(owners).await?;
    }
    Ok(())
}

/// Runs `call` with the store and its owners.
fn spawn<F>(
    tasks: &mut JoinSet<Result<(), Violation>>,
    store: &Arc<dyn KeyStore>,
    call: impl FnOnce(Arc<dyn KeyStore>) -> F,
) where
    F: Future<Output = Result<(), Violation>> + Send + 'static,
{
    tasks.spawn(call(Arc::clone(store)));
}

/// Revokes all keys of an owner, and marks.
async fn revoke_and_mark(
    store: Arc<dyn KeyStore>,
    owner: String,
    reason: &'static str,
) -> Result<(), Violation> {
    let owners = store.owners().or_violation("`owners` must not change")?;
    revoke_keys(owners, &owner, &leaving(4_000, reason)).await?;
    mark_all(owners).await
}

pub(super) async fn an_insert_that_races_with_a_revocation_is_revoked_or_newer(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let owners = owners!(store);
    for round in 0..ROUNDS {
        let owner = format!("owner {round}");
        let first = round * 100;
        add(&*store, &owned(first, &owner)).await?;
        let mut tasks = JoinSet::new();
        for racer in 1..=RACERS {
            let record = owned(first + racer, &owner);
            spawn(&mut tasks, &store, |store| async move {
                add(&*store, &record).await
            });
            if racer == RACERS / 2 {
                let owner = owner.clone();
                spawn(&mut tasks, &store, |store| {
                    revoke_and_mark(store, owner, "left")
                });
            }
        }
        all(tasks).await?;
        let earlier = read(&*store, first).await?;
        ensure!(
            earlier.revoked.is_some(),
            "a key that was inserted before a revocation must be revoked; found {earlier:?}"
        );
    }
    ensure_none_survives(&*store, owners, &["left"]).await?;
    Ok(CheckVerdict::Passed)
}

/// Keys go from each of two owners to the other while both are revoked: none of the calls may fail,
/// as in a deadlock.
pub(super) async fn changes_of_owner_race_with_revocations(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let owners = owners!(store);
    for round in 0..ROUNDS {
        let names = ["a", "b"].map(|name| format!("{name} {round}"));
        let mut tasks = JoinSet::new();
        for (number, owner) in (round * 10..).zip([&names, &names].into_iter().flatten()) {
            add(&*store, &owned(number, owner)).await?;
        }
        for (number, owner) in (round * 10..).zip([&names, &names].into_iter().flatten().skip(1)) {
            let owner = owner.clone();
            spawn(&mut tasks, &store, |store| async move {
                give(&*store, number, Some(&owner)).await
            });
        }
        for (owner, reason) in names.into_iter().zip(["of a", "of b"]) {
            spawn(&mut tasks, &store, |store| {
                revoke_and_mark(store, owner, reason)
            });
        }
        all(tasks).await?;
    }
    ensure_none_survives(&*store, owners, &["of a", "of b"]).await?;
    Ok(CheckVerdict::Passed)
}
