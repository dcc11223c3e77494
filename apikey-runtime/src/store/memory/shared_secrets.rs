//! Shared secrets in memory.

use async_trait::async_trait;

use super::MemoryStore;
use crate::error::StoreError;
use crate::store::SharedSecretStore;

#[async_trait]
impl SharedSecretStore for MemoryStore {
    async fn shared_secret(&self, name: &str, proposed: [u8; 32]) -> Result<[u8; 32], StoreError> {
        let mut state = self.state();
        let kept = state.shared_secrets.entry(name.to_owned());
        Ok(*kept.or_insert(proposed))
    }
}
