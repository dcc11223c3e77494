//! Checks of the notices before the end of keys: which a node claims, and how it finishes them.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::audit_pages::whole_log;
use super::live_keys::ending;
use super::notices::{Claimers, claimers, dated, ensure_are, node};
use super::owners::{ensure_not_logged, logged};
use super::records::{add, all, ensure_stored};
use super::samples::{at, id};
use super::{CheckResult, CheckVerdict, OrViolation, Violation, ensure};
use crate::error::StoreError;
use crate::key::KeyId;
use crate::store::{ExpiryNotice, KeyStore, WriteOptions};

/// More keys than a call may claim.
const KEYS: u128 = 1_100;

/// The maximum number of notices of a call.
const LIMIT: usize = 1_000;

/// A number that a 64-bit float cannot tell from the next one.
const LARGE: i64 = 1 << 53;

/// The number of nodes that race.
const NODES: u128 = 4;

/// Adds keys that expire, claims their notices for node 1, and plans those that have a time.
async fn add_planned(
    store: &dyn KeyStore,
    nodes: &Claimers<'_>,
    planned: &[(u128, Option<i64>)],
) -> Result<(), Violation> {
    for (number, _) in planned {
        add(store, &dated(*number, i64::MAX)).await?;
    }
    let none: Vec<_> = planned.iter().map(|(number, _)| (*number, None)).collect();
    let rule = "a key that expires must have a notice that is not planned";
    for notice in nodes.ensure_claimed(1, 0, &none, rule).await? {
        let time = planned.iter().find(|(number, _)| id(*number) == notice.key);
        if let Some((_, Some(time))) = time {
            nodes.finish(1, &[(notice, Some(*time))]).await?;
        }
    }
    Ok(())
}

pub(super) async fn due_notices_are_claimed_in_the_order_of_their_times(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let store = &*store;
    let nodes = claimers!(store);
    let times = [
        i64::MIN,
        -1,
        0,
        1_767_225_599_999,
        LARGE,
        LARGE + 1,
        i64::MAX,
    ];
    // The order of the keys is another.
    let mut planned: Vec<_> = (1..).zip(times.into_iter().rev().map(Some)).collect();
    add_planned(store, &nodes, &planned).await?;
    planned.reverse();
    add(store, &dated(9, 5_000)).await?;
    planned.insert(0, (9, None));
    let rule = "a claim must return the first notices that are due, in the order of their times";
    // A notice that the node has claimed keeps its place among the others.
    for (count, limit) in [(1, 1), (3, 3), (2, 2), (4, 4)] {
        let claimed = nodes.claim(2, 0, limit).await?;
        ensure_are(&claimed, &planned[..count], rule)?;
    }
    // One that is finished meanwhile comes before others that the node has claimed.
    let first = nodes.claim(2, 0, 1).await?;
    nodes.finish(2, &[(first[0], Some(-2))]).await?;
    planned[0] = (9, Some(-2));
    planned.swap(0, 1);
    let claimed = nodes.claim(2, 0, 2).await?;
    ensure_are(&claimed, &planned[..2], rule)?;
    for (count, now) in [(6, LARGE), (7, LARGE + 1), (7, i64::MAX - 1)] {
        nodes
            .ensure_claimed(2, now, &planned[..count], rule)
            .await?;
    }
    // So does one of a node that is gone.
    let (members, gone) = (nodes.members, node(2));
    members.leave(&gone).await.or_violation("`leave` fails")?;
    let claimed = nodes.claim(1, i64::MAX, 3).await?;
    ensure_are(&claimed, &planned[..3], rule)?;
    nodes.ensure_claimed(1, i64::MAX, &planned, rule).await?;
    Ok(CheckVerdict::Passed)
}

