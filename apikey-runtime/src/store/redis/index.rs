//! The index of records, and the entries that an older release, or a change by hand, has left behind.

use redis::from_redis_value;

use super::connection::{DEADLINE, LONG_DEADLINE};
use super::error::RedisFailure;
use super::options::ChangeOptions;
use super::read::{ids, read, unreadable_owner};
use super::record_hash;
use super::script::{self, LuaScript, ScriptCall};
use super::server::{Server, TRIES, answer};
use crate::audit::ChangeOrigin;
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::key::KeyId;
use crate::store::OwnerState;
use crate::store::schema::UpgradeFlag;

/// The bytes of an id.
pub(super) const ID: usize = 22;

/// Keys of the store that a change of the index needs.
const KEYS: usize = 6;

/// The most records of a step, which holds up the server for a few milliseconds.
pub(super) const STEP: usize = 50;

/// The bytes of `l`, and of digits of a hash.
const UNINDEXED_STEM: usize = 17;

/// The bytes before the expiry in an entry of a live key: `v`, the hash, and the number.
const LIVE_STEM: usize = 1 + 20 + 8;

/// How many entries of live keys are compared with their records before a key too many is refused.
const COMPARED: usize = 1_000;

/// Returns 8 bytes that sort as the times do.
pub(super) fn sortable(time: Timestamp) -> [u8; 8] {
    (time.as_millis() ^ i64::MIN).to_be_bytes()
}

/// Returns the id at the end of an entry.
pub(super) fn id_of(entry: &[u8]) -> &[u8] {
    entry
        .get(entry.len().saturating_sub(ID)..)
        .unwrap_or_default()
}

/// Reads what [`sortable`] returns.
pub(super) fn time_of(bytes: &[u8]) -> Option<Timestamp> {
    let bytes = bytes.try_into().ok()?;
    Some(Timestamp::from_millis(i64::from_be_bytes(bytes) ^ i64::MIN))
}

/// The position of a [`RecordPass`] that has ended.
const ALL: &[u8] = b"all";

/// The maximum number of records of a step of a [`RecordPass`].
const PASS_STEP: usize = 100;

/// A pass over records, in steps, for what an older release has not written. It is made once: if it is interrupted, the
/// next start continues.
pub(super) struct RecordPass {
    /// What the pass does, for errors.
    pub(super) doing: &'static str,
    /// The first byte of the entries by which the records are found: `i` for all, `x` for those that expire.
    pub(super) kind: u8,
    /// The field of `meta` that tells up to which entry of the index the records are done.
    pub(super) position: &'static str,
    /// The script of a step. It sets the position.
    pub(super) script: &'static LuaScript,
}

impl RecordPass {
    /// Makes the pass, or what is left of it.
    pub(super) async fn run(
        &self,
        server: &Server,
        upgrade: &UpgradeFlag,
    ) -> Result<(), StoreError> {
        let doing = self.doing;
        let mut read = redis::cmd("HGET");
        read.arg(server.names.meta()).arg(self.position);
        let (value, _) = server.calls.call(doing, [read], DEADLINE).await?.one();
        let position: Option<Vec<u8>> = value
            .extract_error()
            .and_then(|value| Ok(from_redis_value(value)?))
            .map_err(|error| RedisFailure::of(doing, error))?;
        let mut position = position.unwrap_or_else(|| vec![self.kind]);
        let _upgrading = (position != ALL).then(|| upgrade.raise());
        while position != ALL {
            let mut read = redis::cmd("ZRANGE");
            read.arg(server.names.index())
                .arg([b"(", position.as_slice()].concat())
                .arg(vec![b'(', self.kind + 1])
                .arg(&["BYLEX", "LIMIT", "0"])
                .arg(PASS_STEP);
            let (value, _) = server.calls.call(doing, [read], LONG_DEADLINE).await?.one();
            let entries = ids(doing, value)?;
            position = match entries.last() {
                Some(last) if entries.len() == PASS_STEP => last.clone(),
                _ => ALL.to_vec(),
            };
            let ids = || entries.iter().map(|entry| id_of(entry));
            let run = server
                .write(self.script, KEYS)?
                .keys(ids().map(|id| server.names.record_of(id)))
                .argument(position.as_slice());
            let run = ids().fold(run, |run, id| run.argument(id));
            server
                .run_with_history(&server.calls, doing, run, LONG_DEADLINE)
                .await?;
        }
        Ok(())
    }
}

/// Indexes all records that an older release has written, in steps. A record that such a process writes
/// later is indexed when keys are next listed or counted.
pub(super) async fn complete(server: &Server) -> Result<(), StoreError> {
    while catch_up(server).await? {}
    Ok(())
}

/// As [`complete`], and raises the flag if there are such records.
pub(super) async fn complete_at_start(
    server: &Server,
    upgrade: &UpgradeFlag,
) -> Result<(), StoreError> {
    if catch_up(server).await? {
        let _upgrading = upgrade.raise();
        complete(server).await?;
    }
    Ok(())
}

