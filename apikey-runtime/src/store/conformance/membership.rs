//! Checks of the list of nodes.

use std::sync::Arc;

use super::records::add;
use super::samples::plain;
use super::{CheckResult, CheckVerdict, OrViolation, Violation, ensure};
use crate::store::{ChangeSet, Changes, Cursor, KeyStore, MemberList, Node, NodeId};

const NO_LIST: CheckVerdict =
    CheckVerdict::Skipped("the store keeps no list of nodes: `join` answers `false`");

/// Two nodes that have joined, or the end of the check where the store keeps no list.
macro_rules! two_nodes {
    ($store:expr) => {{
        let (one, two) = (NodeId::from_u128(1), NodeId::from_u128(u128::MAX));
        for node in [one, two] {
            if !$store.join(&node).await.or_violation("`join` fails")? {
                return Ok(NO_LIST);
            }
        }
        (one, two)
    }};
}

async fn roster(store: &dyn KeyStore) -> Result<MemberList, Violation> {
    let roster = store.members().await.or_violation("`nodes` fails")?;
    roster.or_violation("a store whose `join` answers `true` has a list of nodes")
}

async fn listed(store: &dyn KeyStore, node: NodeId) -> Result<Option<Node>, Violation> {
    let nodes = roster(store).await?.nodes;
    Ok(nodes.into_iter().find(|listed| listed.id == node))
}

async fn there(store: &dyn KeyStore, node: NodeId) -> Result<Node, Violation> {
    let listed = listed(store, node).await?;
    listed.or_violation("a node that joined is on the list")
}

async fn changes(
    store: &dyn KeyStore,
    since: Option<&Cursor>,
    node: Option<&NodeId>,
) -> Result<Changes, Violation> {
    let changes = store.changes(since, node).await;
    let changes = changes.or_violation("`changes` fails")?;
    changes.or_violation("a store that keeps a list of nodes keeps a history")
}

async fn is_member(store: &dyn KeyStore, node: NodeId) -> Result<bool, Violation> {
    Ok(changes(store, None, Some(&node)).await?.member)
}

pub(super) async fn a_node_that_joins_is_listed_and_a_member(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let store = &*store;
    let stranger = NodeId::from_u128(7);
    let (one, two) = two_nodes!(store);
    for node in [one, two] {
        let row = there(store, node).await?;
        ensure!(!row.suspected, "a node that joined is not suspected");
        ensure!(
            is_member(store, node).await?,
            "a node that joined is a member"
        );
    }
    ensure!(
        !is_member(store, stranger).await? && !changes(store, None, None).await?.member,
        "who did not join is no member"
    );
    ensure!(
        roster(store).await?.nodes.len() == 2,
        "the list holds those that joined, and no other"
    );
    Ok(CheckVerdict::Passed)
}

/// So that a history which lost the joining is told from one that did not.
pub(super) async fn joining_takes_an_epoch_and_names_no_key(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let store = &*store;
    let (one, _) = two_nodes!(store);
    let before = changes(store, None, Some(&one)).await?.cursor;
    let heartbeat = there(store, one).await?.heartbeat;
    store.join(&one).await.or_violation("`join` fails")?;
    let after = changes(store, Some(&before), Some(&one)).await?;
    ensure!(
        after.cursor.epoch == before.epoch + 1 && after.history == ChangeSet::Entries(Vec::new()),
        "joining takes the next epoch with no key; went from {before:?} to {after:?}"
    );
    ensure!(
        there(store, one).await?.heartbeat > heartbeat,
        "joining again counts the beat up"
    );
    let listed = roster(store).await?;
    ensure!(
        listed.cursor == after.cursor,
        "the list stands where the history stands; {:?} and {:?}",
        listed.cursor,
        after.cursor
    );
    ensure!(
        listed.longest_lease >= after.lease,
        "the longest lease is no shorter than the present one"
    );
    Ok(CheckVerdict::Passed)
}

