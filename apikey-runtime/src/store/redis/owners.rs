//! Owners, which are revoked and suspended as a whole.

use async_trait::async_trait;
use redis::from_redis_value;

use super::connection::DEADLINE;
use super::error::RedisFailure;
use super::options::ChangeOptions;
use super::read::{ids, read, unreadable_owner};
use super::record_hash::{RecordHash, owner_state};
use super::records::KEYS;
use super::script::{self, LuaScript, ScriptCall};
use super::server::{SCHEMA, Server};
use super::{RedisStore, bulk, index, owner_list};
use crate::audit::ChangeOrigin;
use crate::error::StoreError;
use crate::key::KeyId;
use crate::record::{OwnerRevocation, OwnerState};
use crate::store::columns::Broken;
use crate::store::{OwnerPage, OwnerQuery, OwnerStore, PROTOCOL};

/// How many records of an owner are read at once.
const READ_STEP: usize = 100;

#[async_trait]
impl OwnerStore for RedisStore {
    async fn find_owner(&self, owner: &str) -> Result<Option<OwnerState>, StoreError> {
        find(&*self.server()?, owner).await
    }

    async fn revoke_owner_keys(
        &self,
        owner: &str,
        revocation: &OwnerRevocation,
        origin: &ChangeOrigin,
    ) -> Result<OwnerState, StoreError> {
        let server = self.server()?;
        let queue = server.names.unmarked_owners();
        let revoke = |run: ScriptCall| {
            [&revocation.reason, &revocation.actor].into_iter().fold(
                run.key(queue.as_str()).argument(revocation.at.as_millis()),
                |run, text| {
                    run.argument(u8::from(text.is_some()))
                        .argument(text.as_deref().unwrap_or_default())
                },
            )
        };
        let doing = "revoking the keys of an owner";
        let (state, _) = change(
            &server,
            doing,
            &script::REVOKE_OWNER_KEYS,
            owner,
            origin,
            revoke,
        )
        .await?;
        Ok(state)
    }

    async fn set_owner_suspended(
        &self,
        owner: &str,
        suspended: bool,
        origin: &ChangeOrigin,
    ) -> Result<(OwnerState, bool), StoreError> {
        let server = self.server()?;
        let suspend = |run: ScriptCall| run.argument(u8::from(suspended));
        let doing = "suspending or resuming an owner";
        change(
            &server,
            doing,
            &script::SUSPEND_OWNER,
            owner,
            origin,
            suspend,
        )
        .await
    }

    async fn count_live_keys(&self, owner: &str, max: u32) -> Result<u32, StoreError> {
        index::count_live_keys(&*self.server()?, owner, max).await
    }

    async fn list_owners(&self, query: &OwnerQuery) -> Result<OwnerPage, StoreError> {
        owner_list::list(&*self.server()?, query).await
    }

    async fn mark_revoked_keys(&self) -> Result<bool, StoreError> {
        bulk::mark(&*self.server()?).await
    }
}

async fn find(server: &Server, owner: &str) -> Result<Option<OwnerState>, StoreError> {
    let doing = "reading an owner";
    let mut read = redis::cmd("HGET");
    read.arg(server.names.owners()).arg(owner);
    let (value, _) = server.calls.call(doing, [read], DEADLINE).await?.one();
    let failed = |error| RedisFailure::of(doing, error);
    let value = value.extract_error().map_err(failed)?;
    let text: Option<Vec<u8>> = from_redis_value(value).map_err(|error| failed(error.into()))?;
    match text {
        Some(text) => str::from_utf8(&text)
            .ok()
            .and_then(owner_state)
            .map(Some)
            .ok_or_else(|| unreadable_owner(server)),
        None => Ok(has_keys(server, owner).await?.then(OwnerState::new)),
    }
}

/// Makes a change of an owner's state. Returns the state, and whether this changed it.
async fn change(
    server: &Server,
    doing: &str,
    script: &'static LuaScript,
    owner: &str,
    origin: &ChangeOrigin,
    complete: impl Fn(ScriptCall) -> ScriptCall,
) -> Result<(OwnerState, bool), StoreError> {
    let mut is_known = false;
    loop {
        let run = server
            .write(script, KEYS)?
            .argument(ChangeOptions::of_origin(origin).text())
            .argument(owner)
            .argument(u8::from(is_known))
            .argument(SCHEMA)
            .argument(PROTOCOL);
        let reply = server
            .run_with_history(&server.calls, doing, complete(run), DEADLINE)
            .await?;
        match reply.word.as_str() {
            "unknown_owner" if !is_known && has_keys(server, owner).await? => is_known = true,
            "unknown_owner" => return Err(StoreError::NotFound),
            "unreadable_owner" => return Err(unreadable_owner(server)),
            word => {
                let state = reply
                    .rest
                    .first()
                    .and_then(|text| str::from_utf8(text).ok());
                let state = state.and_then(owner_state);
                let state = state.ok_or_else(|| unreadable_owner(server))?;
                return Ok((state, word == "done"));
            }
        }
    }
}

/// Whether an owner without a state has keys, which an older release has added.
async fn has_keys(server: &Server, owner: &str) -> Result<bool, StoreError> {
    let doing = "looking for keys of an owner";
    let mut after = Vec::new();
    loop {
        let run = ScriptCall::new(&script::SELECT_IDS)
            .key(server.names.index())
            .argument("o")
            .argument(owner)
            .argument(after.as_slice())
            .argument(READ_STEP);
        let (value, _) = server.calls.run(doing, &run, DEADLINE).await?;
        let found = ids(doing, value)?;
        let keys: Vec<_> = found
            .iter()
            .filter_map(|id| KeyId::from_ascii(id))
            .collect();
        let hashes = read(server, doing, &keys, DEADLINE).await?;
        let is_its = |hash: &Result<RecordHash, Broken>| {
            hash.as_ref().is_ok_and(|hash| {
                hash.get(b"owner".as_slice()).map(Vec::as_slice) == Some(owner.as_bytes())
            })
        };
        match found.last() {
            _ if hashes.iter().any(is_its) => return Ok(true),
            Some(last) if found.len() == READ_STEP => after.clone_from(last),
            _ => return Ok(false),
        }
    }
}
