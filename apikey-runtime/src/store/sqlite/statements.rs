//! How SQLite runs the statements that it shares with PostgreSQL.

use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqlitePool, SqliteRow};
use sqlx::{Error, Sqlite};

use super::error::{failed, insert_failed};
use crate::error::StoreError;
use crate::store::sql::{Connections, Statement, Value};

pub(super) use crate::store::sql::{find, insert, list, purge, revoke, revoke_owner, update};

impl Connections for SqlitePool {
    type Row = SqliteRow;

    async fn rows(&self, statement: &Statement) -> Result<Vec<SqliteRow>, Error> {
        let query = statement.values().iter().fold(statement.query(), bind);
        query.fetch_all(self).await
    }

    fn failed(doing: &str, error: Error) -> StoreError {
        failed(doing, error)
    }

    fn insert_failed(error: Error) -> StoreError {
        insert_failed(error)
    }
}

type Bound = Query<'static, Sqlite, SqliteArguments>;

fn bind(query: Bound, value: &Value) -> Bound {
    match value {
        Value::Text(text) => query.bind(text.clone()),
        Value::Number(number) => query.bind(*number),
        Value::Truth(truth) => query.bind(*truth),
        // Bytes, since an id that someone wrote by hand may be no UTF-8.
        Value::Id(id) => query.bind(id.clone()),
        Value::Bytes(bytes) => query.bind(bytes.clone()),
    }
}
