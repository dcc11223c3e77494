//! Listing, page by page.

use sqlx::{AssertSqlSafe, query};

use super::error::failed;
use super::owners::owner_join;
use super::pool::{ConnectionPool, PgQuery};
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::store::paging::{end_of_prefix, page_size};
use crate::store::sql::{read_columns, read_page};
use crate::store::{ListCursor, ListQuery, ListRange, RecordPage, SortValue};

/// The folded label of a row of `api_keys` that is named `key`, as its index has it.
macro_rules! label_key {
    () => {
        "coalesce(key.label_key, lower(left(key.label, 64)))"
    };
}

/// See [`KeyStore::list`](crate::KeyStore::list).
pub(super) async fn list(
    pool: &ConnectionPool,
    listed: &ListQuery,
) -> Result<RecordPage, StoreError> {
    let size = page_size(listed);
    let after = listed.after.as_ref();
    let after = after.filter(|after| is_within(&listed.range, after));
    let (from, to) = bounds(&listed.range);
    let sql = list_sql(&listed.range, to.is_some(), after);
    // One more, which tells whether others follow.
    let mut limit = size + 1;
    loop {
        let list = || {
            let mut list = query(AssertSqlSafe(sql.as_str()));
            list = list.bind(i64::try_from(limit).unwrap_or(i64::MAX));
            list = bind(list, &from);
            list = bind(list, to.as_ref().unwrap_or(&SortValue::None));
            match after {
                Some(after) => bind(list, &after.sort).bind(after.id.as_str()),
                None => list,
            }
        };
        let rows = pool.read(list).await;
        let rows = rows.map_err(|error| failed("listing records", error))?;
        match read_page(rows, size, limit, &listed.range) {
            Some(page) => return Ok(page),
            None => limit *= 2,
        }
    }
}

/// Returns the values between which the range is, the second one exclusive.
fn bounds(range: &ListRange) -> (SortValue, Option<SortValue>) {
    match range {
        ListRange::All => (SortValue::None, None),
        ListRange::Owner(owner) => (SortValue::Label(owner.clone()), None),
        ListRange::Label(beginning) | ListRange::Id(beginning) => (
            SortValue::Label(beginning.clone()),
            end_of_prefix(beginning).map(SortValue::Label),
        ),
        ListRange::Expires { from, to } => (SortValue::Time(*from), Some(SortValue::Time(*to))),
    }
}

/// Returns whether a position is not before the range.
fn is_within(range: &ListRange, after: &ListCursor) -> bool {
    range.fits(after)
        && match range {
            ListRange::All | ListRange::Owner(_) => true,
            ListRange::Label(_) | ListRange::Expires { .. } => bounds(range).0 <= after.sort,
            ListRange::Id(beginning) => beginning.as_str() <= after.id.as_str(),
        }
}

fn bind(query: PgQuery, value: &SortValue) -> PgQuery {
    match value {
        SortValue::None => query.bind(None::<i64>),
        SortValue::Time(time) => query.bind(Timestamp::as_millis(*time)),
        SortValue::Label(text) => query.bind(text.clone()),
    }
}

/// Returns the statement for a range: `$1` is the number of rows, `$2` and `$3` are the bounds, `$4` and `$5` the position
/// after which the page starts. The rows come in the order of an index.
///
/// A position takes the place of the beginning: with both, the server would choose at which of them it starts.
fn list_sql(range: &ListRange, has_end: bool, after: Option<&ListCursor>) -> String {
    const CREATED: &str = "(key.created_at, key.id) < ($4, $5)";
    const NEWEST: &str = "key.created_at DESC, key.id DESC";
    let (start, next, end, order) = match range {
        ListRange::All => ("TRUE", CREATED, "", NEWEST),
        ListRange::Owner(_) => (
            "TRUE",
            CREATED,
            " AND left(key.owner, 256) = left($2, 256) AND key.owner = $2",
            NEWEST,
        ),
        ListRange::Label(_) => (
            concat!(label_key!(), " >= $2"),
            concat!("(", label_key!(), ", key.id) > ($4, $5)"),
            concat!(" AND ", label_key!(), " < $3"),
            concat!(label_key!(), ", key.id"),
        ),
        ListRange::Id(_) => ("key.id >= $2", "key.id > $5", " AND key.id < $3", "key.id"),
        ListRange::Expires { .. } => (
            "key.expires_at >= $2",
            "(key.expires_at, key.id) > ($4, $5)",
            " AND key.expires_at < $3",
            "key.expires_at, key.id",
        ),
    };
    let start = after.map_or(start, |_| next);
    let is_open = !has_end && matches!(range, ListRange::Label(_) | ListRange::Id(_));
    let end = if is_open { "" } else { end };
    let columns = concat!(read_columns!(), ", ", label_key!(), " AS label_key");
    let owner = owner_join!();
    format!(
        "SELECT {columns} FROM api_keys AS key{owner} WHERE {start}{end} ORDER BY {order} LIMIT $1"
    )
}
