//! Shared secrets.

use async_trait::async_trait;
use redis::from_redis_value;

use super::RedisStore;
use super::connection::DEADLINE;
use super::error::RedisFailure;
use super::script::{self, ScriptCall};
use crate::error::StoreError;
use crate::store::SharedSecretStore;
use crate::store::shared_secret_store::secret_of;

#[async_trait]
impl SharedSecretStore for RedisStore {
    async fn shared_secret(&self, name: &str, proposed: [u8; 32]) -> Result<[u8; 32], StoreError> {
        let doing = "reading a shared secret";
        let server = self.server()?;
        let run = ScriptCall::new(&script::SHARED_SECRET)
            .key(server.names.shared_secrets())
            .argument(name)
            .argument(&proposed[..]);
        let (value, _) = server.calls.run(doing, &run, DEADLINE).await?;
        let kept: Vec<u8> = value
            .extract_error()
            .and_then(|value| Ok(from_redis_value(value)?))
            .map_err(|error| RedisFailure::of(doing, error))?;
        secret_of(name, &kept)
    }
}
