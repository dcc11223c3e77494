//! The statements on records.

use redis::{Cmd, Value, from_redis_value};

use super::connection::DEADLINE;
use super::error::RedisFailure;
use super::record_hash::{self, RecordFields, RecordHash};
use super::script::{self, ScriptCall};
use super::server::Server;
use crate::error::StoreError;
use crate::key::KeyId;
use crate::record::{KeyPatch, KeyRecord, Revocation};

/// Keys of the store that a change of records needs.
pub(super) const KEYS: usize = 4;

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

pub(super) fn read(key: impl redis::ToRedisArgs) -> Cmd {
    redis::cmd("HGETALL").arg(key).to_owned()
}

pub(super) fn hash(doing: &str, value: Value) -> Result<RecordHash, RedisFailure> {
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
