//! What changed, and the nodes that follow it.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use super::door::{RUN, random};
use super::link::DEADLINE;
use super::script::{self, Run};
use super::server::Server;
use crate::clock::millis_u64;
use crate::error::StoreError;
use crate::key::KeyId;
use crate::store::{ChangeSet, Changes, Cursor, MemberList, Node, NodeId};

/// See [`KeyStore::changes`](crate::KeyStore::changes).
pub(super) async fn changes(
    server: &Server,
    since: Option<&Cursor>,
    node: Option<&NodeId>,
) -> Result<Changes, StoreError> {
    let (epoch, tag, run) = match since.and_then(parts) {
        Some((epoch, tag, run)) => (epoch.to_string(), tag, run),
        None => (String::new(), &[][..], &[][..]),
    };
    let asked = Run::new(&script::CHANGES)
        .keys(server.names.of_history())
        .argument(epoch)
        .argument(tag)
        .argument(node.map_or("", NodeId::as_str));
    let doing = "reading the log of changes";
    let answer = server
        .founded(&server.polls, doing, asked, DEADLINE)
        .await?;
    let [epoch, tag, lease, member, known, ids @ ..] = answer.rest.as_slice() else {
        return Err(server.broken("the history is incomplete"));
    };
    let lease = server.length(lease)?;
    server.lease.store(millis_u64(lease), Ordering::Relaxed);
    // What the log says of another run of a server is not asked for: that run may have told of
    // changes which this one has lost.
    let history = if known == b"known" && *run == *answer.incarnation {
        ChangeSet::Entries(ids.iter().filter_map(|id| KeyId::from_ascii(id)).collect())
    } else {
        ChangeSet::Resync
    };
    let cursor = cursor(server, epoch, tag, &answer.incarnation)?;
    Ok(Changes::new(history, cursor, lease).for_member(member == b"1"))
}

/// A cursor's epoch, its tag in the log, and the run of the server that gave it.
fn parts(cursor: &Cursor) -> Option<(u64, &[u8], &[u8])> {
    let (tag, run) = cursor
        .tag
        .split_at_checked(cursor.tag.len().checked_sub(RUN)?)?;
    Some((cursor.epoch, tag, run))
}

fn cursor(server: &Server, epoch: &[u8], tag: &[u8], run: &[u8]) -> Result<Cursor, StoreError> {
    let epoch = number(epoch).ok_or_else(|| server.broken("`epoch` is no number"))?;
    let tag = [tag, run].concat();
    Ok(Cursor { epoch, tag })
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// See [`KeyStore::join`](crate::KeyStore::join).
pub(super) async fn join(server: &Server, node: &NodeId) -> Result<(), StoreError> {
    // Leaves room to count.
    let heartbeat = u64::from_be_bytes(random()?) >> 2;
    let run = server
        .write(&script::JOIN, 2)?
        .key(server.names.members())
        .argument(node.as_str())
        .argument(heartbeat);
    let doing = "joining the nodes";
    server.founded(&server.polls, doing, run, DEADLINE).await?;
    Ok(())
}

/// See [`KeyStore::acknowledge`](crate::KeyStore::acknowledge).
pub(super) async fn acknowledge(
    server: &Server,
    node: &NodeId,
    cursor: &Cursor,
) -> Result<(), StoreError> {
    // A cursor of no store's is at no place in the log.
    let (epoch, tag, _) = parts(cursor).unwrap_or((0, &[], &[]));
    let run = server
        .write(&script::ACKNOWLEDGE, 2)?
        .key(server.names.members())
        .argument(node.as_str())
        .argument(epoch)
        .argument(tag);
    let doing = "acknowledging changes";
    server.founded(&server.polls, doing, run, DEADLINE).await?;
    Ok(())
}

/// See [`KeyStore::members`](crate::KeyStore::members).
pub(super) async fn nodes(server: &Server) -> Result<MemberList, StoreError> {
    let run = Run::new(&script::NODES).keys(server.names.of_history());
    let doing = "listing the nodes";
    let answer = server.founded(&server.polls, doing, run, DEADLINE).await?;
    let [epoch, tag, longest, fields @ ..] = answer.rest.as_slice() else {
        return Err(server.broken("the history is incomplete"));
    };
    let cursor = cursor(server, epoch, tag, &answer.incarnation)?;
    Ok(MemberList::new(
        cursor,
        server.length(longest)?,
        listed(fields),
    ))
}

/// The nodes in the fields of their hash and the values of those. What is not of a node is none: a
/// node that cannot be read has no beat, and so is no member either.
fn listed(fields: &[Vec<u8>]) -> Vec<Node> {
    let mut nodes: BTreeMap<NodeId, (u64, Option<u64>, bool)> = BTreeMap::new();
    for pair in fields.chunks_exact(2) {
        let Some((kind, id)) = pair[0].split_first() else {
            continue;
        };
        let id = std::str::from_utf8(id).ok().and_then(|id| id.parse().ok());
        let Some(id) = id else { continue };
        let (acknowledged, heartbeat, suspected) = nodes.entry(id).or_default();
        match kind {
            b'a' => *acknowledged = number(&pair[1]).unwrap_or(0),
            b'b' => *heartbeat = Some(number(&pair[1]).unwrap_or(0)),
            b's' => *suspected = true,
            _ => {}
        }
    }
    let whole = |(id, (acknowledged, heartbeat, suspected))| {
        Option::map(heartbeat, |heartbeat| {
            Node::new(id, acknowledged, heartbeat, suspected)
        })
    };
    nodes.into_iter().filter_map(whole).collect()
}

/// See [`KeyStore::suspect`](crate::KeyStore::suspect).
pub(super) async fn suspect(server: &Server, seen: &Node) -> Result<(), StoreError> {
    let run = Run::new(&script::SUSPECT);
    of_seen(server, "suspecting a node", run, seen).await
}

/// See [`KeyStore::dismiss`](crate::KeyStore::dismiss).
pub(super) async fn remove_node(server: &Server, seen: &Node) -> Result<(), StoreError> {
    let run = Run::new(&script::DISMISS);
    of_seen(server, "dismissing a node", run, seen).await
}

async fn of_seen(server: &Server, doing: &str, run: Run, seen: &Node) -> Result<(), StoreError> {
    let run = run
        .key(server.names.members())
        .argument(seen.id.as_str())
        .argument(seen.heartbeat);
    server.polls.run(doing, &run, DEADLINE).await?;
    Ok(())
}

/// See [`KeyStore::leave`](crate::KeyStore::leave).
pub(super) async fn leave(server: &Server, node: &NodeId) -> Result<(), StoreError> {
    let doing = "leaving the nodes";
    let mut remove = redis::cmd("HDEL");
    remove.arg(server.names.members());
    for kind in ["b", "a", "s"] {
        remove.arg(format!("{kind}{node}"));
    }
    let (value, _) = server.polls.call(doing, [remove], DEADLINE).await?.one();
    value
        .extract_error()
        .map_err(|error| super::error::Failure::of(doing, error))?;
    Ok(())
}
