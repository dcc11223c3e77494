//! Changes of many records, step by step. A step reads ids from an index, and then changes their records in one script,
//! which holds up the server for a few milliseconds at most.

use redis::Cmd;

use super::connection::DEADLINE;
use super::list::{IndexRange, ids, select};
use super::records::KEYS;
use super::script::{self, ScriptCall};
use super::server::{ScriptReply, Server};
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::key::KeyId;
use crate::record::Revocation;
use crate::store::BulkStep;

/// The most records of a step.
const STEP: usize = 100;

/// See [`KeyStore::revoke_owner`](crate::KeyStore::revoke_owner).
pub(super) async fn revoke_owner(
    server: &Server,
    owner: &str,
    revocation: &Revocation,
    after: Option<&KeyId>,
) -> Result<BulkStep, StoreError> {
    let doing = "revoking the keys of an owner";
    let mut after = after.map_or_else(Vec::new, |id| id.as_str().as_bytes().to_vec());
    let mut step = BulkStep::default();
    loop {
        let ids = select(server, doing, IndexRange::Owner(owner), &after, STEP).await?;
        let is_last = ids.len() < STEP;
        if ids.is_empty() {
            return Ok(step);
        }
        let reason = revocation.reason.as_deref();
        let run = server
            .write(&script::REVOKE_OWNER, KEYS)?
            .keys(ids.iter().map(|id| server.names.record_of(id)))
            .argument(owner)
            .argument(revocation.at.as_millis())
            .argument(u8::from(reason.is_some()))
            .argument(reason.unwrap_or_default());
        let reply = change_many(server, doing, run, &ids).await?;
        step.keys.extend(key_ids(&reply.rest));
        step.next = ids.iter().rev().find_map(|id| KeyId::from_ascii(id));
        if is_last {
            step.next = None;
            return Ok(step);
        }
        // A place has to be a valid id. If the index has none here, it was written by hand.
        if step.next.is_some() {
            return Ok(step);
        }
        after = ids.last().cloned().unwrap_or_default();
    }
}

/// See [`KeyStore::purge`](crate::KeyStore::purge).
///
/// The records come in the order in which they ended, and those that a step removes are not in the index any more. The
/// place is the number of those that stayed.
pub(super) async fn purge(
    server: &Server,
    before: Timestamp,
    after: Option<&KeyId>,
) -> Result<BulkStep, StoreError> {
    let doing = "removing old records";
    let skipped = after.map_or(0, |after| after.to_u128());
    let ids = ended(server, doing, before, skipped).await?;
    if ids.is_empty() {
        return Ok(BulkStep::default());
    }
    let names = &server.names;
    let of_keys = ids
        .iter()
        .flat_map(|id| [names.record_of(id), names.limit_counters_of(id)]);
    let run = server
        .write(&script::PURGE, KEYS)?
        .key(names.last_used())
        .keys(of_keys)
        .argument(before.as_millis());
    let reply = change_many(server, doing, run, &ids).await?;
    let (kept, removed) = reply
        .rest
        .split_first()
        .ok_or_else(|| server.broken("a script does not answer as it should"))?;
    let kept = std::str::from_utf8(kept)
        .ok()
        .and_then(|kept| kept.parse().ok());
    let next = skipped.saturating_add(kept.unwrap_or(0));
    let next = (ids.len() == STEP).then(|| KeyId::from_u128(next));
    Ok(BulkStep::new(key_ids(removed).collect(), next))
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
