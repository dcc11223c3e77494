//! Implements `KeyStore` for a table that an application already has.
//!
//! ```sh
//! cargo run -p custom_store
//! ```
//!
//! The example runs the conformance suite, which every store must pass, and then starts a manager on
//! the store. The store has no capabilities, so it is queried for every request. That is correct but
//! slower: a store that also implements `ChangeLog` lets managers answer from their caches. Without
//! `OwnerStore`, `revoke_all(owner)` lists the owner's keys and revokes each, and `suspend_owner` and a
//! maximum of live keys are errors that say so. Without `AuditStore`, changes are not logged durably,
//! and without `ExpiryNotices`, no `ExpiringSoon` event is sent.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use apikey_runtime::audit::ChangeOrigin;
use apikey_runtime::store::{
    BulkStep, KeyPatch, ListCursor, ListQuery, PreviousDigest, RecordPage, Revocation, StoreError,
    WriteOptions,
};
use apikey_runtime::{
    ApiKeyManager, KeyId, KeyRecord, KeyStore, Limit, Metadata, Scopes, Timestamp, conformance,
};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

/// The application's table: rows of JSON by id. A map takes the place of a database here.
#[derive(Default)]
struct LegacyTable {
    rows: Mutex<BTreeMap<String, String>>,
}

/// Omits the rows, which hold digests: a manager's `Debug` shows its store's.
impl fmt::Debug for LegacyTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LegacyTable").finish_non_exhaustive()
    }
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

/// A row of the table. A [`KeyRecord`] holds a digest and is not `Serialize`, so the format is the
/// store's own. The suite fails if a field of the record is not kept.
#[derive(Serialize, Deserialize)]
struct Row {
    id: KeyId,
    prefix: String,
    label: String,
    description: Option<String>,
    owner: Option<String>,
    digest: String,
    previous: Option<(String, Timestamp)>,
    scopes: Scopes,
    metadata: Metadata,
    environment: Option<String>,
    networks: Vec<String>,
    methods: Vec<String>,
    limits: Vec<Limit>,
    created: Timestamp,
    created_by: Option<String>,
    updated_by: Option<String>,
    expires: Option<Timestamp>,
    not_before: Option<Timestamp>,
    revoked: Option<Revocation>,
    enabled: bool,
    enabled_at: Option<Timestamp>,
    version: u64,
    rotations: u64,
}

impl From<&KeyRecord> for Row {
    fn from(record: &KeyRecord) -> Self {
        let record = record.clone();
        Self {
            id: record.id,
            prefix: record.prefix,
            label: record.label,
            description: record.description,
            owner: record.owner,
            digest: record.digest,
            previous: record.previous.map(|old| (old.digest, old.until)),
            scopes: record.scopes,
            metadata: record.metadata,
            environment: record.environment,
            networks: record.networks.iter().map(ToString::to_string).collect(),
            methods: record.methods,
            limits: record.limits,
            created: record.created,
            created_by: record.created_by,
            updated_by: record.updated_by,
            expires: record.expires,
            not_before: record.not_before,
            revoked: record.revoked,
            enabled: record.enabled,
            enabled_at: record.enabled_at,
            version: record.version,
            rotations: record.rotations,
        }
    }
}

impl TryFrom<Row> for KeyRecord {
    type Error = Box<dyn Error>;

    fn try_from(row: Row) -> Result<Self, Self::Error> {
        let mut record = Self::new(row.id, row.prefix, row.label, row.digest, row.created);
        record.description = row.description;
        record.owner = row.owner;
        record.created_by = row.created_by;
        record.updated_by = row.updated_by;
        record.rotations = row.rotations;
        let previous = row.previous;
        record.previous = previous.map(|(digest, until)| PreviousDigest { digest, until });
        record.scopes = row.scopes;
        record.metadata = row.metadata;
        record.environment = row.environment;
        // A network that cannot be read must not become "everywhere".
        let networks = row.networks.iter().map(|network| network.parse());
        record.networks = networks.collect::<Result<_, _>>()?;
        record.methods = row.methods;
        record.limits = row.limits;
        record.expires = row.expires;
        record.not_before = row.not_before;
        record.revoked = row.revoked;
        record.enabled = row.enabled;
        record.enabled_at = row.enabled_at;
        record.version = row.version;
        Ok(record)
    }
}

