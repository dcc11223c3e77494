//! Lists of records: each range is one of an index.

use sqlx::query;
use sqlx::query::Query;
use sqlx::sqlite::{Sqlite, SqliteArguments, SqlitePool};

use super::error::failed;
use super::records::select;
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::store::paging::{end_of_prefix, page_size};
use crate::store::{ListCursor, ListQuery, ListRange, RecordPage, SortValue, sql};

/// A range of an index, its order, and the number of rows.
macro_rules! list {
    ($range:literal, $order:literal) => {
        concat!(
            select!(", label_key"),
            " WHERE ",
            $range,
            " ORDER BY ",
            $order,
            " LIMIT $1"
        )
    };
}

const ALL: &str = list!("(created_at, id) < ($2, $3)", "created_at DESC, id DESC");
const OF_OWNER: &str = list!(
    "owner = $4 AND (created_at, id) < ($2, $3)",
    "created_at DESC, id DESC"
);
/// Texts are compared as the bytes of the file's encoding, UTF-8 or UTF-16. The end is a text with the
/// greatest bytes after the beginning, in each of them.
const BY_LABEL: &str = list!(
    "(label_key, id) > ($2, $3) AND label_key <= $4 || CAST($5 AS TEXT)",
    "label_key, id"
);
const BY_LABEL_FROM: &str = list!("(label_key, id) > ($2, $3)", "label_key, id");
/// A blob is greater than each text.
const BY_ID: &str = list!("id >= $2 AND id < coalesce($3, x'')", "id");
const BY_EXPIRY: &str = list!(
    "(expires_at, id) > ($2, $3) AND expires_at < $4",
    "expires_at, id"
);

/// Follows each id.
const AFTER_IDS: &str = "~";

/// The most that a label has by which keys are found: 64 characters.
const LABEL_BYTES: usize = 256;

/// See [`KeyStore::list`](crate::KeyStore::list).
pub(super) async fn list(pool: &SqlitePool, listed: &ListQuery) -> Result<RecordPage, StoreError> {
    if is_over(listed) {
        return Ok(RecordPage::default());
    }
    let size = page_size(listed);
    // One more, which tells whether others follow.
    let mut limit = size + 1;
    loop {
        let rows = statement(listed, i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch_all(pool)
            .await
            .map_err(|error| failed("listing records", error))?;
        match sql::read_page(rows, size, limit, &listed.range) {
            Some(page) => return Ok(page),
            None => limit = limit.saturating_mul(2),
        }
    }
}

/// Returns whether the page starts after all labels of its range. The file's order of texts may be another.
fn is_over(listed: &ListQuery) -> bool {
    match (
        &listed.range,
        listed.after.as_ref().map(|after| &after.sort),
    ) {
        (ListRange::Label(beginning), Some(SortValue::Label(label))) => {
            label > beginning && !label.starts_with(beginning)
        }
        _ => false,
    }
}

type ListStatement<'q> = Query<'q, Sqlite, SqliteArguments>;

fn statement(listed: &ListQuery, limit: i64) -> ListStatement<'_> {
    let after = listed.after.as_ref();
    let time = |cursor: &ListCursor| match cursor.sort {
        SortValue::Time(time) => Some((time, cursor.id.to_string())),
        _ => None,
    };
    let time = after.and_then(time);
    // Both of a list of the newest.
    let newest = || {
        time.clone()
            .unwrap_or((Timestamp::MAX, AFTER_IDS.to_owned()))
    };
    match &listed.range {
        ListRange::All => {
            let (time, id) = newest();
            query(ALL).bind(limit).bind(time.as_millis()).bind(id)
        }
        ListRange::Owner(owner) => {
            let (time, id) = newest();
            let statement = query(OF_OWNER).bind(limit).bind(time.as_millis());
            statement.bind(id).bind(owner)
        }
        ListRange::Label(beginning) => by_label(beginning, after, limit),
        ListRange::Id(beginning) => {
            // An id is not between another id and this text.
            let start = after.map(|after| format!("{}\u{1}", after.id));
            let start = start.filter(|start| start > beginning);
            query(BY_ID)
                .bind(limit)
                .bind(start.unwrap_or_else(|| beginning.clone()))
                .bind(end_of_prefix(beginning))
        }
        ListRange::Expires { from, to } => {
            let first = (*from, String::new());
            let (time, id) = time.filter(|time| *time > first).unwrap_or(first);
            let statement = query(BY_EXPIRY).bind(limit).bind(time.as_millis());
            statement.bind(id).bind(to.as_millis())
        }
    }
}

fn by_label<'q>(
    beginning: &'q str,
    after: Option<&'q ListCursor>,
    limit: i64,
) -> ListStatement<'q> {
    let position = after.and_then(|after| match &after.sort {
        SortValue::Label(label) => Some((label.as_str(), after.id.to_string())),
        _ => None,
    });
    let within = position.filter(|(label, _)| label.starts_with(beginning));
    let (label, id) = within.unwrap_or((beginning, String::new()));
    if beginning.is_empty() {
        return query(BY_LABEL_FROM).bind(limit).bind(label).bind(id);
    }
    let statement = query(BY_LABEL).bind(limit).bind(label).bind(id);
    statement.bind(beginning).bind(vec![u8::MAX; LABEL_BYTES])
}

#[cfg(test)]
mod tests {
    use super::super::records::tests::reads;
    use super::*;
    use crate::store::{KeyStore, SqliteStore};

    /// A page reads only its own rows, however many keys are in the file.
    #[tokio::test]
    async fn each_range_of_a_list_is_one_of_an_index() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::new(folder.path().join("keys.db"));
        store.start().await.unwrap();
        for (sql, index) in [
            (ALL, "INDEX api_keys_created ((created_at,id)<(?,?))"),
            (
                OF_OWNER,
                "INDEX api_keys_owner_created (owner=? AND (created_at,id)<(?,?))",
            ),
            (
                BY_LABEL,
                "INDEX api_keys_label ((label_key,id)>(?,?) AND label_key<?)",
            ),
            (BY_LABEL_FROM, "INDEX api_keys_label ((label_key,id)>(?,?))"),
            (BY_ID, "INDEX sqlite_autoindex_api_keys_1 (id>? AND id<?)"),
            (
                BY_EXPIRY,
                "INDEX api_keys_expires ((expires_at,id)>(?,?) AND expires_at<?)",
            ),
        ] {
            reads(&store, sql, &[index]).await;
        }
        store.stop().await;
    }
}
