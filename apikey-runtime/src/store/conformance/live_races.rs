//! Checks of the maximum of live keys under writers that race for the last places.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::live_keys::{LATER, at_most, ending, expiring};
use super::owners::{owners, to_owner};
use super::records::{add, all};
use super::samples::{id, owned};
use super::{CheckResult, CheckVerdict, OrViolation, Violation, ensure};
use crate::error::StoreError;
use crate::record::{KeyPatch, KeyRecord};
use crate::store::{KeyStore, OwnerStore};

/// How often a race is run.
const ROUNDS: u128 = 10;

/// The live keys that an owner may have.
const MAX: u32 = 3;

/// A write that makes a key live.
enum Racer {
    Insert(KeyRecord),
    Update(u128, KeyPatch),
}

type Racers = JoinSet<Result<bool, Violation>>;

/// Starts a write. Its task returns whether it succeeded; it may only fail for the maximum.
fn race(tasks: &mut Racers, store: &Arc<dyn KeyStore>, racer: Racer, max: u32) {
    let store = Arc::clone(store);
    tasks.spawn(async move {
        let options = at_most(max);
        let result = match racer {
            Racer::Insert(record) => store.insert(&record, &options).await,
            Racer::Update(number, patch) => store.update(&id(number), &patch, &options).await,
        };
        match result {
            Ok(()) => Ok(true),
            Err(StoreError::TooManyKeys { max: named }) if named == max => Ok(false),
            Err(error) => Err(Violation(format!(
                "a write that races for one of {max} places fails: {error:?}"
            ))),
        }
    });
}

/// Checks that `expected` of the racers succeeded, and that the owner then has the maximum.
async fn ensure_filled(
    owners: &dyn OwnerStore,
    owner: &str,
    tasks: Racers,
    expected: usize,
) -> Result<(), Violation> {
    let won = all(tasks).await?.into_iter().filter(|won| *won).count();
    let live = owners.count_live_keys(owner, u32::MAX).await;
    let live = live.or_violation("`count_live_keys` fails")?;
    ensure!(
        won == expected && live == MAX,
        "of racing writes, {expected} must succeed, and then {owner:?} has {MAX} live keys; \
         {won} succeeded, and it has {live}"
    );
    Ok(())
}

pub(super) async fn racing_inserts_fill_a_maximum_exactly(store: Arc<dyn KeyStore>) -> CheckResult {
    let owners = owners!(store);
    for round in 0..ROUNDS {
        // The owner is new in one round, and has a key in the next.
        let (owner, first) = (format!("owner {round}"), round * 100);
        let other = format!("other {round}");
        let held = round % 2;
        if held == 1 {
            add(&*store, &owned(first, &owner)).await?;
        }
        let mut tasks = JoinSet::new();
        let mut others = JoinSet::new();
        for racer in 1..=6 {
            let record = owned(first + racer, &owner);
            race(&mut tasks, &store, Racer::Insert(record), MAX);
            if racer <= u128::from(MAX) {
                let record = owned(first + 50 + racer, &other);
                race(&mut others, &store, Racer::Insert(record), MAX);
            }
        }
        let places = MAX as usize - usize::from(held == 1);
        ensure_filled(owners, &owner, tasks, places).await?;
        ensure_filled(owners, &other, others, MAX as usize).await?;
    }
    Ok(CheckVerdict::Passed)
}

/// Inserts, changes of owner, and later expiries race for the same places.
pub(super) async fn racing_changes_fill_a_maximum_exactly(store: Arc<dyn KeyStore>) -> CheckResult {
    let owners = owners!(store);
    for round in 0..ROUNDS {
        let (owner, first) = (format!("owner {round}"), round * 100);
        let giver = format!("giver {round}");
        for number in first..first + 3 {
            add(&*store, &owned(number, &giver)).await?;
            add(&*store, &expiring(number + 10, &owner, 2_000)).await?;
        }
        let mut tasks = JoinSet::new();
        for number in first..first + 3 {
            let moved = Racer::Update(number, to_owner(Some(&owner)));
            race(&mut tasks, &store, moved, MAX);
            let longer = Racer::Update(number + 10, ending(Some(LATER)));
            race(&mut tasks, &store, longer, MAX);
            let new = Racer::Insert(owned(number + 20, &owner));
            race(&mut tasks, &store, new, MAX);
        }
        ensure_filled(owners, &owner, tasks, MAX as usize).await?;
    }
    Ok(CheckVerdict::Passed)
}

/// Keys go from each of two owners to the other, each bounded: none of the calls may fail otherwise, as
/// in a deadlock.
pub(super) async fn keys_that_change_places_under_a_maximum_do_not_block(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let owners = owners!(store);
    let names = ["a", "b"];
    for (number, owner) in (1..).zip([names; 2].concat()) {
        add(&*store, &owned(number, owner)).await?;
    }
    for round in 0..ROUNDS {
        let mut tasks = JoinSet::new();
        for number in 1..=4_u128 {
            let owner = names[usize::from((number + round) % 2 == 0)];
            let moved = Racer::Update(number, to_owner(Some(owner)));
            race(&mut tasks, &store, moved, MAX);
        }
        all(tasks).await?;
        let mut live = 0;
        for owner in names {
            let counted = owners.count_live_keys(owner, u32::MAX).await;
            let counted = counted.or_violation("`count_live_keys` fails")?;
            ensure!(
                counted <= MAX,
                "{owner:?} may have {MAX} live keys; it has {counted}"
            );
            live += counted;
        }
        ensure!(live == 4, "4 keys stay live; got {live}");
    }
    Ok(CheckVerdict::Passed)
}