pub(super) async fn a_claim_is_bounded_and_hides_nothing_for_ever(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    if store.expiry_notices().is_none() {
        return Ok(super::notices::NO_NOTICES);
    }
    let mut tasks = JoinSet::new();
    for writer in 0..NODES {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            for number in (1..=KEYS).filter(|number| number % NODES == writer) {
                add(&*store, &dated(number, 9_000)).await?;
            }
            Ok(())
        });
    }
    all(tasks).await?;
    let store = &*store;
    let nodes = claimers!(store);
    let keys = |claimed: &[ExpiryNotice]| -> BTreeSet<KeyId> {
        claimed.iter().map(|notice| notice.key).collect()
    };
    for (limit, count) in [(0, 1), (u32::MAX, LIMIT)] {
        let claimed = nodes.claim(1, 0, limit).await?;
        ensure!(
            claimed.len() == count && keys(&claimed).len() == count,
            "a limit is clamped to 1 to {LIMIT}: a limit of {limit} must claim {count} of {KEYS} notices; \
             got {}",
            claimed.len()
        );
    }
    let first = nodes.claim(1, 0, u32::MAX).await?;
    let mut found = BTreeSet::new();
    // A call may not reach beyond what the other node has claimed.
    for _ in 0..KEYS {
        found.extend(keys(&nodes.claim(2, 0, u32::MAX).await?));
        if found.len() as u128 == KEYS - LIMIT as u128 {
            break;
        }
    }
    let both: BTreeSet<_> = found.union(&keys(&first)).copied().collect();
    ensure!(
        both.len() as u128 == KEYS && found.is_disjoint(&keys(&first)),
        "notices that a node has claimed must neither be claimed by another nor hide the others from it: \
         of {KEYS}, a node claimed {LIMIT} and another found {}",
        found.len()
    );
    ensure_finished_together(&nodes, &first, found.len()).await?;
    Ok(CheckVerdict::Passed)
}

/// Finishes as many notices as a call can, and one too many. Node 2 has claimed `others`.
async fn ensure_finished_together(
    nodes: &Claimers<'_>,
    first: &[ExpiryNotice],
    others: usize,
) -> Result<(), Violation> {
    let mut finished: Vec<_> = first.iter().map(|notice| (*notice, Some(at(77)))).collect();
    finished.push(finished[0]);
    let many = nodes.notices.finish_notices(&node(1), &finished).await;
    ensure!(
        matches!(many, Err(StoreError::InvalidArgument(_))),
        "more than {LIMIT} notices at once must be `InvalidArgument`; got {many:?}"
    );
    let kept = nodes.claim(2, 77, u32::MAX).await?;
    ensure!(
        kept.len() == others,
        "a finish that fails must not finish any notice"
    );
    finished.pop();
    let finish = nodes.notices.finish_notices(&node(1), &finished).await;
    finish.or_violation("`finish_notices` of 1,000 notices fails")?;
    let claimed = nodes.claim(2, 77, u32::MAX).await?;
    let planned = claimed.iter().filter(|notice| notice.planned.is_some());
    ensure!(
        claimed.len() == LIMIT && planned.count() == LIMIT - others,
        "{LIMIT} notices that are finished together must all be finished"
    );
    Ok(())
}

