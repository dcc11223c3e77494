//! The audit log. Triggers write it; this reads it, and removes old entries.

use async_trait::async_trait;
use sqlx::query;
use sqlx::sqlite::{SqlitePool, SqliteRow};

use super::SqliteStore;
use super::error::failed;
use super::transaction::WriteTransaction;
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::store::sql::{KeyRow, audit_entry};
use crate::store::{AuditPage, AuditQuery, AuditStore};

/// The most entries that are removed at once.
const STEP: u64 = 1_000;

/// The most entries that a page reads to find those that match several filters.
const READS: usize = 1_000;

/// Entries are in the order of their time, and of their numbers if times are equal: a step of the clock
/// does not hide one from a range of times.
macro_rules! read {
    ($filter:literal) => {
        concat!(
            "SELECT ",
            "position, at, action, key, owner, former_owner, actor, channel, address, request_id, reason, fields",
            " FROM api_key_audit WHERE ",
            $filter,
            "at >= $2 AND (at, position) < ($3, $4) ORDER BY at DESC, position DESC LIMIT $1"
        )
    };
}

const ALL: &str = read!("");
const OF_KEY: &str = read!("key = $5 AND ");
const OF_ACTOR: &str = read!("actor = $5 AND ");
/// Those of the owner, and those of keys that it gave away.
const OF_OWNER: &str = concat!(
    "SELECT * FROM (",
    read!("owner = $5 AND "),
    ") UNION ALL SELECT * FROM (",
    read!("former_owner = $5 AND owner IS NOT $5 AND "),
    ") ORDER BY at DESC, position DESC LIMIT $1"
);

/// Time and number of an entry.
type AuditPosition = (i64, i64);

#[async_trait]
impl AuditStore for SqliteStore {
    async fn read_audit(&self, query: &AuditQuery) -> Result<AuditPage, StoreError> {
        read(&self.pools().await?.reader, query).await
    }

    async fn prune_audit(&self, before: Timestamp) -> Result<bool, StoreError> {
        let pools = self.pools().await?;
        let pruning_failed = |error| failed("removing old entries of the audit log", error);
        // Usually nothing is old, and nothing is written.
        let old = query(OLD).bind(before.as_millis());
        let old = old.fetch_optional(&pools.reader).await;
        if old.map_err(pruning_failed)?.is_none() {
            return Ok(false);
        }
        let removed = prune(&pools.writer, before).await.map_err(pruning_failed);
        Ok(self.kept(removed).await? == STEP)
    }
}

async fn read(pool: &SqlitePool, wanted: &AuditQuery) -> Result<AuditPage, StoreError> {
    let limit = usize::try_from(wanted.limit.clamp(1, 1_000)).unwrap_or(usize::MAX);
    // The key has the fewest entries, and an actor may have made all of them.
    let (statement, filter) = match (&wanted.key, &wanted.owner, &wanted.actor) {
        (Some(key), _, _) => (OF_KEY, Some(key.as_str())),
        (None, Some(owner), _) => (OF_OWNER, Some(owner.as_str())),
        (None, None, Some(actor)) => (OF_ACTOR, Some(actor.as_str())),
        (None, None, None) => (ALL, None),
    };
    let filters = [
        wanted.key.is_some(),
        wanted.owner.is_some(),
        wanted.actor.is_some(),
    ];
    let has_several = filters.into_iter().filter(|is_set| *is_set).count() > 1;
    let reads = if has_several { READS } else { limit };
    let (end_at, end_position) = end(wanted)?;
    let mut statement = query(statement)
        // One more, which tells whether others follow.
        .bind(i64::try_from(reads + 1).unwrap_or(i64::MAX))
        .bind(wanted.from.unwrap_or(Timestamp::MIN).as_millis())
        .bind(end_at)
        .bind(end_position);
    if let Some(filter) = filter {
        statement = statement.bind(filter);
    }
    let rows = statement.fetch_all(pool).await;
    let rows = rows.map_err(|error| failed("reading the audit log", error))?;
    Ok(page(wanted, &rows, reads, limit))
}

/// Takes up to `limit` entries that match from the first `reads` of `rows`.
fn page(wanted: &AuditQuery, rows: &[SqliteRow], reads: usize, limit: usize) -> AuditPage {
    let mut entries = Vec::new();
    let mut last = None;
    for (read, row) in rows.iter().enumerate() {
        if read == reads || entries.len() == limit {
            return AuditPage::new(entries, last);
        }
        let entry = audit_entry(row, position_text(row));
        last = Some(entry.position.clone());
        if wanted.matches(&entry) {
            entries.push(entry);
        }
    }
    AuditPage::new(entries, None)
}

