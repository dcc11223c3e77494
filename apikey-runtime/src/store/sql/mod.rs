//! What the stores that speak SQL share: the columns of `api_keys`, and reading its rows, those of the audit log,
//! and notices.

mod audit;
mod expiry_notices;
mod list;
mod row;
mod values;

pub(super) use self::audit::audit_entry;
pub(super) use self::expiry_notices::{expiry_notices, notice_time};
pub(super) use self::list::read_page;
pub(super) use self::row::{KeyRow, column_names, id, key_row, read_columns, record, state};
pub(super) use self::values::{EncodedColumns, expected_version, stored_rotations, stored_version};