pub(super) async fn a_claim_belongs_to_its_node_while_that_is_a_member(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let store = &*store;
    let nodes = claimers!(store);
    let members = nodes.members;
    let due = [(1, None), (2, Some(-5))];
    add_planned(store, &nodes, &due).await?;
    let rule = "a notice that a node claimed and has not finished must be returned to it again";
    for _ in 0..2 {
        nodes.ensure_claimed(1, 0, &due, rule).await?;
    }
    let rule = "a notice must not be claimed that another member has claimed";
    nodes.ensure_claimed(2, 0, &[], rule).await?;
    let listed = members.members().await.or_violation("`members` fails")?;
    let mut seen = listed.nodes.into_iter();
    let seen = seen.find(|listed| listed.id == node(1));
    let seen = seen.or_violation("a node that joined must be listed")?;
    let suspect = members.suspect(&seen).await;
    suspect.or_violation("`suspect` fails")?;
    let rule = "the claims of a suspected node must stay, because it is still in the member list";
    nodes.ensure_claimed(2, 0, &[], rule).await?;
    let removed = members.remove_node(&seen).await;
    removed.or_violation("`remove_node` fails")?;
    let rule = "the claims of a node that is not in the member list must be taken over";
    let taken = nodes.ensure_claimed(2, 0, &due, rule).await?;
    // It comes back, and is late.
    let join = members.join(&node(1)).await;
    join.or_violation("`join` fails")?;
    let late: Vec<_> = taken.iter().map(|notice| (*notice, None)).collect();
    nodes.finish(1, &late).await?;
    let rule = "a claim that was taken over must not belong to the earlier node any more";
    nodes.ensure_claimed(1, 0, &[], rule).await?;
    nodes.ensure_claimed(2, 0, &due, rule).await?;
    let leave = members.leave(&node(2)).await;
    leave.or_violation("`leave` fails")?;
    let rule = "the claims of a node that left must be taken over";
    nodes.ensure_claimed(1, 0, &due, rule).await?;
    Ok(CheckVerdict::Passed)
}

pub(super) async fn a_finished_notice_is_planned_or_removed(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let store = &*store;
    let nodes = claimers!(store);
    let due = [1, 2, 3].map(|number| (number, None));
    add_planned(store, &nodes, &due).await?;
    let rule = "a notice must be claimable if it is due";
    let claimed = nodes.ensure_claimed(1, 0, &due, rule).await?;
    let of = |number: u128| {
        let notice = claimed.iter().find(|notice| notice.key == id(number));
        notice.copied().or_violation("a notice is missing")
    };
    let (first, second, third) = (of(1)?, of(2)?, of(3)?);
    let unknown = ExpiryNotice::new(id(9), at(9_000), at(0));
    nodes.finish(2, &[(first, None), (second, Some(0))]).await?;
    let rule = "a notice that another node claimed must not be finished";
    nodes.ensure_claimed(2, 0, &[], rule).await?;
    nodes.ensure_claimed(1, 0, &due, rule).await?;
    let other = ExpiryNotice::new(id(3), at(8_999), third.since);
    let finished = [
        (first, Some(LARGE + 1)),
        (unknown, Some(0)),
        (other, Some(0)),
        (second, None),
    ];
    nodes.finish(1, &finished).await?;
    let rule = "a notice of another expiry must not be finished";
    nodes.ensure_claimed(2, LARGE, &[], rule).await?;
    nodes.ensure_claimed(1, LARGE, &[(3, None)], rule).await?;
    let rule = "a finished notice must be free from the time for which it is planned, or removed";
    let planned = [(1, Some(LARGE + 1))];
    let again = nodes.ensure_claimed(2, LARGE + 1, &planned, rule).await?;
    ensure!(
        again[0].expires == first.expires && again[0].since == first.since,
        "a planned notice must keep its expiry and `since`; got {again:?} after {first:?}"
    );
    nodes.finish(2, &[(again[0], Some(5))]).await?;
    nodes.finish(2, &[(again[0], None)]).await?;
    nodes.finish(1, &[(first, None)]).await?;
    let rule = "a notice that is not claimed must not be finished";
    nodes.ensure_claimed(2, 4, &[], rule).await?;
    nodes.ensure_claimed(2, 5, &[(1, Some(5))], rule).await?;
    // An expiry that was changed while its notice was claimed, and claimed again by the same node.
    let update = store
        .update(&id(3), &ending(Some(7_000)), &WriteOptions::new())
        .await;
    update.or_violation("`update` fails")?;
    nodes.ensure_claimed(1, 5, &[(3, None)], rule).await?;
    nodes.finish(1, &[(third, None)]).await?;
    let rule = "a notice must not be finished if its expiry was changed since";
    nodes.ensure_claimed(1, 5, &[(3, None)], rule).await?;
    nodes.ensure_claimed(2, 5, &[(1, Some(5))], rule).await?;
    Ok(CheckVerdict::Passed)
}

