//! The statements on records.

use redis::{Cmd, Value, from_redis_value};

use super::connection::{DEADLINE, LONG_DEADLINE};
use super::error::RedisFailure;
use super::record_hash::{self, RecordFields, RecordHash};
use super::script::{self, ScriptCall};
use super::server::{Server, TRIES};
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::key::KeyId;
use crate::record::{KeyPatch, KeyRecord, Revocation};
use crate::store::columns::Broken;
use crate::store::paging::page_size;
use crate::store::{ListQuery, RecordPage};

/// Keys of the store that a change of records needs.
const KEYS: usize = 4;

pub(super) async fn insert(server: &Server, record: &KeyRecord) -> Result<(), StoreError> {
    let fields = RecordFields::of_record(record)?;
    let mut run = server
        .write(&script::INSERT, KEYS)?
        .key(server.names.record(&record.id))
        .argument(record.id.as_str());
    for (name, value) in fields.set {
        run = run.argument(name).argument(value);
    }
    change(server, "adding a record", run, &record.id)
        .await
        .map(drop)
}

/// Makes a change of one record. The answer is `done`, or `already_revoked`.
async fn change(
    server: &Server,
    doing: &str,
    run: ScriptCall,
    id: &KeyId,
) -> Result<String, StoreError> {
    let answered = server
        .run_with_history(&server.calls, doing, run, DEADLINE)
        .await;
    let answer = answered.map_err(|failure| failure.of_record(id.as_str()))?;
    match answer.word.as_str() {
        "conflict" => Err(StoreError::Conflict),
        "not_found" => Err(StoreError::NotFound),
        _ => Ok(answer.word),
    }
}