/// Omits the parser's message, which would quote the row: it may be logged, and the row has a digest.
fn read(id: &str, row: &str) -> Result<KeyRecord, StoreError> {
    let corrupt = |reason: &str| StoreError::Corrupt {
        id: id.to_owned(),
        reason: reason.to_owned(),
    };
    let row: Row = serde_json::from_str(row).map_err(|_| corrupt("the row is not a record"))?;
    row.try_into()
        .map_err(|_| corrupt("a network is not a network"))
}

fn write(record: &KeyRecord) -> Result<String, StoreError> {
    serde_json::to_string(&Row::from(record)).map_err(|error| StoreError::Backend {
        reason: "cannot write a row".to_owned(),
        source: error.into(),
    })
}

fn revoke(record: &mut KeyRecord, revocation: &Revocation, options: &WriteOptions) -> bool {
    let newly = record.revoked.is_none();
    if newly {
        record.revoked = Some(revocation.clone());
        record.version += 1;
        record.updated_by.clone_from(&options.origin.actor);
    }
    newly
}

fn no_maximum() -> StoreError {
    StoreError::InvalidArgument(
        "this table does not count live keys; write the key without a maximum".to_owned(),
    )
}

/// Reads the records of one step of a bulk change, and where the next one continues. A row that
/// cannot be read is skipped.
fn step(
    rows: &BTreeMap<String, String>,
    after: Option<&ListCursor>,
) -> (Vec<KeyRecord>, Option<ListCursor>) {
    let start = after.map_or(Bound::Unbounded, |after| Bound::Excluded(after.id.as_str()));
    let mut following = rows.range::<str, _>((start, Bound::Unbounded));
    let page: Vec<_> = following.by_ref().take(BulkStep::MAX_KEYS).collect();
    let more = following.next().and(page.last());
    let next = more
        .and_then(|(id, _)| id.parse::<KeyId>().ok())
        .map(ListCursor::from);
    let records = page.iter().filter_map(|(id, row)| read(id, row).ok());
    (records.collect(), next)
}

#[async_trait]
impl KeyStore for LegacyTable {
    async fn insert(&self, record: &KeyRecord, options: &WriteOptions) -> Result<(), StoreError> {
        let mut rows = self.rows();
        if rows.contains_key(record.id.as_str()) {
            return Err(StoreError::Conflict);
        }
        // This table does not count live keys. A maximum must not be ignored.
        if options.max_live_keys.is_some() {
            return Err(no_maximum());
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
        let rows = self.rows();
        let mut page = RecordPage::default();
        // A table with many keys has an index for each range.
        let mut found = Vec::new();
        for (id, row) in rows.iter() {
            match read(id, row) {
                Ok(record) if query.range.contains(&record) => {
                    found.push((query.range.cursor_of(&record), record));
                }
                Ok(_) => {}
                Err(_) => page.unreadable.push(id.clone()),
            }
        }
        if let Some(after) = &query.after {
            page.unreadable.clear();
            found.retain(|(cursor, _)| query.range.compare(after, cursor).is_lt());
        }
        found.sort_by(|(one, _), (other, _)| query.range.compare(one, other));
        let limit = query.limit.clamp(1, 1_000) as usize;
        if found.len() > limit {
            found.truncate(limit);
            page.next = found.last().map(|(cursor, _)| cursor.clone());
        }
        page.records = found.into_iter().map(|(_, record)| record).collect();
        Ok(page)
    }

    async fn update(
        &self,
        id: &KeyId,
        patch: &KeyPatch,
        options: &WriteOptions,
    ) -> Result<(), StoreError> {
        self.change(id, |record| {
            options.check_record(record)?;
            if options.max_live_keys.is_some() {
                return Err(no_maximum());
            }
            patch.apply(record, options.origin.actor.as_deref());
            Ok(())
        })
    }

    async fn revoke(
        &self,
        id: &KeyId,
        revocation: &Revocation,
        options: &WriteOptions,
    ) -> Result<bool, StoreError> {
        self.change(id, |record| {
            options.check_record(record)?;
            Ok(revoke(record, revocation, options))
        })
    }

    async fn purge(
        &self,
        before: Timestamp,
        after: Option<&ListCursor>,
        _origin: &ChangeOrigin,
    ) -> Result<BulkStep, StoreError> {
        let mut rows = self.rows();
        let (mut records, next) = step(&rows, after);
        records.retain(|record| {
            let revoked = record.revoked.as_ref();
            revoked.is_some_and(|revocation| revocation.at < before)
                || record.expires.is_some_and(|end| end < before)
        });
        let removed: Vec<KeyId> = records.iter().map(|record| record.id).collect();
        for id in &removed {
            rows.remove(id.as_str());
        }
        Ok(BulkStep::new(removed, next))
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
