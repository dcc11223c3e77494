//! Notices before the end of keys. A step finds entries of the index, and then claims their notices in one script.

use async_trait::async_trait;
use redis::{Cmd, from_redis_value};

use super::RedisStore;
use super::connection::{DEADLINE, LONG_DEADLINE};
use super::connector::random;
use super::error::RedisFailure;
use super::index::{sortable, time_of};
use super::read::ids;
use super::script::{self, ScriptCall};
use super::server::{Server, TRIES};
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::key::KeyId;
use crate::store::expiry_notices::{check_finished, claim_limit};
use crate::store::schema::UpgradeFlag;
use crate::store::{ExpiryNotice, ExpiryNotices, NodeId};

/// Keys of the store that a change of notices needs.
const KEYS: usize = 6;

/// The maximum number of notices that one script claims, or adds to records of an older release.
const STEP: usize = 100;

/// The bytes of an id.
const ID: usize = 22;

/// The field of `meta` that tells up to which entry of the index records have notices.
const COMPLETED: &str = "notices";

/// The value of [`COMPLETED`] if all records have notices.
const ALL: &[u8] = b"all";

#[async_trait]
impl ExpiryNotices for RedisStore {
    async fn claim_notices(
        &self,
        node: &NodeId,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<ExpiryNotice>, StoreError> {
        let (server, limit) = (self.server()?, claim_limit(limit));
        let mut claimed = Vec::new();
        for _ in 0..TRIES {
            let entries = select(&server, node, now, limit).await?;
            claimed.clear();
            for entries in entries.chunks(STEP) {
                claimed.extend(claim(&server, node, entries).await?);
            }
            // Otherwise another node was faster, or an entry did not fit its record.
            if claimed.len() == entries.len() {
                break;
            }
        }
        Ok(claimed)
    }

    async fn finish_notices(
        &self,
        node: &NodeId,
        finished: &[(ExpiryNotice, Option<Timestamp>)],
    ) -> Result<(), StoreError> {
        check_finished(finished)?;
        finish(&*self.server()?, node, finished).await
    }
}

/// Returns what stands for the time for which a notice is planned.
fn planned(time: Option<Timestamp>) -> Vec<u8> {
    match time {
        Some(time) => [&[1][..], &sortable(time)].concat(),
        None => vec![0],
    }
}

/// Returns the id at the end of an entry.
fn id_of(entry: &[u8]) -> &[u8] {
    entry
        .get(entry.len().saturating_sub(ID)..)
        .unwrap_or_default()
}

/// Returns what an entry of a notice sorts by: without the kind, and without the node that has claimed it.
fn sort_key(entry: &[u8]) -> &[u8] {
    let stem = if entry.starts_with(b"h") { 1 + ID } else { 1 };
    entry.get(stem..).unwrap_or_default()
}

/// Returns the entries of the first notices that a node may claim.
async fn select(
    server: &Server,
    node: &NodeId,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<Vec<u8>>, StoreError> {
    let doing = "finding notices that are due";
    let mut due = planned(Some(now));
    due.push(u8::MAX);
    let start = NodeId::from_u128(u128::from_be_bytes(random()?));
    let run = ScriptCall::new(&script::SELECT_NOTICES)
        .key(server.names.index())
        .key(server.names.members())
        .argument(node.as_str())
        .argument(due)
        .argument(limit)
        .argument(start.as_str());
    let (value, _) = server.calls.run(doing, &run, DEADLINE).await?;
    let mut entries = ids(doing, value)?;
    entries.sort_unstable_by(|one, other| sort_key(one).cmp(sort_key(other)));
    entries.truncate(limit);
    Ok(entries)
}

/// Claims the notices of these entries, in one script.
async fn claim(
    server: &Server,
    node: &NodeId,
    entries: &[Vec<u8>],
) -> Result<Vec<ExpiryNotice>, StoreError> {
    let doing = "claiming notices";
    let run = server
        .write(&script::CLAIM_NOTICES, KEYS)?
        .key(server.names.members())
        .keys(
            entries
                .iter()
                .map(|entry| server.names.record_of(id_of(entry))),
        )
        .argument(node.as_str());
    let run = entries
        .iter()
        .fold(run, |run, entry| run.argument(entry.as_slice()));
    let reply = server
        .run_with_history(&server.calls, doing, run, DEADLINE)
        .await?;
    let notices = reply.rest.chunks_exact(2);
    let notices = notices.filter_map(|pair| notice(&pair[0], &pair[1]));
    Ok(notices.collect())
}

/// Reads a notice as its record has it. `notices.lua` has the form.
fn notice(id: &[u8], text: &[u8]) -> Option<ExpiryNotice> {
    let [expires, since] = [0..8, 8..16].map(|bytes| text.get(bytes).and_then(time_of));
    let notice = ExpiryNotice::new(KeyId::from_ascii(id)?, expires?, since?);
    match text.get(16)? {
        0 => Some(notice),
        _ => Some(notice.with_planned(Some(time_of(text.get(17..25)?)?))),
    }
}

async fn finish(
    server: &Server,
    node: &NodeId,
    finished: &[(ExpiryNotice, Option<Timestamp>)],
) -> Result<(), StoreError> {
    let doing = "finishing notices";
    let records = finished
        .iter()
        .map(|(notice, _)| server.names.record(&notice.key));
    let mut run = server
        .write(&script::FINISH_NOTICES, KEYS)?
        .keys(records)
        .argument(node.as_str());
    for (notice, time) in finished {
        let planned = time.map_or_else(Vec::new, |time| planned(Some(time)));
        run = run
            .argument(notice.key.as_str())
            .argument(&sortable(notice.expires))
            .argument(planned);
    }
    server
        .run_with_history(&server.calls, doing, run, LONG_DEADLINE)
        .await?;
    Ok(())
}

/// Adds the notices of all records that an older release has written, in steps. If it is interrupted, the next start
/// continues.
pub(super) async fn complete(server: &Server, upgrade: &UpgradeFlag) -> Result<(), StoreError> {
    let doing = "adding notices to records of an older release";
    let mut read = redis::cmd("HGET");
    read.arg(server.names.meta()).arg(COMPLETED);
    let (value, _) = server.calls.call(doing, [read], DEADLINE).await?.one();
    let position: Option<Vec<u8>> = value
        .extract_error()
        .and_then(|value| Ok(from_redis_value(value)?))
        .map_err(|error| RedisFailure::of(doing, error))?;
    let mut position = position.unwrap_or_else(|| b"x".to_vec());
    let _upgrading = (position != ALL).then(|| upgrade.raise());
    while position != ALL {
        let mut read: Cmd = redis::cmd("ZRANGE");
        read.arg(server.names.index())
            .arg([b"(", position.as_slice()].concat())
            .arg(&["(y", "BYLEX", "LIMIT", "0"])
            .arg(STEP);
        let (value, _) = server.calls.call(doing, [read], LONG_DEADLINE).await?.one();
        let entries = ids(doing, value)?;
        position = match entries.last() {
            Some(last) if entries.len() == STEP => last.clone(),
            _ => ALL.to_vec(),
        };
        let run = server
            .write(&script::COMPLETE_NOTICES, KEYS)?
            .keys(
                entries
                    .iter()
                    .map(|entry| server.names.record_of(id_of(entry))),
            )
            .argument(position.as_slice());
        let run = entries
            .iter()
            .fold(run, |run, entry| run.argument(id_of(entry)));
        server
            .run_with_history(&server.calls, doing, run, LONG_DEADLINE)
            .await?;
    }
    Ok(())
}
