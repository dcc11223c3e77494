//! Lists of owners.

use std::ops::Bound;

use sqlx::postgres::PgRow;
use sqlx::{Row, query};

use super::error::failed;
use super::pool::ConnectionPool;
use crate::error::StoreError;
use crate::record::OwnerState;
use crate::store::paging::end_of_prefix;
use crate::store::{OwnerPage, OwnerQuery, sql};

macro_rules! list {
    ($start:literal) => {
        concat!(
            "SELECT owner, version AS owner_version, revocations AS owner_revoked, suspended AS owner_suspended \
             FROM api_key_owners WHERE ",
            $start,
            " AND owner < $3 ORDER BY owner LIMIT $1"
        )
    };
}

const FROM: &str = list!("owner >= $2");
const AFTER: &str = list!("owner > $2");

/// See [`OwnerStore::list_owners`](crate::store::OwnerStore::list_owners).
pub(super) async fn list(
    pool: &ConnectionPool,
    listed: &OwnerQuery,
) -> Result<OwnerPage, StoreError> {
    let (sql, start) = match listed.start() {
        Some(Bound::Included(start)) => (FROM, start),
        Some(Bound::Excluded(start)) => (AFTER, start),
        _ => return Ok(OwnerPage::default()),
    };
    let size = listed.page_size();
    // A text that is greater than each name, if the beginning is: longer ones than 256 bytes are not written.
    let greatest = || "\u{10ffff}".repeat(100);
    let end = end_of_prefix(&listed.starting_with).unwrap_or_else(greatest);
    let list = || {
        query(sql)
            // One more, which tells whether others follow.
            .bind(i64::try_from(size + 1).unwrap_or(i64::MAX))
            .bind(start.to_owned())
            .bind(end.clone())
    };
    let rows = pool.read(list).await;
    let rows = rows.map_err(|error| failed("listing owners", error))?;
    let owners: Result<_, _> = rows.iter().map(owner).collect();
    OwnerPage::of_rows(owners?, size)
}

fn owner(row: &PgRow) -> Result<(Vec<u8>, Option<OwnerState>), StoreError> {
    let name = row.try_get::<String, _>("owner");
    let name = name.map_err(|error| failed("reading an owner's name", error))?;
    Ok((name.into_bytes(), sql::state(row).ok()))
}
