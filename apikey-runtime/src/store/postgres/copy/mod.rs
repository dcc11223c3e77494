//! The content of a database, in pages.

mod entries;
mod records;
mod rows;

use async_trait::async_trait;
use sqlx::query;

use super::PostgresStore;
use super::pool::PgQuery;
use crate::error::StoreError;
use crate::store::copy_rules::{check_items, page_size, read_keys, read_owners};
use crate::store::sql::{READ_NETWORKS, READ_SECRETS, READ_USAGE, READ_USES};
use crate::store::{
    CopiedCounter, CopiedSecret, CopyItems, CopyOutcome, CopyPage, CopySection, NetworkUse,
    SecretUse, StoreCopy, UsageRow,
};

const READING: &str = "reading a page of a copy";
const WRITING: &str = "writing a page of a copy";

/// How often a page is written of which something was changed at the same moment.
const TRIES: u32 = 5;

/// Returns a statement that is planned at each call: one that was planned while the tables were small reads all of them.
fn once(sql: &'static str) -> PgQuery {
    query(sql).persistent(false)
}

#[async_trait]
impl StoreCopy for PostgresStore {
    async fn read_copy(
        &self,
        section: CopySection,
        after: Option<&str>,
        limit: u32,
    ) -> Result<CopyPage, StoreError> {
        let (pool, size) = (&self.running()?.keys, page_size(limit));
        match section {
            CopySection::Owners => read_owners(self, after, size).await,
            CopySection::Keys => read_keys(self, after, size).await,
            CopySection::SharedSecrets => {
                rows::read::<CopiedSecret>(pool, READ_SECRETS, after, size).await
            }
            CopySection::LimitCounters => {
                rows::read::<CopiedCounter>(pool, rows::READ_COUNTERS, after, size).await
            }
            CopySection::Usage => rows::read::<UsageRow>(pool, READ_USAGE, after, size).await,
            CopySection::SecretUses => rows::read::<SecretUse>(pool, READ_USES, after, size).await,
            CopySection::Networks => {
                rows::read::<NetworkUse>(pool, READ_NETWORKS, after, size).await
            }
            CopySection::Audit => entries::read(pool, after, size).await,
        }
    }

    async fn write_copy(&self, items: &CopyItems) -> Result<CopyOutcome, StoreError> {
        check_items(items)?;
        let pool = &self.running()?.keys;
        match items {
            CopyItems::Owners(owners) => records::write_owners(pool, owners).await,
            CopyItems::Keys(records) => records::write_keys(pool, records).await,
            CopyItems::SharedSecrets(secrets) => rows::write_secrets(pool, secrets).await,
            CopyItems::LimitCounters(counters) => {
                rows::write(pool, counters, rows::FIND_COUNTERS, &[rows::WRITE_COUNTERS]).await
            }
            CopyItems::Usage(usage) => {
                rows::write(pool, usage, rows::FIND_USAGE, &[rows::WRITE_USAGE]).await
            }
            CopyItems::SecretUses(uses) => {
                rows::write(pool, uses, rows::FIND_USES, &rows::WRITE_USES_ALL).await
            }
            CopyItems::Networks(uses) => {
                rows::write(pool, uses, rows::FIND_NETWORKS, &rows::WRITE_NETWORKS_ALL).await
            }
            CopyItems::Audit(entries) => entries::write(pool, entries).await,
        }
    }
}