pub(super) async fn find(server: &Server, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> {
    let doing = "reading a record";
    let command = read(server.names.record(id));
    let (value, _) = server.calls.call(doing, [command], DEADLINE).await?.one();
    let hash = hash(doing, value).map_err(|failure| failure.of_record(id.as_str()))?;
    if hash.is_empty() {
        return Ok(None);
    }
    Ok(Some(record_hash::record(*id, &hash)?))
}

fn read(key: impl redis::ToRedisArgs) -> Cmd {
    redis::cmd("HGETALL").arg(key).to_owned()
}

fn hash(doing: &str, value: Value) -> Result<RecordHash, RedisFailure> {
    value
        .extract_error()
        .and_then(|value| Ok(from_redis_value(value)?))
        .map_err(|error| RedisFailure::of(doing, error))
}

pub(super) async fn update(
    server: &Server,
    id: &KeyId,
    patch: &KeyPatch,
) -> Result<(), StoreError> {
    let fields = RecordFields::of_patch(patch)?;
    let expected = patch.expected_version.map(|version| version.to_string());
    let mut run = server
        .write(&script::UPDATE, KEYS)?
        .key(server.names.record(id))
        .argument(id.as_str())
        .argument(expected.unwrap_or_default())
        .argument(fields.set.len() * 2);
    for (name, value) in fields.set {
        run = run.argument(name).argument(value);
    }
    for name in fields.clear {
        run = run.argument(name);
    }
    change(server, "changing a record", run, id).await.map(drop)
}

pub(super) async fn revoke(
    server: &Server,
    id: &KeyId,
    revocation: &Revocation,
) -> Result<bool, StoreError> {
    let mut run = server
        .write(&script::REVOKE, KEYS)?
        .key(server.names.record(id))
        .argument(id.as_str())
        .argument(revocation.at.as_millis());
    if let Some(reason) = &revocation.reason {
        run = run.argument(reason);
    }
    let word = change(server, "revoking a key", run, id).await?;
    Ok(word == "done")
}

pub(super) async fn revoke_owner(
    server: &Server,
    owner: &str,
    revocation: &Revocation,
) -> Result<Vec<KeyId>, StoreError> {
    let doing = "revoking the keys of an owner";
    for _ in 0..TRIES {
        let ids = select(server, doing, IndexRange::Owner(owner), b"", -1).await?;
        let reason = revocation.reason.as_deref();
        let run = server
            .write(&script::REVOKE_OWNER, KEYS)?
            .keys(ids.iter().map(|id| server.names.record_of(id)))
            .argument(owner)
            .argument(revocation.at.as_millis())
            .argument(u8::from(reason.is_some()))
            .argument(reason.unwrap_or_default());
        if let Some(changed) = change_many(server, doing, run, ids).await? {
            return Ok(changed);
        }
    }
    Err(unsteady(doing))
}

pub(super) async fn purge(server: &Server, before: Timestamp) -> Result<Vec<KeyId>, StoreError> {
    let doing = "removing old records";
    for _ in 0..TRIES {
        let mut ended = redis::cmd("ZRANGE");
        ended.arg(server.names.purge_index()).arg("-inf");
        ended.arg(before.as_millis()).arg("BYSCORE");
        let answers = server.calls.call(doing, [ended], LONG_DEADLINE).await?;
        let ids = ids(doing, answers.one().0)?;
        let names = &server.names;
        let of_keys = ids
            .iter()
            .flat_map(|id| [names.record_of(id), names.limit_counters_of(id)]);
        let run = server
            .write(&script::PURGE, KEYS)?
            .key(server.names.last_used())
            .keys(of_keys)
            .argument(before.as_millis());
        if let Some(changed) = change_many(server, doing, run, ids).await? {
            return Ok(changed);
        }
    }
    Err(unsteady(doing))
}

/// Changes several records at once, and returns which. Changes nothing and returns `None` if records
/// other than `ids` would have to be changed too by now.
async fn change_many(
    server: &Server,
    doing: &str,
    run: ScriptCall,
    ids: Vec<Vec<u8>>,
) -> Result<Option<Vec<KeyId>>, StoreError> {
    let run = ids.into_iter().fold(run, |run, id| run.argument(id));
    let answer = server
        .run_with_history(&server.calls, doing, run, LONG_DEADLINE)
        .await?;
    let changed = answer.rest.iter().filter_map(|id| KeyId::from_ascii(id));
    Ok((answer.word != "stale").then(|| changed.collect()))
}

fn unsteady(doing: &str) -> StoreError {
    StoreError::unavailable(format!(
        "{doing}: others kept adding to them; nothing is changed, so try again"
    ))
}

/// A range of the index.
#[derive(Debug, Clone, Copy)]
enum IndexRange<'a> {
    All,
    Owner(&'a str),
    Label(&'a str),
}

/// Ids at `place`, in their order, after `after`; at most `count`, or all of them with -1.
async fn select(
    server: &Server,
    doing: &str,
    place: IndexRange<'_>,
    after: &[u8],
    count: isize,
) -> Result<Vec<Vec<u8>>, StoreError> {
    let (kind, text) = match place {
        IndexRange::All => ("i", ""),
        IndexRange::Owner(owner) => ("o", owner),
        IndexRange::Label(label) => ("l", label),
    };
    let run = ScriptCall::new(&script::SELECT_IDS)
        .key(server.names.of_records()[2].as_str())
        .argument(kind)
        .argument(text)
        .argument(after)
        .argument(count);
    let (value, _) = server.calls.run(doing, &run, LONG_DEADLINE).await?;
    Ok(ids(doing, value)?)
}

fn ids(doing: &str, value: Value) -> Result<Vec<Vec<u8>>, RedisFailure> {
    value
        .extract_error()
        .and_then(|value| Ok(from_redis_value(value)?))
        .map_err(|error| RedisFailure::of(doing, error))
}

pub(super) async fn list(server: &Server, query: &ListQuery) -> Result<RecordPage, StoreError> {
    let doing = "listing records";
    let size = page_size(query);
    let place = match (&query.owner, &query.label) {
        (Some(owner), _) => IndexRange::Owner(owner),
        (None, Some(label)) => IndexRange::Label(label),
        (None, None) => IndexRange::All,
    };
    let mut found = Vec::new();
    let mut after = query.after.map(|id| id.as_str().as_bytes().to_vec());
    loop {
        // One more than fit the page, which tells whether more follow.
        let wanted = size + 1 - found.len();
        let count = isize::try_from(wanted).unwrap_or(isize::MAX);
        let ids = select(
            server,
            doing,
            place,
            after.as_deref().unwrap_or_default(),
            count,
        )
        .await?;
        let is_last = ids.len() < wanted;
        after = ids.last().cloned();
        let ids = ids.iter().filter_map(|id| KeyId::from_ascii(id)).collect();
        found.extend(read_listed(server, doing, ids, query).await?);
        if is_last || found.len() > size {
            return Ok(page(found, size));
        }
    }
}

/// A record that was listed, or why it cannot be read.
type ListedRecord = (KeyId, Result<KeyRecord, Broken>);

/// Those of `ids` that are there by now, and still what was asked for.
async fn read_listed(
    server: &Server,
    doing: &str,
    ids: Vec<KeyId>,
    query: &ListQuery,
) -> Result<Vec<ListedRecord>, StoreError> {
    let commands: Vec<_> = ids.iter().map(|id| read(server.names.record(id))).collect();
    let answers = server.calls.call(doing, commands, LONG_DEADLINE).await?;
    let fits = |hash: &RecordHash| {
        let is = |name: &[u8], text: &Option<String>| {
            text.as_ref()
                .is_none_or(|text| hash.get(name).is_some_and(|found| found == text.as_bytes()))
        };
        !hash.is_empty() && is(b"owner", &query.owner) && is(b"label", &query.label)
    };
    let mut listed = Vec::new();
    for (id, value) in ids.into_iter().zip(answers.values) {
        match hash(doing, value).map_err(|failure| failure.of_record(id.as_str())) {
            Ok(hash) if fits(&hash) => listed.push((id, record_hash::record(id, &hash))),
            Ok(_) => {}
            Err(StoreError::Corrupt { id: named, reason }) => {
                listed.push((id, Err(Broken { id: named, reason })));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(listed)
}

fn page(mut found: Vec<ListedRecord>, size: usize) -> RecordPage {
    let mut page = RecordPage::default();
    if found.len() > size {
        found.truncate(size);
        page.next = found.last().map(|(id, _)| *id);
    }
    for (_, record) in found {
        match record {
            Ok(record) => page.records.push(record),
            Err(broken) => page.unreadable.push(broken.id),
        }
    }
    page
}
