//! Listing, page by page.

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row, query};

use super::error::failed;
use super::owners::owner_join;
use super::pool::ConnectionPool;
use crate::error::StoreError;
use crate::key::KeyId;
use crate::store::paging::page_size;
use crate::store::sql::{read_columns, read_page};
use crate::store::{ListQuery, RecordPage};

/// The most records that one statement reads, of which those that were asked for are returned.
const MOST_READ: i64 = 10_000;

/// The most statements for a page. A page for which these read too few records ends early, with a place to go on from.
const STATEMENTS: usize = 10;

/// See [`KeyStore::list`](crate::KeyStore::list).
pub(super) async fn list(
    pool: &ConnectionPool,
    listed: &ListQuery,
) -> Result<RecordPage, StoreError> {
    let size = page_size(listed);
    let sql = list_sql(listed);
    let mut page = RecordPage::default();
    let mut after = listed.after.map(|id| id.to_string()).unwrap_or_default();
    for _ in 0..STATEMENTS {
        let left = size.saturating_sub(length(&page)).max(1);
        // One more, which tells whether others follow.
        let limit = i64::try_from(left + 1).unwrap_or(i64::MAX);
        let list = || {
            query(AssertSqlSafe(sql.as_str()))
                .bind(&listed.owner)
                .bind(&listed.label)
                .bind(after.as_str())
                .bind(limit)
                .bind(MOST_READ)
        };
        let listing_failed = |error| failed("listing records", error);
        let mut rows = pool.read(list).await.map_err(listing_failed)?;
        let place: Option<String> = match rows.first() {
            Some(row) => row.try_get("place").map_err(listing_failed)?,
            None => None,
        };
        rows.retain(is_record);
        let last = read_page(rows, left, &mut page);
        if page.next.is_some() {
            return Ok(page);
        }
        let last = last.map(|id| String::from_utf8_lossy(&id).into_owned());
        match last.or(place) {
            Some(last) => after = last,
            None => return Ok(page),
        }
        if length(&page) >= size {
            break;
        }
    }
    page.next = KeyId::from_ascii(after.as_bytes());
    Ok(page)
}

fn length(page: &RecordPage) -> usize {
    page.records.len() + page.unreadable.len()
}

/// Whether the row has a record, and not only the place up to which was read.
fn is_record(row: &PgRow) -> bool {
    !matches!(row.try_get::<Option<&str>, _>("id"), Ok(None))
}

/// Returns the statement for `query`: `$1` is the owner, `$2` the label, `$3` the id after which the page starts, `$4` how
/// many records it returns, and `$5` how many it reads. If it read these, `place` is the last of them. The
/// rows come in the order of an index.
fn list_sql(query: &ListQuery) -> String {
    let (read, order) = match &query.owner {
        Some(_) => (
            "(left(owner, 100), id) > (left($1, 100), $3) AND left(owner, 100) <= left($1, 100)",
            "left(owner, 100), id",
        ),
        None => ("id > $3", "id"),
    };
    // Each parameter is named, so that the server knows its type.
    let mut wanted = "($1::text IS NULL OR TRUE) AND ($2::text IS NULL OR TRUE)".to_owned();
    if query.owner.is_some() {
        wanted.push_str(" AND owner = $1");
    }
    if query.label.is_some() {
        wanted.push_str(" AND label = $2");
    }
    let (columns, owner_join) = (read_columns!(), owner_join!());
    format!(
        "SELECT {columns}, read.place AS place FROM (SELECT (SELECT id FROM api_keys WHERE {read} \
            ORDER BY {order} LIMIT 1 OFFSET $5 - 1) AS place) AS read \
         LEFT JOIN LATERAL (SELECT * FROM (SELECT * FROM api_keys WHERE {read} ORDER BY {order} LIMIT $5) AS key \
            WHERE {wanted} ORDER BY {order} LIMIT $4) AS key ON TRUE{owner_join} ORDER BY id"
    )
}