pub(super) async fn an_acknowledgement_counts_for_the_history_it_names(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let store = &*store;
    let (one, two) = two_nodes!(store);
    add(store, &plain(1)).await?;
    let cursor = changes(store, None, Some(&one)).await?.cursor;
    add(store, &plain(2)).await?;
    let acknowledge = async |cursor: &Cursor| {
        let before = there(store, one).await?;
        let done = store.acknowledge(&one, cursor).await;
        done.or_violation("`acknowledge` fails")?;
        let after = there(store, one).await?;
        ensure!(
            after.heartbeat > before.heartbeat,
            "an acknowledgement counts the beat up"
        );
        Ok::<_, Violation>(after.acknowledged)
    };
    let noted = acknowledge(&cursor).await?;
    ensure!(
        noted == cursor.epoch,
        "epoch {} is noted as {noted}",
        cursor.epoch
    );
    let foreign = Cursor {
        epoch: cursor.epoch + 1,
        tag: cursor.tag.iter().map(|byte| byte ^ 1).collect(),
    };
    for stranger in [
        foreign,
        Cursor {
            epoch: u64::MAX,
            ..cursor.clone()
        },
    ] {
        let noted = acknowledge(&stranger).await?;
        ensure!(
            noted == cursor.epoch,
            "{stranger:?} is of another history, and noted as {noted}"
        );
    }
    ensure!(
        there(store, two).await?.acknowledged < cursor.epoch,
        "a node acknowledges for itself only"
    );
    let nobody = NodeId::from_u128(7);
    let done = store.acknowledge(&nobody, &cursor).await;
    done.or_violation("`acknowledge` fails for a node that is not listed")?;
    ensure!(
        listed(store, nobody).await?.is_none(),
        "an acknowledgement lists nobody"
    );
    Ok(CheckVerdict::Passed)
}

pub(super) async fn a_suspected_node_is_no_member_until_it_joins(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let store = &*store;
    let (one, two) = two_nodes!(store);
    let seen = there(store, one).await?;
    store.join(&one).await.or_violation("`join` fails")?;
    store.suspect(&seen).await.or_violation("`suspect` fails")?;
    ensure!(
        is_member(store, one).await?,
        "a node that has moved since it was seen is not suspected"
    );
    let seen = there(store, one).await?;
    store.suspect(&seen).await.or_violation("`suspect` fails")?;
    ensure!(
        there(store, one).await?.suspected && !is_member(store, one).await?,
        "a suspected node is no member"
    );
    ensure!(
        is_member(store, two).await?,
        "only the node that is meant is suspected"
    );
    let cursor = changes(store, None, None).await?.cursor;
    let done = store.acknowledge(&one, &cursor).await;
    done.or_violation("`acknowledge` fails")?;
    ensure!(
        there(store, one).await?.suspected,
        "an acknowledgement, which may have been long on its way, takes no suspicion away"
    );
    store.join(&one).await.or_violation("`join` fails")?;
    ensure!(
        is_member(store, one).await?,
        "joining takes the suspicion away"
    );
    Ok(CheckVerdict::Passed)
}

pub(super) async fn only_a_node_that_stayed_suspected_is_dismissed(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let store = &*store;
    let (one, two) = two_nodes!(store);
    let trusted = there(store, one).await?;
    store
        .remove_node(&trusted)
        .await
        .or_violation("`dismiss` fails")?;
    ensure!(
        listed(store, one).await?.is_some(),
        "a node that nobody suspects is not dismissed"
    );
    store
        .suspect(&trusted)
        .await
        .or_violation("`suspect` fails")?;
    let suspected = there(store, one).await?;
    store.join(&one).await.or_violation("`join` fails")?;
    let back = there(store, one).await?;
    store.suspect(&back).await.or_violation("`suspect` fails")?;
    let dismissed = store.remove_node(&suspected).await;
    dismissed.or_violation("`dismiss` fails")?;
    ensure!(
        listed(store, one).await?.is_some(),
        "a node that came back in between is not dismissed for its first suspicion"
    );
    let again = there(store, one).await?;
    store
        .remove_node(&again)
        .await
        .or_violation("`dismiss` fails")?;
    ensure!(
        listed(store, one).await?.is_none(),
        "a node that stayed suspected is dismissed"
    );
    let first_beat = there(store, two).await?.heartbeat;
    store.leave(&two).await.or_violation("`leave` fails")?;
    store.join(&two).await.or_violation("`join` fails")?;
    ensure!(
        there(store, two).await?.heartbeat != first_beat,
        "a node that left and comes back has a beat that was not seen before; begin with a random one"
    );
    store.leave(&two).await.or_violation("`leave` fails")?;
    store
        .leave(&two)
        .await
        .or_violation("`leave` fails twice")?;
    ensure!(
        roster(store).await?.nodes.is_empty(),
        "who leaves is not listed"
    );
    Ok(CheckVerdict::Passed)
}
