//! Shared secrets.

use async_trait::async_trait;
use sqlx::{Row, query};

use super::PostgresStore;
use super::error::failed;
use super::history::primary;
use super::pool::ConnectionPool;
use crate::error::StoreError;
use crate::store::SharedSecretStore;
use crate::store::shared_secret_store::secret_of;

#[async_trait]
impl SharedSecretStore for PostgresStore {
    async fn shared_secret(&self, name: &str, proposed: [u8; 32]) -> Result<[u8; 32], StoreError> {
        let pool = &self.running()?.keys;
        // Usually it is there, and nothing is written.
        if let Some(kept) = read(pool, name).await? {
            return secret_of(name, &kept);
        }
        add(pool, name, proposed).await?;
        match read(pool, name).await? {
            Some(kept) => secret_of(name, &kept),
            None => Err(StoreError::unavailable(
                "a shared secret was removed while it was read",
            )),
        }
    }
}

async fn read(pool: &ConnectionPool, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
    const READ: &str = "SELECT secret, pg_is_in_recovery() AS standby \
         FROM (SELECT) AS one LEFT JOIN api_key_shared_secrets ON name = $1";
    let reading_failed = |error| failed("reading a shared secret", error);
    let rows = pool.read(|| query(READ).bind(name.to_owned())).await;
    let rows = rows.map_err(reading_failed)?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    primary(row).map_err(reading_failed)?;
    row.try_get("secret").map_err(reading_failed)
}

/// Adds the secret, unless another node was faster. This then waits until that one has committed.
async fn add(pool: &ConnectionPool, name: &str, proposed: [u8; 32]) -> Result<(), StoreError> {
    const ADD: &str = "INSERT INTO api_key_shared_secrets (name, secret) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
    let add = || query(ADD).bind(name.to_owned()).bind(proposed.to_vec());
    let added = pool.write(add).await;
    let added = added.map(drop);
    added.map_err(|error| failed("adding a shared secret", error))
}
