//! Counts, last uses and shared secrets.

use sqlx::sqlite::SqlitePool;
use sqlx::{SqliteConnection, query};

use super::super::error::failed;
use super::super::transaction::WriteTransaction;
use super::super::usage::{NETWORKS_BEFORE, USED_BEFORE};
use super::{READING, WRITING};
use crate::error::StoreError;
use crate::store::copied_values::{GrowingValue, grown_values};
use crate::store::copy_rules::changed_values;
use crate::store::sql::{
    CopiedRow, SqlValue, copy_page, copy_read, copy_rows, copy_start, copy_statements, present_rows,
};
use crate::store::{CopiedSecret, CopyOutcome, CopyPage};

macro_rules! rows {
    () => {
        "json_each($1) AS asked"
    };
}

// A transaction is the only one that writes.
copy_statements!(rows, "", "", "");

pub(super) const READ_COUNTERS: &str = copy_read!(
    "key, name, tat, period, used, parts",
    "api_key_limit_counters",
    "key, name",
    "$2, $3"
);

pub(super) const FIND_COUNTERS: &str = concat!(
    "SELECT copied.key, name, tat, period, used, parts FROM ",
    rows!(),
    " JOIN api_key_limit_counters AS copied ON copied.key = asked.value ->> 0 AND name = asked.value ->> 1"
);

/// A key that was removed in the meantime gets no row, which would never be deleted.
pub(super) const WRITE_COUNTERS: &str = concat!(
    "INSERT INTO api_key_limit_counters (key, name, tat, period, used, parts) \
     SELECT asked.value ->> 0, asked.value ->> 1, asked.value ->> 2, asked.value ->> 3, asked.value ->> 4, \
     asked.value ->> 5 FROM ",
    rows!(),
    " WHERE EXISTS (SELECT 1 FROM api_keys AS record WHERE record.id = asked.value ->> 0) ON CONFLICT (key, name) DO UPDATE SET \
     tat = excluded.tat, period = excluded.period, used = excluded.used, parts = excluded.parts"
);

/// Of each key, the latest secrets and networks are kept.
pub(super) const WRITE_USES_ALL: [&str; 2] = [WRITE_USES, USED_BEFORE];
pub(super) const WRITE_NETWORKS_ALL: [&str; 2] = [WRITE_NETWORKS, NETWORKS_BEFORE];

/// Reads a page.
pub(super) async fn read<T: CopiedRow>(
    pool: &SqlitePool,
    sql: &'static str,
    after: Option<&str>,
    size: usize,
) -> Result<CopyPage, StoreError> {
    // One more, which tells whether others follow.
    let mut statement = query(sql).bind(i64::try_from(size + 1).unwrap_or(i64::MAX));
    for value in copy_start::<T>(after)? {
        statement = match value {
            SqlValue::Text(text) => statement.bind(text),
            SqlValue::Number(number) => statement.bind(number),
        };
    }
    let rows = statement.fetch_all(pool).await;
    let rows = rows.map_err(|error| failed(READING, error))?;
    copy_page::<T>(&rows, size)
}

/// Writes the items that are later or larger than those that `find` finds, with each of `statements`.
pub(super) async fn write<T: CopiedRow + GrowingValue>(
    pool: &SqlitePool,
    items: &[T],
    find: &'static str,
    statements: &[&'static str],
) -> Result<CopyOutcome, StoreError> {
    let written = async {
        let mut transaction = WriteTransaction::begin(pool).await?;
        let connection = transaction.connection();
        let present = query(find)
            .bind(copy_rows(items))
            .fetch_all(&mut *connection)
            .await?;
        let mut outcome = CopyOutcome::default();
        let present = present_rows(&present);
        let changed = grown_values(items, &present, T::identity, &mut outcome);
        if !changed.is_empty() {
            let rows = copy_rows(changed);
            for statement in statements {
                query(*statement)
                    .bind(&rows)
                    .execute(&mut *connection)
                    .await?;
            }
        }
        transaction.commit().await?;
        Ok(outcome)
    };
    written
        .await
        .map_err(|error: sqlx::Error| failed(WRITING, error))
}

/// See [`write`].
pub(super) async fn write_secrets(
    pool: &SqlitePool,
    secrets: &[CopiedSecret],
) -> Result<CopyOutcome, StoreError> {
    let written = async {
        let mut transaction = WriteTransaction::begin(pool).await?;
        let outcome = put_secrets(transaction.connection(), secrets).await?;
        transaction.commit().await?;
        Ok(outcome)
    };
    written
        .await
        .map_err(|error: sqlx::Error| failed(WRITING, error))
}

async fn put_secrets(
    connection: &mut SqliteConnection,
    secrets: &[CopiedSecret],
) -> Result<CopyOutcome, sqlx::Error> {
    const FIND: &str = concat!(
        "SELECT name, secret FROM ",
        rows!(),
        " JOIN api_key_shared_secrets ON name = asked.value ->> 0"
    );
    const WRITE: &str = "INSERT INTO api_key_shared_secrets (name, secret) VALUES (?, ?) \
        ON CONFLICT (name) DO UPDATE SET secret = excluded.secret";
    let present = query(FIND)
        .bind(copy_rows(secrets))
        .fetch_all(&mut *connection)
        .await?;
    let (mut outcome, present) = (CopyOutcome::default(), present_rows(&present));
    for copied in changed_values(secrets, present, CopiedSecret::identity, &mut outcome) {
        query(WRITE)
            .bind(&copied.name)
            .bind(copied.secret.to_vec())
            .execute(&mut *connection)
            .await?;
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::super::super::records::tests::{reads, reads_through};
    use super::*;
    use crate::store::sql::{READ_NETWORKS, READ_SECRETS, READ_USAGE, READ_USES};
    use crate::store::{KeyStore, SqliteStore};

    /// A page reads its own rows, however many are in the file.
    #[tokio::test]
    async fn each_page_of_a_copy_is_a_range_of_an_index() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::new(folder.path().join("keys.db"));
        store.start().await.unwrap();
        for sql in [READ_COUNTERS, READ_USAGE] {
            reads(&store, sql, &["SEARCH copied USING PRIMARY KEY (("]).await;
        }
        let networks = [
            "SEARCH copied USING PRIMARY KEY ((",
            "SEARCH later USING PRIMARY KEY (key=?)",
        ];
        reads_through(&store, READ_NETWORKS, &networks).await;
        let secrets = "SEARCH api_key_shared_secrets USING PRIMARY KEY (name>?)";
        reads(&store, READ_SECRETS, &[secrets]).await;
        let uses = [
            "SEARCH api_key_secret_uses USING PRIMARY KEY ((key,rotations)>(?,?))",
            "SEARCH api_key_last_used USING PRIMARY KEY (key>?)",
        ];
        reads_through(&store, READ_USES, &uses).await;
        let counter = "SEARCH copied USING PRIMARY KEY (key=? AND name=?)";
        reads(&store, FIND_COUNTERS, &[counter]).await;
        let usage = "SEARCH copied USING PRIMARY KEY (key=? AND hour=? AND route=? AND outcome=?)";
        reads(&store, FIND_USAGE, &[usage]).await;
        for sql in [FIND_USES, FIND_NETWORKS] {
            reads_through(&store, sql, &["SEARCH copied USING PRIMARY KEY (key=?)"]).await;
        }
        store.stop().await;
    }
}
