//! Reads the change log.

use std::sync::atomic::Ordering;

use async_trait::async_trait;

use super::RedisStore;
use super::connection::POLL_DEADLINE;
use super::connector::RUN;
use super::record_hash::owner_state;
use super::script::{self, ScriptCall};
use super::server::Server;
use crate::clock::millis_u64;
use crate::error::StoreError;
use crate::key::KeyId;
use crate::store::{ChangeListener, ChangeLog, ChangeSet, ChangedItem, Changes, Cursor, NodeId};

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
        .key(server.names.owners())
        .argument(epoch)
        .argument(tag)
        .argument(node.map_or("", NodeId::as_str));
    let doing = "reading the log of changes";
    let answer = server
        .run_with_history(&server.polls, doing, asked, POLL_DEADLINE)
        .await?;
    let [epoch, tag, lease, protocol, member, known, page @ ..] = answer.rest.as_slice() else {
        return Err(server.broken("the history is incomplete"));
    };
    let lease = server.length(lease)?;
    let millis = millis_u64(lease);
    server.lease.store(millis, Ordering::Relaxed);
    let newest = cursor(server, epoch, tag, &answer.incarnation)?;
    let head = newest.epoch;
    // A cursor of another run of the server is not used: that run may have reported changes which
    // this one has lost.
    let since = since.filter(|_| known == b"entries" && *run == *answer.incarnation);
    let page = since.and_then(|since| entries(since, &newest, page, &answer.incarnation));
    let (set, cursor) = page.unwrap_or((ChangeSet::Resync, newest));
    Ok(Changes::new(set, cursor, lease)
        .with_head(head)
        .for_member(member == b"1")
        // A number that is not one of a protocol is one that no node speaks.
        .with_required_protocol(number(protocol).unwrap_or(u32::MAX)))
}

/// Reads the tag of the last entry, and for each entry after `since` its id in the stream, a key or an owner, a kind, and
/// the owner's state; returns them with the cursor of the last. Returns `None` if an entry is missing, or what one is about
/// is not known.
fn entries(
    since: &Cursor,
    newest: &Cursor,
    page: &[Vec<u8>],
    run: &[u8],
) -> Option<(ChangeSet, Cursor)> {
    let Some((tag, page)) = page.split_first() else {
        // The cursor is the newest.
        return Some((ChangeSet::Entries(Vec::new()), newest.clone()));
    };
    let mut items = Vec::with_capacity(page.len() / 4);
    let mut epoch = since.epoch;
    for entry in page.chunks(4) {
        let [id, subject, kind, state] = entry else {
            return None;
        };
        epoch = epoch.checked_add(1)?;
        if number::<u64>(id.strip_suffix(b"-0")?) != Some(epoch) {
            return None;
        }
        items.push(match kind.as_slice() {
            b"key" => ChangedItem::Key(KeyId::from_ascii(subject)?),
            b"member" => ChangedItem::Member,
            b"owner" => ChangedItem::Owner {
                owner: str::from_utf8(subject).ok()?.to_owned(),
                state: owner_state(str::from_utf8(state).ok()?)?,
            },
            _ => return None,
        });
    }
    let is_whole = epoch == newest.epoch || items.len() == ChangeSet::MAX_ENTRIES;
    let tag = [tag, run].concat();
    is_whole.then_some((ChangeSet::Entries(items), Cursor { epoch, tag }))
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
    let epoch = number::<u64>(epoch).ok_or_else(|| server.broken("`epoch` is not a number"))?;
    let tag = [tag, run].concat();
    Ok(Cursor { epoch, tag })
}

pub(super) fn number<N: std::str::FromStr>(text: &[u8]) -> Option<N> {
    std::str::from_utf8(text).ok()?.parse().ok()
}
