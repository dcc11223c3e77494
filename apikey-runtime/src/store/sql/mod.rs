//! What the stores that speak SQL share: the columns of `api_keys`, and reading its rows.

mod list;
mod row;
mod values;

#[cfg(feature = "sqlite")]
pub(super) use self::list::list_sql;
pub(super) use self::list::read_page;
pub(super) use self::row::{KeyRow, column_names, id, key_row, read_columns, record, state};
pub(super) use self::values::{EncodedColumns, expected_version, stored_version};
