//! Notices before the end of keys. A step finds entries of the index, and then claims their notices in one script.

use async_trait::async_trait;

use super::RedisStore;
use super::connection::{DEADLINE, LONG_DEADLINE};
use super::connector::random;
use super::index::{ID, RecordPass, id_of, sortable, time_of};
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

/// The maximum number of notices that one script claims.
const STEP: usize = 100;

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

/// Adds the notices of all records that an older release has written, in steps.
pub(super) async fn complete(server: &Server, upgrade: &UpgradeFlag) -> Result<(), StoreError> {
    let pass = RecordPass {
        doing: "adding notices to records of an older release",
        kind: b'x',
        position: "notices",
        script: &script::COMPLETE_NOTICES,
    };
    pass.run(server, upgrade).await
}
