//! Reads keys.

use crate::error::Error;
use crate::key::KeyId;
use crate::manager::ApiKeyManager;
use crate::manager::call::{StartedCall, impl_call};
use crate::record::KeyRecord;
use crate::store::WriteOptions;

/// A call that reads a key; see [`ApiKeyManager::get`]. Resolves to its record.
#[derive(Debug)]
#[must_use = "the key is read only when this is awaited"]
pub struct GetKey {
    manager: ApiKeyManager,
    id: KeyId,
    options: WriteOptions,
    started: StartedCall<KeyRecord>,
}

impl GetKey {
    pub(in crate::manager) fn new(manager: ApiKeyManager, id: KeyId) -> Self {
        Self {
            manager,
            id,
            options: WriteOptions::new(),
            started: StartedCall::none(),
        }
    }

    /// Reads the key only if it belongs to this owner. If not, the call returns [`Error::NotFound`], as
    /// if such a key did not exist. By default, any owner's.
    pub fn owned_by(mut self, owner: impl Into<String>) -> Self {
        self.options.expected_owner = Some(owner.into());
        self
    }

    async fn read(self) -> Result<KeyRecord, Error> {
        let Self {
            manager,
            id,
            options,
            ..
        } = self;
        manager
            .on_thread(move |core| async move { core.find_expected(id, &options).await })
            .await
    }
}

impl_call!(
    GetKey => KeyRecord,
    |call| Self::new(call.manager.clone(), call.id),
    Self::read
);
