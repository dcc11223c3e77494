//! Reads the change log.

use std::sync::atomic::Ordering;

use async_trait::async_trait;

use super::RedisStore;
use super::connection::DEADLINE;
use super::connector::RUN;
use super::script::{self, ScriptCall};
use super::server::Server;
use crate::clock::millis_u64;
use crate::error::StoreError;
use crate::key::KeyId;
use crate::store::{ChangeListener, ChangeLog, ChangeSet, Changes, Cursor, NodeId};

#[async_trait]
impl ChangeLog for RedisStore {
    async fn changes(
        &self,
        since: Option<&Cursor>,
        node: Option<&NodeId>,
    ) -> Result<Changes, StoreError> {
        changes(&*self.server()?, since, node).await
    }

    fn subscribe(&self) -> Option<ChangeListener> {
        Some(self.signal.subscribe())
    }
}

async fn changes(
    server: &Server,
    since: Option<&Cursor>,
    node: Option<&NodeId>,
) -> Result<Changes, StoreError> {
    let (epoch, tag, run) = match since.and_then(parts) {
        Some((epoch, tag, run)) => (epoch.to_string(), tag, run),
        None => (String::new(), &[][..], &[][..]),
    };
    let asked = ScriptCall::new(&script::CHANGES)
        .keys(server.names.of_history())
        .argument(epoch)
        .argument(tag)
        .argument(node.map_or("", NodeId::as_str));
    let doing = "reading the log of changes";
    let answer = server
        .run_with_history(&server.polls, doing, asked, DEADLINE)
        .await?;
    let [epoch, tag, lease, member, known, ids @ ..] = answer.rest.as_slice() else {
        return Err(server.broken("the history is incomplete"));
    };
    let lease = server.length(lease)?;
    let millis = millis_u64(lease);
    server.lease.store(millis, Ordering::Relaxed);
    // A cursor of another run of the server is not used: that run may have reported changes which
    // this one has lost.
    let history = if known == b"entries" && *run == *answer.incarnation {
        ChangeSet::of_keys(ids.iter().filter_map(|id| KeyId::from_ascii(id)))
    } else {
        ChangeSet::Resync
    };
    let cursor = cursor(server, epoch, tag, &answer.incarnation)?;
    Ok(Changes::new(history, cursor, lease).for_member(member == b"1"))
}

/// Splits a cursor into its epoch, its tag in the log, and the run of the server that gave it.
pub(super) fn parts(cursor: &Cursor) -> Option<(u64, &[u8], &[u8])> {
    let (tag, run) = cursor
        .tag
        .split_at_checked(cursor.tag.len().checked_sub(RUN)?)?;
    Some((cursor.epoch, tag, run))
}

pub(super) fn cursor(
    server: &Server,
    epoch: &[u8],
    tag: &[u8],
    run: &[u8],
) -> Result<Cursor, StoreError> {
    let epoch = number(epoch).ok_or_else(|| server.broken("`epoch` is not a number"))?;
    let tag = [tag, run].concat();
    Ok(Cursor { epoch, tag })
}

pub(super) fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}
