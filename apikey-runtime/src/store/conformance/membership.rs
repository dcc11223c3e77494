//! Checks of membership.

use std::sync::Arc;

use super::records::add;
use super::samples::plain;
use super::{CheckResult, CheckVerdict, OrViolation, Violation, ensure};
use crate::store::{
    ChangeSet, ChangedItem, Changes, Cursor, KeyStore, MemberList, Membership, Node, NodeId,
};

const NO_MEMBERSHIP: CheckVerdict =
    CheckVerdict::Skipped("the store does not keep a member list: `membership` returns `None`");

/// Returns the membership, or skips the check if the store does not have it.
macro_rules! membership {
    ($store:expr) => {
        match $store.membership() {
            Some(nodes) => nodes,
            None => return Ok(NO_MEMBERSHIP),
        }
    };
}

/// Joins two nodes.
async fn two_nodes(nodes: &dyn Membership) -> Result<(NodeId, NodeId), Violation> {
    let (one, two) = (NodeId::from_u128(1), NodeId::from_u128(u128::MAX));
    for node in [one, two] {
        nodes.join(&node).await.or_violation("`join` fails")?;
    }
    Ok((one, two))
}

async fn members_of(nodes: &dyn Membership) -> Result<MemberList, Violation> {
    nodes.members().await.or_violation("`members` fails")
}

async fn listed(nodes: &dyn Membership, node: NodeId) -> Result<Option<Node>, Violation> {
    let nodes = members_of(nodes).await?.nodes;
    Ok(nodes.into_iter().find(|listed| listed.id == node))
}

async fn there(nodes: &dyn Membership, node: NodeId) -> Result<Node, Violation> {
    let listed = listed(nodes, node).await?;
    listed.or_violation("a node that joined must be listed")
}

async fn changes(
    store: &dyn KeyStore,
    since: Option<&Cursor>,
    node: Option<&NodeId>,
) -> Result<Changes, Violation> {
    let log = store.change_log();
    let log = log.or_violation("a store with a member list must have a change log")?;
    let changes = log.changes(since, node).await;
    changes.or_violation("`changes` fails")
}

async fn is_member(store: &dyn KeyStore, node: NodeId) -> Result<bool, Violation> {
    Ok(changes(store, None, Some(&node)).await?.member)
}

pub(super) async fn a_node_that_joins_is_listed_and_a_member(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let store = &*store;
    let nodes = membership!(store);
    let stranger = NodeId::from_u128(7);
    let (one, two) = two_nodes(nodes).await?;
    for node in [one, two] {
        let row = there(nodes, node).await?;
        ensure!(!row.suspected, "a node that joined must not be suspected");
        ensure!(
            is_member(store, node).await?,
            "a node that joined must be a member"
        );
    }
    ensure!(
        !is_member(store, stranger).await? && !changes(store, None, None).await?.member,
        "a node that did not join must not be a member"
    );
    ensure!(
        members_of(nodes).await?.nodes.len() == 2,
        "the list must hold exactly the nodes that joined"
    );
    Ok(CheckVerdict::Passed)
}

/// So a change log that lost the join differs from one that did not.
pub(super) async fn joining_takes_an_epoch_and_names_no_key(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let store = &*store;
    let nodes = membership!(store);
    let (one, _) = two_nodes(nodes).await?;
    let before = changes(store, None, Some(&one)).await?.cursor;
    let heartbeat = there(nodes, one).await?.heartbeat;
    nodes.join(&one).await.or_violation("`join` fails")?;
    let after = changes(store, Some(&before), Some(&one)).await?;
    ensure!(
        after.cursor.epoch == before.epoch + 1
            && after.set == ChangeSet::Entries(vec![ChangedItem::Member]),
        "`join` must take the next epoch and log that a node joined; went from {before:?} to {after:?}"
    );
    ensure!(
        there(nodes, one).await?.heartbeat > heartbeat,
        "`join` must increment the heartbeat"
    );
    let listed = members_of(nodes).await?;
    ensure!(
        listed.cursor == after.cursor,
        "the list must have the cursor of the change log; got {:?} and {:?}",
        listed.cursor,
        after.cursor
    );
    ensure!(
        listed.longest_lease >= after.lease,
        "the longest lease must not be shorter than the current one"
    );
    Ok(CheckVerdict::Passed)
}

