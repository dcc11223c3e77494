//! Checks of the notices before the end of keys: which changes of records add, replace, keep and remove them.

use std::sync::Arc;

use super::bulk::purge;
use super::live_keys::ending;
use super::owners::{leaving, mark_all, revoke_keys};
use super::records::add;
use super::samples::{at, because, id, patches, plain};
use super::{CheckResult, CheckVerdict, OrViolation, Violation, ensure};
use crate::record::{KeyPatch, KeyRecord};
use crate::store::{ExpiryNotice, ExpiryNotices, KeyStore, Membership, NodeId, WriteOptions};

pub(super) const NO_NOTICES: CheckVerdict =
    CheckVerdict::Skipped("the store does not keep notices: `expiry_notices` returns `None`");

/// Returns the nodes 1 and 2, or skips the check if the store does not keep notices.
macro_rules! claimers {
    ($store:expr) => {
        match $store.expiry_notices() {
            Some(notices) => {
                $crate::store::conformance::notices::Claimers::join($store, notices).await?
            }
            None => return Ok($crate::store::conformance::notices::NO_NOTICES),
        }
    };
}
pub(super) use claimers;

/// More notices than the few of a check.
const MANY: u32 = 100;

/// Nodes that claim and finish notices.
pub(super) struct Claimers<'a> {
    pub(super) notices: &'a dyn ExpiryNotices,
    pub(super) members: &'a dyn Membership,
}

pub(super) fn node(number: u128) -> NodeId {
    NodeId::from_u128(number)
}

/// Returns a record that expires.
pub(super) fn dated(number: u128, expires: i64) -> KeyRecord {
    let mut record = plain(number);
    record.expires = Some(at(expires));
    record
}

impl<'a> Claimers<'a> {
    /// Joins the nodes 1 and 2.
    pub(super) async fn join(
        store: &'a dyn KeyStore,
        notices: &'a dyn ExpiryNotices,
    ) -> Result<Self, Violation> {
        let rule = "a store with notices must have a member list";
        let members = store.membership().or_violation(rule)?;
        for number in [1, 2] {
            let join = members.join(&node(number)).await;
            join.or_violation("`join` fails")?;
        }
        Ok(Self { notices, members })
    }

    pub(super) async fn claim(
        &self,
        number: u128,
        now: i64,
        limit: u32,
    ) -> Result<Vec<ExpiryNotice>, Violation> {
        let claim = self
            .notices
            .claim_notices(&node(number), at(now), limit)
            .await;
        claim.or_violation("`claim_notices` fails")
    }

    /// Claims notices, which must be those of these keys, planned for these times, in the order of the times.
    pub(super) async fn ensure_claimed(
        &self,
        number: u128,
        now: i64,
        expected: &[(u128, Option<i64>)],
        rule: &str,
    ) -> Result<Vec<ExpiryNotice>, Violation> {
        let claimed = self.claim(number, now, MANY).await?;
        ensure_are(&claimed, expected, rule)?;
        Ok(claimed)
    }

    pub(super) async fn finish(
        &self,
        number: u128,
        finished: &[(ExpiryNotice, Option<i64>)],
    ) -> Result<(), Violation> {
        let finished: Vec<_> = finished
            .iter()
            .map(|(notice, planned)| (*notice, planned.map(at)))
            .collect();
        let finish = self.notices.finish_notices(&node(number), &finished).await;
        finish.or_violation("`finish_notices` fails")
    }
}

/// Checks that notices are those of these keys, planned for these times, in the order of the times.
pub(super) fn ensure_are(
    found: &[ExpiryNotice],
    expected: &[(u128, Option<i64>)],
    rule: &str,
) -> Result<(), Violation> {
    let mut keys: Vec<_> = found.iter().map(|one| (one.planned, one.key)).collect();
    let is_sorted = keys.is_sorted_by_key(|(planned, _)| *planned);
    keys.sort_unstable();
    let planned = |(number, planned): &(u128, Option<i64>)| (planned.map(at), id(*number));
    let mut expected: Vec<_> = expected.iter().map(planned).collect();
    expected.sort_unstable();
    ensure!(
        is_sorted && keys == expected,
        "{rule}; expected {expected:?} in the order of the times, got {found:?}"
    );
    Ok(())
}

