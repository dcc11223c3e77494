//! Changes of many records, step by step. A step reads ids from an index, and then changes their records in one script,
//! which holds up the server for a few milliseconds at most.

use redis::Cmd;

use super::connection::DEADLINE;
use super::options::ChangeOptions;
use super::read::ids;
use super::records::KEYS;
use super::script::{self, ScriptCall};
use super::server::{ScriptReply, Server, TRIES};
use crate::audit::ChangeOrigin;
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::key::KeyId;
use crate::store::{BulkStep, ListCursor};

/// The most records of a step.
const STEP: usize = 100;

/// See [`KeyStore::purge`](crate::KeyStore::purge).
///
/// The records come in the order in which they ended, and those that a step removes are not in the index any more. The
/// place is the number of those that stayed.
pub(super) async fn purge(
    server: &Server,
    before: Timestamp,
    after: Option<&ListCursor>,
    origin: &ChangeOrigin,
) -> Result<BulkStep, StoreError> {
    let doing = "removing old records";
    let skipped = after.map_or(0, |after| after.id.to_u128());
    // Marking writes the times at which keys of owners ended into the index.
    if mark(server).await? {
        return Ok(BulkStep::new(
            Vec::new(),
            Some(KeyId::from_u128(skipped).into()),
        ));
    }
    let ids = ended(server, doing, before, skipped).await?;
    if ids.is_empty() {
        return Ok(BulkStep::default());
    }
    let reply = remove(server, doing, before, &ids, origin).await?;
    let (kept, removed) = reply
        .rest
        .split_first()
        .ok_or_else(|| server.broken("a script does not answer as it should"))?;
    let kept = std::str::from_utf8(kept)
        .ok()
        .and_then(|kept| kept.parse().ok());
    let next = skipped.saturating_add(kept.unwrap_or(0));
    let next = (ids.len() == STEP).then(|| KeyId::from_u128(next).into());
    Ok(BulkStep::new(key_ids(removed).collect(), next))
}

/// Removes those of the records that ended before.
async fn remove(
    server: &Server,
    doing: &str,
    before: Timestamp,
    ids: &[Vec<u8>],
    origin: &ChangeOrigin,
) -> Result<ScriptReply, StoreError> {
    let names = &server.names;
    let mut options = ChangeOptions::of_origin(origin);
    for _ in 0..TRIES {
        let of_keys = ids
            .iter()
            .flat_map(|id| [names.record_of(id), names.limit_counters_of(id)]);
        let run = server
            .write(&script::PURGE, KEYS)?
            .key(names.last_used())
            .keys(of_keys)
            .keys(ids.iter().map(|id| names.networks_of(id)))
            .argument(options.text())
            .argument(before.as_millis());
        let reply = change_many(server, doing, run, ids).await?;
        if reply.word != "fold" {
            return Ok(reply);
        }
        reply.rest.iter().for_each(|label| options.fold(label));
    }
    Err(StoreError::unavailable(format!(
        "{doing}: the labels change again and again"
    )))
}

/// Marks the next keys of an owner. Returns whether more is left to mark.
pub(super) async fn mark(server: &Server) -> Result<bool, StoreError> {
    let doing = "marking the keys of an owner";
    let names = &server.names;
    let read = ScriptCall::new(&script::UNMARKED)
        .key(names.unmarked_owners())
        .key(names.owner_revocations())
        .key(names.index())
        .argument(STEP);
    let (value, _) = server.calls.run(doing, &read, DEADLINE).await?;
    let found = ids(doing, value)?;
    let Some((owner, ids)) = found.split_first() else {
        return Ok(false);
    };
    let run = server
        .write(&script::MARK, 6)?
        .key(names.unmarked_owners())
        .keys(ids.iter().map(|id| names.record_of(id)))
        .argument(STEP)
        .argument(owner.as_slice());
    let reply = change_many(server, doing, run, ids).await?;
    Ok(reply.rest.first().is_some_and(|left| left == b"1"))
}

/// Ids of keys that ended before, in the order of these times, without the first.
async fn ended(
    server: &Server,
    doing: &str,
    before: Timestamp,
    skipped: u128,
) -> Result<Vec<Vec<u8>>, StoreError> {
    let mut ended: Cmd = redis::cmd("ZRANGE");
    ended
        .arg(server.names.purge_index())
        .arg("-inf")
        .arg(before.as_millis())
        .arg(&["BYSCORE", "LIMIT"])
        .arg(u64::try_from(skipped).unwrap_or(u64::MAX))
        .arg(STEP);
    let (value, _) = server.calls.call(doing, [ended], DEADLINE).await?.one();
    Ok(ids(doing, value)?)
}

async fn change_many(
    server: &Server,
    doing: &str,
    run: ScriptCall,
    ids: &[Vec<u8>],
) -> Result<ScriptReply, StoreError> {
    let run = ids.iter().fold(run, |run, id| run.argument(id.as_slice()));
    let answered = server
        .run_with_history(&server.calls, doing, run, DEADLINE)
        .await;
    Ok(answered?)
}

fn key_ids(ids: &[Vec<u8>]) -> impl Iterator<Item = KeyId> {
    ids.iter().filter_map(|id| KeyId::from_ascii(id))
}