pub(super) async fn an_acknowledgement_applies_to_the_change_log_of_its_cursor(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let store = &*store;
    let nodes = membership!(store);
    let (one, two) = two_nodes(nodes).await?;
    add(store, &plain(1)).await?;
    let cursor = changes(store, None, Some(&one)).await?.cursor;
    add(store, &plain(2)).await?;
    let acknowledge = async |cursor: &Cursor| {
        let before = there(nodes, one).await?;
        let done = nodes.acknowledge(&one, cursor).await;
        done.or_violation("`acknowledge` fails")?;
        let after = there(nodes, one).await?;
        ensure!(
            after.heartbeat > before.heartbeat,
            "`acknowledge` must increment the heartbeat"
        );
        Ok::<_, Violation>(after.acknowledged)
    };
    let noted = acknowledge(&cursor).await?;
    ensure!(
        noted == cursor.epoch,
        "an acknowledgement of epoch {} must be stored; got {noted}",
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
            "{stranger:?} is of another change log and must not be stored; got {noted}"
        );
    }
    ensure!(
        there(nodes, two).await?.acknowledged < cursor.epoch,
        "a node must acknowledge for itself only"
    );
    let nobody = NodeId::from_u128(7);
    let done = nodes.acknowledge(&nobody, &cursor).await;
    done.or_violation("`acknowledge` of an unlisted node fails")?;
    ensure!(
        listed(nodes, nobody).await?.is_none(),
        "`acknowledge` must not list a node"
    );
    Ok(CheckVerdict::Passed)
}

pub(super) async fn a_suspected_node_is_not_a_member_until_it_joins_again(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let store = &*store;
    let nodes = membership!(store);
    let (one, two) = two_nodes(nodes).await?;
    let seen = there(nodes, one).await?;
    nodes.join(&one).await.or_violation("`join` fails")?;
    nodes.suspect(&seen).await.or_violation("`suspect` fails")?;
    ensure!(
        is_member(store, one).await?,
        "a node must not be suspected if its heartbeat changed since it was seen"
    );
    let seen = there(nodes, one).await?;
    nodes.suspect(&seen).await.or_violation("`suspect` fails")?;
    ensure!(
        there(nodes, one).await?.suspected && !is_member(store, one).await?,
        "a suspected node must not be a member"
    );
    ensure!(
        is_member(store, two).await?,
        "`suspect` must not affect other nodes"
    );
    let cursor = changes(store, None, None).await?.cursor;
    let done = nodes.acknowledge(&one, &cursor).await;
    done.or_violation("`acknowledge` fails")?;
    ensure!(
        there(nodes, one).await?.suspected,
        "`acknowledge` must not end a suspicion, because the call may have been delayed"
    );
    nodes.join(&one).await.or_violation("`join` fails")?;
    ensure!(is_member(store, one).await?, "`join` must end a suspicion");
    Ok(CheckVerdict::Passed)
}

pub(super) async fn only_a_node_that_stayed_suspected_is_removed(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let store = &*store;
    let nodes = membership!(store);
    let (one, two) = two_nodes(nodes).await?;
    let trusted = there(nodes, one).await?;
    nodes
        .remove_node(&trusted)
        .await
        .or_violation("`remove_node` fails")?;
    ensure!(
        listed(nodes, one).await?.is_some(),
        "a node that is not suspected must not be removed"
    );
    nodes
        .suspect(&trusted)
        .await
        .or_violation("`suspect` fails")?;
    let suspected = there(nodes, one).await?;
    nodes.join(&one).await.or_violation("`join` fails")?;
    let back = there(nodes, one).await?;
    nodes.suspect(&back).await.or_violation("`suspect` fails")?;
    let dismissed = nodes.remove_node(&suspected).await;
    dismissed.or_violation("`remove_node` fails")?;
    ensure!(
        listed(nodes, one).await?.is_some(),
        "a node that joined again must not be removed for an earlier suspicion"
    );
    let again = there(nodes, one).await?;
    nodes
        .remove_node(&again)
        .await
        .or_violation("`remove_node` fails")?;
    ensure!(
        listed(nodes, one).await?.is_none(),
        "a node that stayed suspected must be removed"
    );
    let first_beat = there(nodes, two).await?.heartbeat;
    nodes.leave(&two).await.or_violation("`leave` fails")?;
    nodes.join(&two).await.or_violation("`join` fails")?;
    ensure!(
        there(nodes, two).await?.heartbeat != first_beat,
        "a node that left and joins again must not repeat a heartbeat; begin with a random one"
    );
    nodes.leave(&two).await.or_violation("`leave` fails")?;
    nodes
        .leave(&two)
        .await
        .or_violation("a second `leave` fails")?;
    ensure!(
        members_of(nodes).await?.nodes.is_empty(),
        "a node that left must not be listed"
    );
    Ok(CheckVerdict::Passed)
}
