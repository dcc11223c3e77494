//! The nodes that follow the history.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::RedisStore;
use super::connection::{DEADLINE, LONG_DEADLINE};
use super::connector::random;
use super::error::RedisFailure;
use super::history::{cursor, number, parts};
use super::script::{self, ScriptCall};
use super::server::{SCHEMA, Server, answer};
use crate::error::StoreError;
use crate::store::schema::Opening;
use crate::store::{Cursor, MemberList, Membership, Node, NodeId, PROTOCOL};

#[async_trait]
impl Membership for RedisStore {
    async fn join(&self, node: &NodeId) -> Result<(), StoreError> {
        join(&*self.server()?, node).await
    }

    async fn acknowledge(&self, node: &NodeId, cursor: &Cursor) -> Result<(), StoreError> {
        let server = self.server()?;
        acknowledge(&server, node, cursor).await?;
        // The acknowledgement is written, and other nodes see it already.
        let trim = async { Ok(trim(&server).await? >= TRIM_STEP) };
        server.trim_schedule.run(trim).await;
        Ok(())
    }

    async fn members(&self) -> Result<MemberList, StoreError> {
        nodes(&*self.server()?).await
    }

    async fn members_before_start(&self) -> Result<MemberList, StoreError> {
        nodes(&self.open(Opening::LOOK).await?).await
    }

    async fn suspect(&self, seen: &Node) -> Result<(), StoreError> {
        suspect(&*self.server()?, seen).await
    }

    async fn remove_node(&self, seen: &Node) -> Result<(), StoreError> {
        remove_node(&*self.server()?, seen).await
    }

    async fn leave(&self, node: &NodeId) -> Result<(), StoreError> {
        leave(&*self.server()?, node).await
    }
}

async fn join(server: &Server, node: &NodeId) -> Result<(), StoreError> {
    // Leaves room to count.
    let heartbeat = u64::from_be_bytes(random()?) >> 2;
    let run = server
        .write(&script::JOIN, 2)?
        .key(server.names.members())
        .argument(node.as_str())
        .argument(heartbeat)
        .argument(SCHEMA)
        .argument(PROTOCOL);
    let doing = "joining the nodes";
    server
        .run_with_history(&server.polls, doing, run, LONG_DEADLINE)
        .await?;
    Ok(())
}

async fn acknowledge(server: &Server, node: &NodeId, cursor: &Cursor) -> Result<(), StoreError> {
    // A cursor that is not a store's own has no place in the log.
    let (epoch, tag, _) = parts(cursor).unwrap_or((0, &[], &[]));
    let run = server
        .write(&script::ACKNOWLEDGE, 2)?
        .key(server.names.members())
        .argument(node.as_str())
        .argument(epoch)
        .argument(tag);
    let doing = "acknowledging changes";
    server
        .run_with_history(&server.polls, doing, run, LONG_DEADLINE)
        .await?;
    Ok(())
}

/// Removes entries of the log that every node has acknowledged, and returns how many.
async fn trim(server: &Server) -> Result<u64, StoreError> {
    let run = ScriptCall::new(&script::TRIM_LOG).keys(server.names.of_history());
    let doing = "trimming the log of changes";
    let answered = server.polls.run(doing, &run, DEADLINE).await?;
    let answer = answer(doing, answered)?;
    let removed = answer.rest.first().and_then(|removed| number(removed));
    Ok(removed.unwrap_or(0))
}

/// What a trim removes at least, unless less is left: it takes whole blocks of the stream, of a thousand entries at most.
const TRIM_STEP: u64 = 900;

async fn nodes(server: &Server) -> Result<MemberList, StoreError> {
    let run = ScriptCall::new(&script::MEMBERS).keys(server.names.of_history());
    let doing = "listing the nodes";
    let answer = server
        .run_with_history(&server.polls, doing, run, DEADLINE)
        .await?;
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

/// Reads the nodes from the fields of their hash and the values of those. Other fields are skipped: a
/// node that cannot be read has no heartbeat that can be seen, and `changes` does not call it a member.
fn listed(fields: &[Vec<u8>]) -> Vec<Node> {
    let mut nodes: BTreeMap<NodeId, ListedNode> = BTreeMap::new();
    for pair in fields.chunks_exact(2) {
        let Ok(Some((field, id))) = str::from_utf8(&pair[0]).map(|name| name.split_once(':'))
        else {
            continue;
        };
        let Ok(id) = id.parse() else { continue };
        let listed = nodes.entry(id).or_default();
        match field {
            "acknowledged" => listed.acknowledged = number(&pair[1]).unwrap_or(0),
            "heartbeat" => listed.heartbeat = Some(number(&pair[1]).unwrap_or(0)),
            "suspected" => listed.suspected = true,
            "protocol" => listed.protocol = number(&pair[1]),
            _ => {}
        }
    }
    let node = |(id, listed): (NodeId, ListedNode)| {
        let node = Node::new(id, listed.acknowledged, listed.heartbeat?, listed.suspected);
        Some(node.with_protocol(listed.protocol.unwrap_or(OLDEST_PROTOCOL)))
    };
    nodes.into_iter().filter_map(node).collect()
}

/// The protocol of a node without a number of one: releases before 2 do not register it.
const OLDEST_PROTOCOL: u32 = 1;

/// The fields of a node.
#[derive(Debug, Default)]
struct ListedNode {
    acknowledged: u64,
    heartbeat: Option<u64>,
    suspected: bool,
    protocol: Option<u32>,
}

async fn suspect(server: &Server, seen: &Node) -> Result<(), StoreError> {
    let run = ScriptCall::new(&script::SUSPECT);
    of_seen(server, "suspecting a node", run, seen).await
}

async fn remove_node(server: &Server, seen: &Node) -> Result<(), StoreError> {
    let run = ScriptCall::new(&script::REMOVE_NODE);
    of_seen(server, "removing a node", run, seen).await
}

async fn of_seen(
    server: &Server,
    doing: &str,
    run: ScriptCall,
    seen: &Node,
) -> Result<(), StoreError> {
    let run = run
        .key(server.names.members())
        .argument(seen.id.as_str())
        .argument(seen.heartbeat);
    server.polls.run(doing, &run, DEADLINE).await?;
    Ok(())
}

async fn leave(server: &Server, node: &NodeId) -> Result<(), StoreError> {
    let doing = "leaving the nodes";
    let mut remove = redis::cmd("HDEL");
    remove.arg(server.names.members());
    for field in ["heartbeat", "acknowledged", "suspected", "protocol"] {
        remove.arg(format!("{field}:{node}"));
    }
    let (value, _) = server.polls.call(doing, [remove], DEADLINE).await?.one();
    value
        .extract_error()
        .map_err(|error| RedisFailure::of(doing, error))?;
    Ok(())
}