pub(super) async fn claims_of_notices_are_not_changes(store: Arc<dyn KeyStore>) -> CheckResult {
    let store = &*store;
    let nodes = claimers!(store);
    let records = [1, 2].map(|number| dated(number, 9_000));
    for record in &records {
        add(store, record).await?;
    }
    let mut since = None;
    logged(store, &mut since).await?;
    let entries = match store.audit() {
        Some(_) => whole_log(store).await?.len(),
        None => 0,
    };
    let both = [(1, None), (2, None)];
    let rule = "a key that expires must have a notice";
    let claimed = nodes.ensure_claimed(1, 0, &both, rule).await?;
    let finished = [(claimed[0], Some(3)), (claimed[1], None)];
    nodes.finish(1, &finished).await?;
    ensure_not_logged(store, &mut since, "a claim that is finished").await?;
    for record in &records {
        ensure_stored(store, record, "a notice must not change its record").await?;
    }
    if store.audit().is_some() {
        let log = whole_log(store).await?;
        ensure!(
            log.len() == entries,
            "neither a claim nor its end is audited; got {log:?}"
        );
    }
    Ok(CheckVerdict::Passed)
}

pub(super) async fn racing_claims_give_a_notice_to_one_node(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let nodes = claimers!(&*store);
    for number in 1..=40 {
        add(&*store, &dated(number, 9_000)).await?;
    }
    let mut tasks = JoinSet::new();
    for number in 1..=NODES {
        let join = nodes.members.join(&node(number)).await;
        join.or_violation("`join` fails")?;
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            let nodes = store.expiry_notices().or_violation("no notices")?;
            let mut keys = Vec::new();
            loop {
                let claim = nodes.claim_notices(&node(number), at(0), 3).await;
                let claimed = claim.or_violation("`claim_notices` fails")?;
                if claimed.is_empty() {
                    return Ok(keys);
                }
                keys.extend(claimed.iter().map(|notice| notice.key));
                let finished: Vec<_> = claimed.iter().map(|notice| (*notice, None)).collect();
                let finish = nodes.finish_notices(&node(number), &finished).await;
                finish.or_violation("`finish_notices` fails")?;
            }
        });
    }
    let mut keys: Vec<_> = all(tasks).await?.into_iter().flatten().collect();
    keys.sort_unstable();
    let expected: Vec<_> = (1..=40).map(id).collect();
    ensure!(
        keys == expected,
        "of nodes that race, one must get each notice, once; the notices of 40 keys were claimed for {keys:?}"
    );
    Ok(CheckVerdict::Passed)
}

pub(super) async fn an_expiry_that_changes_in_a_race_has_its_notice(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    const LAST: i64 = 5_200;
    let nodes = claimers!(&*store);
    add(&*store, &dated(1, 5_000)).await?;
    let writer = Arc::clone(&store);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        for end in 5_001..=LAST {
            let update = writer
                .update(&id(1), &ending(Some(end)), &WriteOptions::new())
                .await;
            update.or_violation("`update` fails while notices are claimed")?;
        }
        Ok(())
    });
    let mut told = BTreeSet::new();
    loop {
        // The last claim begins after the last write.
        let is_last = tasks.is_empty();
        let claimed = nodes.claim(1, 0, 10).await?;
        let finished: Vec<_> = claimed.iter().map(|notice| (*notice, None)).collect();
        nodes.finish(1, &finished).await?;
        told.extend(claimed.iter().map(|notice| notice.expires));
        if is_last {
            break;
        }
        tokio::task::yield_now().await;
        if let Some(joined) = tasks.try_join_next() {
            joined.map_err(|error| Violation(format!("a call panics: {error}")))??;
        }
    }
    ensure!(
        told.contains(&at(LAST)),
        "the notice of the last expiry must be claimed if it is finished; the last one claimed was {:?}",
        told.last()
    );
    Ok(CheckVerdict::Passed)
}
