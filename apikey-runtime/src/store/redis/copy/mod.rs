//! The content of the store in pages, as another store has it.

mod audit;
mod key_page;
mod of_keys;
mod records;
mod usage;

use async_trait::async_trait;

use super::RedisStore;
use crate::error::StoreError;
use crate::store::copy_rules::{check_items, page_size};
use crate::store::{CopyItems, CopyOutcome, CopyPage, CopySection, StoreCopy};

#[async_trait]
impl StoreCopy for RedisStore {
    async fn read_copy(
        &self,
        section: CopySection,
        after: Option<&str>,
        limit: u32,
    ) -> Result<CopyPage, StoreError> {
        let (server, size) = (self.server()?, page_size(limit));
        match section {
            CopySection::Owners => records::read_owners(&server, after, size).await,
            CopySection::Keys => records::read_keys(self, after, size).await,
            CopySection::SharedSecrets => records::read_secrets(&server, after, size).await,
            CopySection::LimitCounters => of_keys::read_counters(&server, after, size).await,
            CopySection::Usage => usage::read(&server, after, size).await,
            CopySection::SecretUses => of_keys::read_uses(&server, after, size).await,
            CopySection::Networks => of_keys::read_networks(&server, after, size).await,
            CopySection::Audit => audit::read(&server, after, size).await,
        }
    }

    async fn write_copy(&self, items: &CopyItems) -> Result<CopyOutcome, StoreError> {
        check_items(items)?;
        let server = self.server()?;
        if items.is_empty() {
            return Ok(CopyOutcome::default());
        }
        match items {
            CopyItems::Owners(owners) => records::write_owners(&server, owners).await,
            CopyItems::Keys(keys) => records::write_keys(&server, keys).await,
            CopyItems::SharedSecrets(secrets) => records::write_secrets(&server, secrets).await,
            CopyItems::LimitCounters(counters) => of_keys::write_counters(&server, counters).await,
            CopyItems::Usage(rows) => {
                usage::write(&server, rows, self.copied_usage_retention).await
            }
            CopyItems::SecretUses(uses) => of_keys::write_uses(&server, uses).await,
            CopyItems::Networks(networks) => {
                of_keys::write_networks(&server, networks, self.copied_usage_retention).await
            }
            CopyItems::Audit(entries) => audit::write(&server, entries).await,
        }
    }
}