async fn change(store: &dyn KeyStore, number: u128, patch: &KeyPatch) -> Result<(), Violation> {
    let options = WriteOptions::new();
    let update = store.update(&id(number), patch, &options).await;
    update.or_violation("`update` fails")
}

pub(super) async fn a_key_that_expires_has_a_notice(store: Arc<dyn KeyStore>) -> CheckResult {
    let store = &*store;
    let nodes = claimers!(store);
    let ends = [9_000, i64::MIN, i64::MAX];
    add(store, &plain(4)).await?;
    for (number, end) in (1..).zip(ends) {
        add(store, &dated(number, end)).await?;
    }
    let rule = "a record must have a notice that is not planned, if and only if it expires";
    let expected = [1, 2, 3].map(|number| (number, None));
    let claimed = nodes.ensure_claimed(1, i64::MIN, &expected, rule).await?;
    for (number, end) in (1..).zip(ends) {
        let notice = claimed.iter().find(|notice| notice.key == id(number));
        ensure!(
            notice.is_some_and(|notice| notice.expires == at(end)),
            "a notice must have the expiry of its record, {end}; got {notice:?}"
        );
    }
    let old = claimed
        .iter()
        .find(|notice| notice.since < at(1_500_000_000_000));
    ensure!(
        old.is_none(),
        "`since` must be when the expiry was set, by the store's clock; got {old:?}"
    );
    Ok(CheckVerdict::Passed)
}

pub(super) async fn a_changed_expiry_replaces_its_notice(store: Arc<dyn KeyStore>) -> CheckResult {
    let store = &*store;
    let nodes = claimers!(store);
    let rule =
        "a changed expiry must replace the notice by one that is neither planned nor claimed";
    add(store, &dated(1, 5_000)).await?;
    let mut last = nodes.ensure_claimed(1, 0, &[(1, None)], rule).await?[0];
    // Later, earlier, and both once more.
    for end in [9_000, 4_000, i64::MAX, 4_001] {
        nodes.finish(1, &[(last, Some(2_000))]).await?;
        let planned = [(1, Some(2_000))];
        let claimed = nodes.ensure_claimed(1, 2_000, &planned, rule).await?[0];
        change(store, 1, &ending(Some(end))).await?;
        let replaced = nodes.ensure_claimed(2, 0, &[(1, None)], rule).await?[0];
        ensure!(
            replaced.expires == at(end) && replaced.since >= claimed.since,
            "the notice must be of the expiry {end}, and of now; got {replaced:?} after {claimed:?}"
        );
        // The first node's claim has ended with the notice.
        nodes.finish(1, &[(claimed, None)]).await?;
        let rule = "a notice that replaced another must not be finished with it";
        nodes.ensure_claimed(2, 0, &[(1, None)], rule).await?;
        nodes.finish(2, &[(replaced, Some(0))]).await?;
        last = nodes.ensure_claimed(1, 0, &[(1, Some(0))], rule).await?[0];
    }
    Ok(CheckVerdict::Passed)
}

pub(super) async fn a_removed_expiry_removes_its_notice(store: Arc<dyn KeyStore>) -> CheckResult {
    let store = &*store;
    let nodes = claimers!(store);
    add(store, &dated(1, 5_000)).await?;
    let rule = "a key without an expiry must not have a notice";
    let claimed = nodes.ensure_claimed(1, 0, &[(1, None)], rule).await?[0];
    change(store, 1, &ending(None)).await?;
    nodes.finish(1, &[(claimed, Some(0))]).await?;
    for number in [1, 2] {
        nodes.ensure_claimed(number, i64::MAX, &[], rule).await?;
    }
    let rule = "a key that gets an expiry must get a notice, which is not planned";
    change(store, 1, &ending(Some(5_000))).await?;
    let claimed = nodes.ensure_claimed(2, 0, &[(1, None)], rule).await?[0];
    nodes.finish(2, &[(claimed, None)]).await?;
    change(store, 1, &ending(Some(5_001))).await?;
    nodes.ensure_claimed(1, 0, &[(1, None)], rule).await?;
    Ok(CheckVerdict::Passed)
}

