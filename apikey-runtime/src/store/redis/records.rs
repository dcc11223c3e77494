//! The statements on records.

use std::time::Duration;

use redis::from_redis_value;

use super::connection::DEADLINE;
use super::error::{NOT_A_HASH, RedisFailure};
use super::record_hash::{self, RecordFields, RecordHash};
use super::script::{self, ScriptCall};
use super::server::Server;
use crate::error::StoreError;
use crate::key::KeyId;
use crate::record::{KeyPatch, KeyRecord, Revocation};
use crate::store::columns::Broken;

/// Keys of the store that a change of records needs.
pub(super) const KEYS: usize = 6;

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
        "unreadable_owner" => Err(unreadable_owner(server)),
        _ => Ok(answer.word),
    }
}

pub(super) async fn find(server: &Server, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> {
    let hashes = read(server, "reading a record", &[*id], DEADLINE).await?;
    match hashes.into_iter().next() {
        Some(Ok(hash)) if hash.is_empty() => Ok(None),
        Some(Ok(hash)) => Ok(Some(record_hash::record(*id, &hash)?)),
        Some(Err(broken)) => Err(broken.into()),
        None => Err(server.broken("a script does not answer as it should")),
    }
}

/// Reads records with the states of their owners, in one script; a record that does not exist is empty.
pub(super) async fn read(
    server: &Server,
    doing: &str,
    ids: &[KeyId],
    deadline: Duration,
) -> Result<Vec<Result<RecordHash, Broken>>, StoreError> {
    let run = ScriptCall::new(&script::READ_RECORDS)
        .key(server.names.owners())
        .key(server.names.owner_revocations())
        .keys(ids.iter().map(|id| server.names.record(id)));
    let (value, _) = server.calls.run(doing, &run, deadline).await?;
    let answers: Vec<Vec<Vec<u8>>> = from_redis_value(value)
        .map_err(|error| RedisFailure::of(doing, redis::RedisError::from(error)))?;
    let hash = |(id, answer): (&KeyId, Vec<Vec<u8>>)| {
        if answer.len() == 1 {
            return Err(Broken {
                id: id.to_string(),
                reason: NOT_A_HASH.to_owned(),
            });
        }
        let mut texts = answer.into_iter();
        Ok(std::iter::from_fn(|| Some((texts.next()?, texts.next()?))).collect())
    };
    Ok(ids.iter().zip(answers).map(hash).collect())
}

/// The error of a text in the hash of owners that cannot be read.
pub(super) fn unreadable_owner(server: &Server) -> StoreError {
    StoreError::Corrupt {
        id: server.names.owners(),
        reason: "what it has for the owner is not `version revocations suspended`".to_owned(),
    }
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
