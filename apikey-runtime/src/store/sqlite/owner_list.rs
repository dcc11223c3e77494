//! Lists of owners.

use std::ops::Bound;

use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{Row, query};

use super::error::failed;
use crate::error::StoreError;
use crate::record::OwnerState;
use crate::store::{OwnerPage, OwnerQuery, sql};

/// Names are compared as the bytes of the file's encoding. The end is a text with the greatest bytes after the
/// beginning.
macro_rules! list {
    ($start:literal) => {
        concat!(
            "SELECT owner, version AS owner_version, revocations AS owner_revoked, suspended AS owner_suspended \
             FROM api_key_owners WHERE ",
            $start,
            " AND owner <= $3 || CAST($4 AS TEXT) ORDER BY owner LIMIT $1"
        )
    };
}

const FROM: &str = list!("owner >= $2");
const AFTER: &str = list!("owner > $2");

/// More bytes than a name has, in UTF-16 too.
const NAME_BYTES: usize = 1_024;

/// See [`OwnerStore::list_owners`](crate::store::OwnerStore::list_owners).
pub(super) async fn list(pool: &SqlitePool, listed: &OwnerQuery) -> Result<OwnerPage, StoreError> {
    let (sql, start) = match listed.start() {
        Some(Bound::Included(start)) => (FROM, start),
        Some(Bound::Excluded(start)) => (AFTER, start),
        _ => return Ok(OwnerPage::default()),
    };
    let size = listed.page_size();
    // One more, which tells whether others follow.
    let rows = query(sql)
        .bind(i64::try_from(size + 1).unwrap_or(i64::MAX))
        .bind(start)
        .bind(&listed.starting_with)
        .bind(vec![u8::MAX; NAME_BYTES])
        .fetch_all(pool);
    let rows = rows
        .await
        .map_err(|error| failed("listing owners", error))?;
    OwnerPage::of_rows(rows.iter().map(owner).collect(), size)
}

fn owner(row: &SqliteRow) -> (Vec<u8>, Option<OwnerState>) {
    // As it is in the file: a text that was written by hand may not be UTF-8.
    let name = row.try_get::<String, _>("owner").map(String::into_bytes);
    let name = name.or_else(|_| row.try_get_unchecked("owner"));
    (name.unwrap_or_default(), sql::state(row).ok())
}

#[cfg(test)]
mod tests {
    use super::super::records::tests::reads;
    use super::*;
    use crate::store::{KeyStore, SqliteStore};

    /// A page reads only its own rows, however many owners are in the file.
    #[tokio::test]
    async fn a_page_of_owners_is_a_range_of_an_index() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::new(folder.path().join("keys.db"));
        store.start().await.unwrap();
        let range = "api_key_owners USING PRIMARY KEY (owner>? AND owner<?)";
        reads(&store, FROM, &[range]).await;
        reads(&store, AFTER, &[range]).await;
        store.stop().await;
    }
}
