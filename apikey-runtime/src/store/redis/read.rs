//! Reads records by their ids.

use std::time::Duration;

use redis::{FromRedisValue, Value, from_redis_value};

use super::error::{NOT_A_HASH, RedisFailure};
use super::record_hash::RecordHash;
use super::script::{self, ScriptCall};
use super::server::Server;
use crate::error::StoreError;
use crate::key::KeyId;
use crate::store::columns::Broken;

/// Converts the answer to a command; an error is its failure.
pub(super) fn read_value<T: FromRedisValue>(doing: &str, value: Value) -> Result<T, RedisFailure> {
    value
        .extract_error()
        .and_then(|value| Ok(from_redis_value(value)?))
        .map_err(|error| RedisFailure::of(doing, error))
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

pub(super) fn ids(doing: &str, value: Value) -> Result<Vec<Vec<u8>>, RedisFailure> {
    value
        .extract_error()
        .and_then(|value| Ok(from_redis_value(value)?))
        .map_err(|error| RedisFailure::of(doing, error))
}
