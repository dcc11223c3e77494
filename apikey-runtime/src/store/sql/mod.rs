//! What the stores that speak SQL share: the columns of `api_keys`, and reading its rows, those of the audit log,
//! and notices; copying.

mod audit;
mod copied_entries;
mod copy;
mod copy_statements;
mod expiry_notices;
mod list;
mod row;
mod values;

pub(super) use self::audit::audit_entry;
pub(super) use self::copied_entries::{
    ENTRIES_STEP, PresentEntries, entries_page, entries_start, entries_text,
};
pub(super) use self::copy::{CopiedRow, SqlValue, copy_page, copy_rows, copy_start, present_rows};
pub(super) use self::copy_statements::{
    READ_NETWORKS, READ_SECRETS, READ_USAGE, READ_USES, copy_read, copy_statements,
};
pub(super) use self::expiry_notices::{expiry_notices, notice_time};
pub(super) use self::list::read_page;
pub(super) use self::row::{
    KeyRow, column_names, id, key_row, read_columns, record, records_of, state,
};
pub(super) use self::values::{EncodedColumns, expected_version, stored_rotations, stored_version};