/// Indexes the next records that an older release has written. Returns whether there were any.
async fn catch_up(server: &Server) -> Result<bool, StoreError> {
    let doing = "indexing records of an older release";
    let find = ScriptCall::new(&script::UNINDEXED)
        .key(server.names.index())
        .argument(STEP);
    let (value, _) = server.calls.run(doing, &find, LONG_DEADLINE).await?;
    let entries = ids(doing, value)?;
    let with_id = |entry: &Vec<u8>| {
        let id = entry.get(UNINDEXED_STEM..).unwrap_or_default().to_vec();
        (entry.clone(), id)
    };
    let found: Vec<_> = entries.iter().map(with_id).collect();
    reindex(server, &found).await?;
    Ok(!entries.is_empty())
}

/// Removes entries, each with the id of its record, and indexes these records again: 50 at most.
pub(super) async fn reindex(
    server: &Server,
    entries: &[(Vec<u8>, Vec<u8>)],
) -> Result<(), StoreError> {
    let doing = "indexing records again";
    let entries = &entries[..entries.len().min(STEP)];
    if entries.is_empty() {
        return Ok(());
    }
    let mut options = ChangeOptions::of_origin(&ChangeOrigin::new());
    for _ in 0..TRIES {
        let mut run = server
            .write(&script::REINDEX, KEYS)?
            .keys(entries.iter().map(|(_, id)| server.names.record_of(id)))
            .argument(options.text());
        for (entry, id) in entries {
            run = run.argument(entry.as_slice()).argument(id.as_slice());
        }
        let reply = server
            .run_with_history(&server.calls, doing, run, LONG_DEADLINE)
            .await?;
        if reply.rest.is_empty() {
            break;
        }
        reply.rest.iter().for_each(|label| options.fold(label));
    }
    Ok(())
}

/// The live keys of an owner, by the index.
#[derive(Debug)]
struct LiveKeys {
    count: u64,
    revocations: u64,
    entries: Vec<Vec<u8>>,
}

/// See [`OwnerStore::count_live_keys`](crate::store::OwnerStore::count_live_keys).
pub(super) async fn count_live_keys(
    server: &Server,
    owner: &str,
    max: u32,
) -> Result<u32, StoreError> {
    let live = live_keys(server, owner, 0).await?;
    Ok(u32::try_from(live.count).unwrap_or(u32::MAX).min(max))
}

async fn live_keys(server: &Server, owner: &str, entries: usize) -> Result<LiveKeys, StoreError> {
    let doing = "counting the live keys of an owner";
    let names = server.names.of_records();
    let run = ScriptCall::new(&script::LIVE_KEYS)
        .keys(names.into_iter().take(KEYS))
        .argument(owner)
        .argument(entries);
    for _ in 0..TRIES {
        let reply = answer(doing, server.calls.run(doing, &run, DEADLINE).await?)?;
        let number = |text: &Vec<u8>| str::from_utf8(text).ok()?.parse().ok();
        match (reply.word.as_str(), reply.rest.as_slice()) {
            ("unindexed", _) => complete(server).await?,
            ("done", [count, revocations, entries @ ..]) => {
                let numbers = number(count).zip(number(revocations));
                let (count, revocations) = numbers.ok_or_else(|| unreadable_owner(server))?;
                return Ok(LiveKeys {
                    count,
                    revocations,
                    entries: entries.to_vec(),
                });
            }
            _ => return Err(unreadable_owner(server)),
        }
    }
    Err(StoreError::unavailable(
        "a process of an older release adds keys faster than they can be indexed; stop it",
    ))
}

/// Compares entries of an owner's live keys with their records: a process of an older release, or a change
/// by hand, may have ended some. Returns whether any did not fit.
pub(super) async fn correct_live_keys(server: &Server, owner: &str) -> Result<bool, StoreError> {
    let live = live_keys(server, owner, COMPARED).await?;
    let mut corrected = false;
    for entries in live.entries.chunks(STEP) {
        let parsed = |entry: &Vec<u8>| {
            let (expiry, id) = entry.get(LIVE_STEM..)?.split_at_checked(8)?;
            Some((entry.clone(), time_of(expiry)?, KeyId::from_ascii(id)?))
        };
        let parsed: Vec<_> = entries.iter().filter_map(parsed).collect();
        let ids: Vec<_> = parsed.iter().map(|(_, _, id)| *id).collect();
        let hashes = read(server, "comparing live keys", &ids, LONG_DEADLINE).await?;
        let mut wrong = Vec::new();
        for ((entry, expiry, id), hash) in parsed.into_iter().zip(hashes) {
            // A record that cannot be read is counted.
            let Ok(record) = hash.and_then(|hash| {
                let is_there = !hash.is_empty();
                is_there.then(|| record_hash::record(id, &hash)).transpose()
            }) else {
                continue;
            };
            let fits = record.is_some_and(|record| {
                let state = OwnerState::new().with_revocations(live.revocations);
                record.owner.as_deref() == Some(owner)
                    && record.revoked.is_none()
                    && !state.revokes(record.owner_revocations)
                    && record.expires.unwrap_or(Timestamp::MAX) == expiry
            });
            if !fits {
                wrong.push((entry, id.as_str().as_bytes().to_vec()));
            }
        }
        reindex(server, &wrong).await?;
        corrected |= !wrong.is_empty();
    }
    Ok(corrected)
}
