//! Removes records of keys that ended.

use crate::clock::Timestamp;
use crate::error::Error;
use crate::manager::ApiKeyManager;
use crate::manager::call::{StartedCall, impl_call, origin_setters};
use crate::manager::keys::bulk::BulkChange;
use crate::manager::validate::check_origin;
use crate::store::WriteOptions;

/// A call that removes records; see [`ApiKeyManager::purge`]. Resolves to the number of
/// removed keys.
#[derive(Debug)]
#[must_use = "records are removed only when this is awaited"]
pub struct PurgeKeys {
    manager: ApiKeyManager,
    before: Timestamp,
    options: WriteOptions,
    started: StartedCall<u64>,
}

impl PurgeKeys {
    pub(in crate::manager) fn new(manager: ApiKeyManager, before: Timestamp) -> Self {
        Self {
            manager,
            before,
            options: WriteOptions::new(),
            started: StartedCall::none(),
        }
    }

    origin_setters!();

    async fn carry_out(self) -> Result<u64, Error> {
        let Self {
            manager,
            before,
            options,
            ..
        } = self;
        check_origin(&options.origin)?;
        if before > manager.now() {
            return Err(Error::InvalidArgument(format!(
                "`before` is {before}, which lies in the future, and keys that end until then still work; write a time \
                 that has passed"
            )));
        }
        let change = BulkChange::Purge { before };
        manager
            .on_thread(move |core| async move {
                let done = core.change_in_steps(&change, &options.origin).await?;
                tracing::info!(keys = done, "removed the records of ended keys");
                Ok(done)
            })
            .await
    }
}

impl_call!(
    PurgeKeys => u64,
    |call| Self::new(call.manager.clone(), call.before),
    Self::carry_out
);