pub(super) async fn other_changes_keep_a_notice(store: Arc<dyn KeyStore>) -> CheckResult {
    let store = &*store;
    let nodes = claimers!(store);
    let rule =
        "a write that does not change the expiry must keep the notice, its time and its claim";
    for number in [1, 2, 3] {
        add(store, &dated(number, 9_000)).await?;
    }
    let all = [1, 2, 3].map(|number| (number, None));
    let first = nodes.ensure_claimed(1, 0, &all, rule).await?;
    // One is planned, another is still claimed.
    for notice in first.iter().filter(|notice| notice.key != id(2)) {
        nodes.finish(1, &[(*notice, Some(5_000))]).await?;
    }
    let others = patches()
        .into_iter()
        .filter(|patch| patch.expires.is_none());
    for patch in others.chain([ending(Some(9_000))]) {
        for number in [1, 2] {
            change(store, number, &patch).await?;
        }
        let rule = format!("{rule}: {patch:?}");
        nodes.ensure_claimed(2, 4_999, &[], &rule).await?;
        nodes.ensure_claimed(1, 4_999, &[(2, None)], &rule).await?;
    }
    let revoke = store
        .revoke(&id(3), &because("lost"), &WriteOptions::new())
        .await;
    revoke.or_violation("`revoke` fails")?;
    // The owner of the sample patches.
    if let Some(owners) = store.owners() {
        revoke_keys(owners, "o'wner", &leaving(4_000, "left")).await?;
        mark_all(owners).await?;
    }
    let rule = "a revocation must keep the notice, its time and its claim";
    nodes.ensure_claimed(2, 4_999, &[], rule).await?;
    nodes.ensure_claimed(1, 4_999, &[(2, None)], rule).await?;
    let planned = [(1, Some(5_000)), (3, Some(5_000))];
    for notice in nodes.ensure_claimed(2, 5_000, &planned, rule).await? {
        let since = first.iter().find(|first| first.key == notice.key);
        ensure!(
            since.is_some_and(|first| first.since == notice.since),
            "`since` must stay as long as the expiry does; got {notice:?} after {first:?}"
        );
    }
    Ok(CheckVerdict::Passed)
}

pub(super) async fn a_removed_key_has_no_notice(store: Arc<dyn KeyStore>) -> CheckResult {
    let store = &*store;
    let nodes = claimers!(store);
    for number in [1, 2, 3] {
        add(store, &dated(number, 1_000)).await?;
    }
    let rule = "a record that expires must have a notice";
    let all = [1, 2, 3].map(|number| (number, None));
    let claimed = nodes.ensure_claimed(1, 0, &all, rule).await?;
    for notice in claimed.iter().filter(|notice| notice.key != id(2)) {
        nodes.finish(1, &[(*notice, Some(5_000))]).await?;
    }
    add(store, &dated(4, 2_000)).await?;
    let removed = purge(store, at(1_001)).await?;
    ensure!(
        removed.len() == 3,
        "the steps must remove 3 keys; they removed {removed:?}"
    );
    let rule = "a record that is removed must not leave a notice";
    nodes
        .ensure_claimed(2, i64::MAX, &[(4, None)], rule)
        .await?;
    nodes.ensure_claimed(1, i64::MAX, &[], rule).await?;
    let rule = "a new record must have a notice of its own";
    add(store, &dated(2, 8_000)).await?;
    nodes.ensure_claimed(1, 0, &[(2, None)], rule).await?;
    Ok(CheckVerdict::Passed)
}
