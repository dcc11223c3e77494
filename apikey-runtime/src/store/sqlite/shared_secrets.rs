//! Shared secrets.

use async_trait::async_trait;
use sqlx::query_scalar;
use sqlx::sqlite::SqlitePool;

use super::error::failed;
use super::{SqliteStore, to_its_end};
use crate::error::StoreError;
use crate::store::SharedSecretStore;
use crate::store::shared_secret_store::secret_of;

const DOING: &str = "reading a shared secret";

#[async_trait]
impl SharedSecretStore for SqliteStore {
    async fn shared_secret(&self, name: &str, proposed: [u8; 32]) -> Result<[u8; 32], StoreError> {
        let pools = self.pools().await?;
        // Usually it is there, and nothing is written.
        if let Some(kept) = read(&pools.reader, name).await? {
            return secret_of(name, &kept);
        }
        let added = name.to_owned();
        let add = async move { add(&pools.writer, &added, proposed).await };
        self.kept(to_its_end(add).await).await?;
        match read(&self.pools().await?.reader, name).await? {
            Some(kept) => secret_of(name, &kept),
            None => Err(StoreError::unavailable(
                "a shared secret was removed while it was read",
            )),
        }
    }
}

async fn read(pool: &SqlitePool, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
    const READ: &str = "SELECT secret FROM api_key_shared_secrets WHERE name = ?";
    let read = query_scalar(READ).bind(name).fetch_optional(pool);
    read.await.map_err(|error| failed(DOING, error))
}

/// Adds the secret, unless another process was faster.
async fn add(pool: &SqlitePool, name: &str, proposed: [u8; 32]) -> Result<(), StoreError> {
    const ADD: &str = "INSERT INTO api_key_shared_secrets (name, secret) VALUES (?, ?) ON CONFLICT (name) DO NOTHING";
    let add = sqlx::query(ADD).bind(name).bind(proposed.to_vec());
    let added = add.execute(pool).await;
    added.map(drop).map_err(|error| failed(DOING, error))
}
