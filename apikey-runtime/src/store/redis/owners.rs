//! Owners, which are revoked and suspended as a whole.

use async_trait::async_trait;
use redis::from_redis_value;

use super::connection::DEADLINE;
use super::error::RedisFailure;
use super::record_hash::owner_state;
use super::records::{KEYS, unreadable_owner};
use super::script::{self, LuaScript, ScriptCall};
use super::server::{SCHEMA, Server};
use super::{RedisStore, bulk, list};
use crate::error::StoreError;
use crate::record::{OwnerRevocation, OwnerState};
use crate::store::{ListQuery, OwnerStore, PROTOCOL};

#[async_trait]
impl OwnerStore for RedisStore {
    async fn find_owner(&self, owner: &str) -> Result<Option<OwnerState>, StoreError> {
        find(&*self.server()?, owner).await
    }

    async fn revoke_owner_keys(
        &self,
        owner: &str,
        revocation: &OwnerRevocation,
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
        let (state, _) = change(&server, doing, &script::REVOKE_OWNER_KEYS, owner, revoke).await?;
        Ok(state)
    }

    async fn set_owner_suspended(
        &self,
        owner: &str,
        suspended: bool,
    ) -> Result<(OwnerState, bool), StoreError> {
        let server = self.server()?;
        let suspend = |run: ScriptCall| run.argument(u8::from(suspended));
        let doing = "suspending or resuming an owner";
        change(&server, doing, &script::SUSPEND_OWNER, owner, suspend).await
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
    complete: impl Fn(ScriptCall) -> ScriptCall,
) -> Result<(OwnerState, bool), StoreError> {
    let mut is_known = false;
    loop {
        let run = server
            .write(script, KEYS)?
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
    let mut query = ListQuery::first(1);
    query.owner = Some(owner.to_owned());
    loop {
        let page = list::list(server, &query).await?;
        if !page.records.is_empty() || !page.unreadable.is_empty() {
            return Ok(true);
        }
        if page.next.is_none() {
            return Ok(false);
        }
        query.after = page.next;
    }
}
