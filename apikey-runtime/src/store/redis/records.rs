//! The statements on records.

use super::connection::DEADLINE;
use super::index;
use super::options::ChangeOptions;
use super::read::{read, unreadable_owner};
use super::record_hash::{self, RecordFields, RecordHash};
use super::script::{self, LuaScript};
use super::server::{Server, TRIES};
use crate::error::StoreError;
use crate::key::KeyId;
use crate::record::{KeyPatch, KeyRecord, Revocation};
use crate::store::columns::Broken;
use crate::store::{FindResult, WriteOptions};

/// Keys of the store that a change of records needs.
pub(super) const KEYS: usize = 8;

/// A change of one record, which may need several attempts.
struct RecordChange<'a> {
    doing: &'static str,
    script: &'static LuaScript,
    id: &'a KeyId,
    options: ChangeOptions,
    max_live_keys: u32,
    arguments: Vec<Vec<u8>>,
}

impl<'a> RecordChange<'a> {
    fn new(
        doing: &'static str,
        script: &'static LuaScript,
        id: &'a KeyId,
        options: &WriteOptions,
    ) -> Self {
        Self {
            doing,
            script,
            id,
            options: ChangeOptions::new(options),
            max_live_keys: options.max_live_keys.unwrap_or(u32::MAX),
            arguments: vec![id.as_str().as_bytes().to_vec()],
        }
    }

    fn argument(mut self, argument: impl Into<Vec<u8>>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    fn fields(mut self, fields: Vec<(&'static str, Vec<u8>)>) -> Self {
        for (name, value) in fields {
            if name == "label" {
                self.options.fold(&value);
            }
            self = self.argument(name).argument(value);
        }
        self
    }

    /// Makes the change. The answer is `done`, or `already_revoked`.
    async fn make(mut self, server: &Server) -> Result<String, StoreError> {
        let mut is_corrected = false;
        for _ in 0..TRIES {
            let run = server
                .write(self.script, KEYS)?
                .key(server.names.record(self.id))
                .argument(self.options.text());
            let run = self
                .arguments
                .iter()
                .fold(run, |run, argument| run.argument(argument.as_slice()));
            let answered = server
                .run_with_history(&server.calls, self.doing, run, DEADLINE)
                .await;
            let answer = answered.map_err(|failure| failure.of_record(self.id.as_str()))?;
            match answer.word.as_str() {
                "conflict" => return Err(StoreError::Conflict),
                "not_found" => return Err(StoreError::NotFound),
                "unreadable_owner" => return Err(unreadable_owner(server)),
                "fold" => answer
                    .rest
                    .iter()
                    .for_each(|label| self.options.fold(label)),
                "unindexed" => index::complete(server).await?,
                "too_many" => {
                    let owner = answer.rest.first().map_or(&[][..], Vec::as_slice);
                    let owner = String::from_utf8_lossy(owner);
                    if is_corrected || !index::correct_live_keys(server, &owner).await? {
                        let max = self.max_live_keys;
                        return Err(StoreError::TooManyKeys { max });
                    }
                    is_corrected = true;
                }
                _ => return Ok(answer.word),
            }
        }
        Err(StoreError::unavailable(format!(
            "{}: the record changes again and again",
            self.doing
        )))
    }
}

pub(super) async fn insert(
    server: &Server,
    record: &KeyRecord,
    options: &WriteOptions,
) -> Result<(), StoreError> {
    let fields = RecordFields::of_record(record)?;
    RecordChange::new("adding a record", &script::INSERT, &record.id, options)
        .fields(fields.set)
        .make(server)
        .await
        .map(drop)
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

/// Reads all records by one script.
pub(super) async fn find_many(
    server: &Server,
    ids: &[KeyId],
) -> Result<Vec<FindResult>, StoreError> {
    let hashes = read(server, "reading records", ids, DEADLINE).await?;
    let found = |(id, hash): (&KeyId, Result<RecordHash, Broken>)| match hash {
        Ok(hash) if hash.is_empty() => Ok(None),
        Ok(hash) => Ok(Some(record_hash::record(*id, &hash)?)),
        Err(broken) => Err(broken.into()),
    };
    // With fewer answers than ids, the caller reads each record by itself.
    Ok(ids.iter().zip(hashes).map(found).collect())
}

pub(super) async fn update(
    server: &Server,
    id: &KeyId,
    patch: &KeyPatch,
    options: &WriteOptions,
) -> Result<(), StoreError> {
    let fields = RecordFields::of_patch(patch, options.origin.actor.as_deref())?;
    let mut change = RecordChange::new("changing a record", &script::UPDATE, id, options)
        .argument((fields.set.len() * 2).to_string())
        .fields(fields.set);
    for name in fields.clear {
        change = change.argument(name);
    }
    change.make(server).await.map(drop)
}

pub(super) async fn revoke(
    server: &Server,
    id: &KeyId,
    revocation: &Revocation,
    options: &WriteOptions,
) -> Result<bool, StoreError> {
    let mut change = RecordChange::new("revoking a key", &script::REVOKE, id, options)
        .argument(revocation.at.as_millis().to_string());
    if let Some(reason) = &revocation.reason {
        change = change.argument(reason.as_str());
    }
    Ok(change.make(server).await? == "done")
}