/// Returns the position before which all entries of a page are.
fn end(wanted: &AuditQuery) -> Result<AuditPosition, StoreError> {
    // No entry has the number 0.
    let to = wanted.to.map(|to| (to.as_millis(), 0));
    let before = wanted.before.as_deref().map(parse_position).transpose()?;
    let ends = to.into_iter().chain(before);
    Ok(ends.min().unwrap_or((i64::MAX, i64::MAX)))
}

/// Flips the sign, so that the digits of numbers sort as the numbers do.
const SIGN: u64 = 1 << 63;

/// 16 hexadecimal digits of the time, and as many of the number.
fn position_text(row: &SqliteRow) -> String {
    let number = |name| row.number(name).ok().flatten().unwrap_or_default();
    let [at, position] = ["at", "position"].map(|name| number(name).cast_unsigned() ^ SIGN);
    format!("{at:016x}{position:016x}")
}

fn parse_position(text: &str) -> Result<AuditPosition, StoreError> {
    let number = |digits: &str| {
        let digits = Some(digits).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
        let number = u64::from_str_radix(digits, 16).ok()?;
        Some((number ^ SIGN).cast_signed())
    };
    let parts = text.split_at_checked(16).filter(|_| text.len() == 32);
    let position = parts.and_then(|(at, position)| Some((number(at)?, number(position)?)));
    position.ok_or_else(|| {
        StoreError::InvalidArgument(
            "the position is not one of the audit log; start again without one".to_owned(),
        )
    })
}

const OLD: &str = "SELECT 1 FROM api_key_audit WHERE at < ? LIMIT 1";
/// With this row, the trigger lets entries from before the time go.
const ALLOW: &str = "INSERT OR REPLACE INTO api_key_origin (only_row, prunes_before) VALUES (1, ?)";
const PRUNE: &str = "DELETE FROM api_key_audit WHERE position IN \
    (SELECT position FROM api_key_audit WHERE at < ? ORDER BY at, position LIMIT ?)";
const FORBID: &str = "DELETE FROM api_key_origin";

/// Removes the oldest entries, and returns their number.
async fn prune(pool: &SqlitePool, before: Timestamp) -> Result<u64, sqlx::Error> {
    let mut transaction = WriteTransaction::begin(pool).await?;
    let connection = transaction.connection();
    query(ALLOW)
        .bind(before.as_millis())
        .execute(&mut *connection)
        .await?;
    let pruned = query(PRUNE)
        .bind(before.as_millis())
        .bind(STEP.cast_signed())
        .execute(&mut *connection)
        .await?;
    query(FORBID).execute(connection).await?;
    transaction.commit().await?;
    Ok(pruned.rows_affected())
}

#[cfg(test)]
mod tests {
    use super::super::records::tests::reads_through;
    use super::*;
    use crate::store::KeyStore;

    #[tokio::test]
    async fn each_read_of_the_audit_log_is_a_range_of_an_index() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::new(folder.path().join("keys.db"));
        store.start().await.unwrap();
        let of = |name: &str| format!("INDEX api_key_audit_{name} ({name}=? AND at>? AND at<?)");
        reads_through(&store, ALL, &["INDEX api_key_audit_at ("]).await;
        reads_through(&store, OF_KEY, &[&of("key")]).await;
        reads_through(&store, OF_ACTOR, &[&of("actor")]).await;
        reads_through(&store, OF_OWNER, &[&of("owner"), &of("former_owner")]).await;
        let old = "INDEX api_key_audit_at (at<?)";
        reads_through(&store, OLD, &[old]).await;
        reads_through(&store, PRUNE, &[old]).await;
        store.stop().await;
    }

    #[test]
    fn a_text_that_is_not_a_position_is_refused() {
        for text in [
            "",
            "0",
            "+000000000000000+000000000000000",
            "\u{e9}\u{e9}",
            &"g".repeat(32),
            &"\u{e9}".repeat(16),
        ] {
            assert!(parse_position(text).is_err(), "{text}");
        }
        assert_eq!(parse_position(&format!("8{:031x}", 0)).unwrap().0, 0);
    }
}
