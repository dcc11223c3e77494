//! Rows of SQLite.

use sqlx::sqlite::SqliteRow;

use crate::store::sql;

pub(super) use crate::store::sql::id;

sql::columns!(SqliteRow);
