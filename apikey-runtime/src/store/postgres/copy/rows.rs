//! Counts, last uses and shared secrets.

use super::super::error::failed;
use super::super::pool::ConnectionPool;
use super::{READING, WRITING, once};
use crate::error::StoreError;
use crate::store::copied_values::{GrowingValue, grown_values};
use crate::store::copy_rules::changed_values;
use crate::store::sql::{
    CopiedRow, SqlValue, copy_page, copy_read, copy_rows, copy_start, copy_statements, present_rows,
};
use crate::store::{CopiedSecret, CopyOutcome, CopyPage};

macro_rules! rows {
    () => {
        "json_array_elements($1::json) AS asked(value)"
    };
}

// Rows are locked in the order of batches of usage, which cannot wait for a page then.
copy_statements!(
    rows,
    "ORDER BY CAST(asked.value ->> 1 AS bigint) % 24 = 0, (asked.value ->> 0) COLLATE \"C\", CAST(asked.value ->> 1 AS bigint), \
     (asked.value ->> 2) COLLATE \"C\", (asked.value ->> 3) COLLATE \"C\"",
    "ORDER BY (asked.value ->> 0) COLLATE \"C\", CAST(asked.value ->> 1 AS bigint)",
    "ORDER BY (asked.value ->> 0) COLLATE \"C\", (asked.value ->> 1) COLLATE \"C\""
);

/// A counter with its parts as a JSON object.
macro_rules! counter_columns {
    () => {
        "key, name, tat, period, used, (SELECT coalesce(json_object_agg(part.number, part.used), '{}') \
         FROM unnest(copied.parts, copied.parts_used) AS part(number, used))::text AS parts"
    };
}

pub(super) const READ_COUNTERS: &str = copy_read!(
    counter_columns!(),
    "api_key_limit_counters",
    "key, name",
    "$2, $3"
);

pub(super) const FIND_COUNTERS: &str = concat!(
    "SELECT ",
    counter_columns!(),
    " FROM ",
    rows!(),
    " JOIN api_key_limit_counters AS copied ON key = asked.value ->> 0 AND name = asked.value ->> 1"
);

/// A key that was removed in the meantime gets no row, which would never be deleted.
pub(super) const WRITE_COUNTERS: &str = concat!(
    "INSERT INTO api_key_limit_counters (key, name, tat, period, used, parts, parts_used) \
     SELECT asked.value ->> 0, asked.value ->> 1, (asked.value ->> 2)::bigint, (asked.value ->> 3)::bigint, \
     (asked.value ->> 4)::bigint, \
     ARRAY(SELECT part.key::bigint FROM json_each_text(asked.value -> 5) AS part ORDER BY part.key::bigint), \
     ARRAY(SELECT part.value::bigint FROM json_each_text(asked.value -> 5) AS part ORDER BY part.key::bigint) FROM ",
    rows!(),
    " WHERE EXISTS (SELECT FROM api_keys AS record WHERE record.id = asked.value ->> 0) ON CONFLICT (key, name) DO UPDATE SET \
     tat = excluded.tat, period = excluded.period, used = excluded.used, parts = excluded.parts, parts_used = excluded.parts_used"
);

/// Removes rows of the keys that are written, as a batch of usage does: what another session changes at this moment is left to it.
macro_rules! remove {
    ($table:literal, $most:literal, $is_later:literal) => {
        concat!(
            "DELETE FROM ",
            $table,
            " WHERE ctid = ANY (ARRAY(SELECT kept.ctid FROM ",
            $table,
            " AS kept WHERE kept.key IN (SELECT asked.value ->> 0 FROM ",
            rows!(),
            ") AND ",
            $most,
            " <= (SELECT count(*) FROM ",
            $table,
            " AS later WHERE later.key = kept.key AND (",
            $is_later,
            ")) FOR UPDATE OF kept SKIP LOCKED))"
        )
    };
}

/// Of each key, the latest secrets and networks are kept.
pub(super) const WRITE_USES_ALL: [&str; 2] = [
    WRITE_USES,
    remove!(
        "api_key_secret_uses",
        "2",
        "later.rotations > kept.rotations"
    ),
];
pub(super) const WRITE_NETWORKS_ALL: [&str; 2] = [
    WRITE_NETWORKS,
    remove!(
        "api_key_networks",
        "20",
        "later.at > kept.at OR later.at = kept.at AND later.network < kept.network"
    ),
];

/// Reads a page.
pub(super) async fn read<T: CopiedRow>(
    pool: &ConnectionPool,
    sql: &'static str,
    after: Option<&str>,
    size: usize,
) -> Result<CopyPage, StoreError> {
    let start = copy_start::<T>(after)?;
    // One more, which tells whether others follow.
    let limit = i64::try_from(size + 1).unwrap_or(i64::MAX);
    let read = || {
        let statement = once(sql).bind(limit);
        start
            .iter()
            .fold(statement, |statement, value| match value {
                SqlValue::Text(text) => statement.bind(text.clone()),
                SqlValue::Number(number) => statement.bind(*number),
            })
    };
    let rows = pool.read(read).await;
    let rows = rows.map_err(|error| failed(READING, error))?;
    copy_page::<T>(&rows, size)
}

/// Writes the items that are later or larger than those that `find` finds, with each of `statements`.
pub(super) async fn write<T: CopiedRow + GrowingValue>(
    pool: &ConnectionPool,
    items: &[T],
    find: &'static str,
    statements: &[&'static str],
) -> Result<CopyOutcome, StoreError> {
    let writing_failed = |error| failed(WRITING, error);
    let asked = copy_rows(items);
    let present = pool.read(|| once(find).bind(asked.clone())).await;
    let present = present_rows(&present.map_err(writing_failed)?);
    let mut outcome = CopyOutcome::default();
    let changed = grown_values(items, &present, T::identity, &mut outcome);
    if !changed.is_empty() {
        let rows = copy_rows(changed);
        for statement in statements {
            let written = pool.write(|| once(statement).bind(rows.clone())).await;
            written.map_err(writing_failed)?;
        }
    }
    Ok(outcome)
}

/// See [`write`].
pub(super) async fn write_secrets(
    pool: &ConnectionPool,
    secrets: &[CopiedSecret],
) -> Result<CopyOutcome, StoreError> {
    const FIND: &str = "SELECT name, secret FROM api_key_shared_secrets WHERE name = ANY ($1)";
    const WRITE: &str = "INSERT INTO api_key_shared_secrets (name, secret) SELECT * FROM unnest($1::text[], $2::bytea[]) \
        ON CONFLICT (name) DO UPDATE SET secret = excluded.secret";
    let writing_failed = |error| failed(WRITING, error);
    let names = secrets.iter().map(|copied| copied.name.clone());
    let names: Vec<_> = names.collect();
    let present = pool.read(|| once(FIND).bind(names.clone())).await;
    let present = present_rows(&present.map_err(writing_failed)?);
    let mut outcome = CopyOutcome::default();
    let changed = changed_values(secrets, present, CopiedSecret::identity, &mut outcome);
    if !changed.is_empty() {
        let names = changed.iter().map(|copied| copied.name.clone());
        let bytes = changed.iter().map(|copied| copied.secret.to_vec());
        let (names, bytes): (Vec<_>, Vec<_>) = (names.collect(), bytes.collect());
        let write = || once(WRITE).bind(names.clone()).bind(bytes.clone());
        pool.write(write).await.map_err(writing_failed)?;
    }
    Ok(outcome)
}
