//! Implements `KeyStore` for a table that an application already has.
//!
//! ```sh
//! cargo run -p custom_store
//! ```
//!
//! The example runs the conformance suite, which every store must pass, and then starts a manager on
//! the store. The store has no capabilities, so it is queried for every request. That is correct but
//! slower: a store that also implements `ChangeLog` lets managers answer from their caches.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use apikey_runtime::store::{KeyPatch, ListQuery, RecordPage, Revocation, StoreError};
use apikey_runtime::{ApiKeyManager, KeyId, KeyRecord, KeyStore, Timestamp, conformance};
use async_trait::async_trait;

/// The application's table: rows of JSON by id. A map takes the place of a database here.
#[derive(Debug, Default)]
struct LegacyTable {
    rows: Mutex<BTreeMap<String, String>>,
}

impl LegacyTable {
    fn rows(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes one row, or leaves it as it is if `change` fails, as a transaction does.
    fn change<T>(
        &self,
        id: &KeyId,
        change: impl FnOnce(&mut KeyRecord) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut rows = self.rows();
        let row = rows.get_mut(id.as_str()).ok_or(StoreError::NotFound)?;
        let mut record = read(id.as_str(), row)?;
        let outcome = change(&mut record)?;
        *row = write(&record)?;
        Ok(outcome)
    }
}

fn read(id: &str, row: &str) -> Result<KeyRecord, StoreError> {
    serde_json::from_str(row).map_err(|error| StoreError::Corrupt {
        id: id.to_owned(),
        reason: error.to_string(),
    })
}

fn write(record: &KeyRecord) -> Result<String, StoreError> {
    serde_json::to_string(record).map_err(|error| StoreError::Backend {
        reason: "cannot write a row".to_owned(),
        source: error.into(),
    })
}

fn revoke(record: &mut KeyRecord, revocation: &Revocation) -> bool {
    let newly = record.revoked.is_none();
    if newly {
        record.revoked = Some(revocation.clone());
        record.version += 1;
    }
    newly
}

#[async_trait]
impl KeyStore for LegacyTable {
    async fn insert(&self, record: &KeyRecord) -> Result<(), StoreError> {
        let mut rows = self.rows();
        if rows.contains_key(record.id.as_str()) {
            return Err(StoreError::Conflict);
        }
        rows.insert(record.id.to_string(), write(record)?);
        Ok(())
    }

    async fn find(&self, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> {
        self.rows()
            .get(id.as_str())
            .map(|row| read(id.as_str(), row))
            .transpose()
    }

    async fn list(&self, query: &ListQuery) -> Result<RecordPage, StoreError> {
        let after = query.after.map(|id| id.to_string()).unwrap_or_default();
        let limit = query.limit.clamp(1, 1_000) as usize;
        let mut page = RecordPage::default();
        for (id, row) in self
            .rows()
            .range(after.clone()..)
            .filter(|(id, _)| **id > after)
        {
            let Ok(record) = read(id, row) else {
                page.unreadable.push(id.clone());
                continue;
            };
            let owned = query.owner.is_none() || record.owner == query.owner;
            let labelled = query
                .label
                .as_ref()
                .is_none_or(|label| record.label == *label);
            if !owned || !labelled {
                continue;
            }
            if page.records.len() == limit {
                page.next = page.records.last().map(|last| last.id);
                break;
            }
            page.records.push(record);
        }
        Ok(page)
    }

    async fn update(&self, id: &KeyId, patch: &KeyPatch) -> Result<(), StoreError> {
        self.change(id, |record| {
            if patch
                .expected_version
                .is_some_and(|expected| expected != record.version)
            {
                return Err(StoreError::Conflict);
            }
            patch.apply(record);
            Ok(())
        })
    }

    async fn revoke(&self, id: &KeyId, revocation: &Revocation) -> Result<bool, StoreError> {
        self.change(id, |record| Ok(revoke(record, revocation)))
    }

    async fn revoke_owner(
        &self,
        owner: &str,
        revocation: &Revocation,
    ) -> Result<Vec<KeyId>, StoreError> {
        let mut rows = self.rows();
        let mut changed = BTreeMap::new();
        for (id, row) in rows.iter() {
            let mut record = read(id, row)?;
            if record.owner.as_deref() == Some(owner) && revoke(&mut record, revocation) {
                changed.insert(record.id, write(&record)?);
            }
        }
        let ids = changed.keys().copied().collect();
        rows.extend(changed.into_iter().map(|(id, row)| (id.to_string(), row)));
        Ok(ids)
    }

    async fn purge(&self, before: Timestamp) -> Result<Vec<KeyId>, StoreError> {
        let mut removed = Vec::new();
        self.rows().retain(|id, row| {
            let Ok(record) = read(id, row) else {
                return true;
            };
            let revoked = record
                .revoked
                .as_ref()
                .is_some_and(|revocation| revocation.at < before);
            let ended = revoked || record.expires.is_some_and(|end| end < before);
            if ended {
                removed.push(record.id);
            }
            !ended
        });
        Ok(removed)
    }
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let report =
        conformance::run(|| async { Arc::new(LegacyTable::default()) as Arc<dyn KeyStore> }).await;
    println!(
        "the suite: {} checks passed, {} skipped (the store has no change log)",
        report.passed.len(),
        report.skipped.len()
    );

    let manager = ApiKeyManager::builder()
        .store(LegacyTable::default())
        .start()
        .await?;
    let key = manager.create("from the table").await?;
    let verified = manager.verify(key.expose_secret()).await?;
    println!("verified: {}", verified.label());
    manager.revoke(key.id()).await?;
    let refused = manager.verify(key.expose_secret()).await;
    println!(
        "after the revocation: {}",
        refused.map_or_else(|denied| denied.to_string(), |_| "accepted".to_owned())
    );
    manager.shutdown().await?;
    Ok(())
}
