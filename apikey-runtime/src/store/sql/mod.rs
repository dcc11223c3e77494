//! What the stores that speak SQL share: the columns of `api_keys`, and reading its rows.

mod list;
mod row;
mod values;

pub(super) use self::list::{list_sql, read_page};
pub(super) use self::row::{KeyRow, column_names, id, key_row, record};
pub(super) use self::values::{EncodedColumns, expected_version, stored_version};
