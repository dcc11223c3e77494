//! The content of a file, in pages.

mod entries;
mod records;
mod rows;

use async_trait::async_trait;

use super::{SqliteStore, to_its_end};
use crate::error::StoreError;
use crate::store::copy_rules::{check_items, page_size, read_keys, read_owners};
use crate::store::sql::{READ_NETWORKS, READ_SECRETS, READ_USAGE, READ_USES};
use crate::store::{
    CopiedCounter, CopiedSecret, CopyItems, CopyOutcome, CopyPage, CopySection, NetworkUse,
    SecretUse, StoreCopy, UsageRow,
};

const READING: &str = "reading a page of a copy";
const WRITING: &str = "writing a page of a copy";

#[async_trait]
impl StoreCopy for SqliteStore {
    async fn read_copy(
        &self,
        section: CopySection,
        after: Option<&str>,
        limit: u32,
    ) -> Result<CopyPage, StoreError> {
        let (pools, size) = (self.pools().await?, page_size(limit));
        let pool = &pools.reader;
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
        let pools = self.pools().await?;
        let (items, now) = (items.clone(), self.now());
        let write = async move {
            let pool = &pools.writer;
            match &items {
                CopyItems::Owners(owners) => records::write_owners(pool, owners, now).await,
                CopyItems::Keys(records) => records::write_keys(pool, records, now).await,
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
        };
        self.wrote(to_its_end(write).await).await
    }
}
