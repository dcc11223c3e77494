//! What the stores that speak SQL share: the statements on `api_keys`, and reading its rows.
//!
//! A statement is data here, and each database sends it in its own way. The statements are written
//! in what SQLite and PostgreSQL both understand, with `$1`, `$2` for the values.

mod row;
mod statements;

use std::borrow::Cow;
use std::fmt::Write;

use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Database};

use crate::error::StoreError;

#[cfg(feature = "postgres")]
pub(super) use self::row::record;
pub(super) use self::row::{COLUMNS, Columns, columns, id};
#[cfg(feature = "sqlite")]
pub(super) use self::statements::find;
pub(super) use self::statements::{insert, list, purge, revoke, revoke_owner, update};

/// Connections to a database that has the table `api_keys`.
pub(super) trait Connections: Sync {
    /// A row of an answer.
    type Row: Columns + Send + Sync;

    /// Runs a statement in a transaction of its own, and reads the answer to its end: the commit
    /// comes after the last row, and its failure must be seen.
    fn rows(
        &self,
        statement: &Statement,
    ) -> impl Future<Output = Result<Vec<Self::Row>, sqlx::Error>> + Send;

    /// The error to report where `doing` failed.
    fn failed(doing: &str, error: sqlx::Error) -> StoreError;

    /// As [`failed`](Connections::failed), for an insert: only there is a taken id a conflict.
    fn insert_failed(error: sqlx::Error) -> StoreError;
}

/// A statement with its values.
#[derive(Debug, Clone)]
pub(super) struct Statement {
    sql: Cow<'static, str>,
    values: Vec<Value>,
}

impl Statement {
    /// A statement, to which values and more of its text can be added.
    pub(super) fn new(sql: &'static str) -> Self {
        Self {
            sql: Cow::Borrowed(sql),
            values: Vec::new(),
        }
    }

    /// The statement with these parts.
    #[cfg(feature = "postgres")]
    pub(super) fn joined(parts: &[&'static str]) -> Self {
        Self {
            sql: Cow::Owned(parts.concat()),
            values: Vec::new(),
        }
    }

    /// Adds the next value, which the text names already.
    pub(super) fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Adds to the text.
    fn push(&mut self, sql: &'static str) -> &mut Self {
        self.sql.to_mut().push_str(sql);
        self
    }

    /// Adds a value, and its name to the text.
    fn push_value(&mut self, value: impl Into<Value>) -> &mut Self {
        self.values.push(value.into());
        let number = self.values.len();
        // Writing to a `String` cannot fail.
        let _ = write!(self.sql.to_mut(), "${number}");
        self
    }

    /// The values, in their order.
    pub(super) fn values(&self) -> &[Value] {
        &self.values
    }

    /// Whether it changes nothing.
    #[cfg(feature = "postgres")]
    pub(super) fn only_reads(&self) -> bool {
        self.sql.starts_with("SELECT ")
    }

    /// The text, ready for values.
    pub(super) fn query<D: Database>(&self) -> Query<'static, D, D::Arguments> {
        match &self.sql {
            Cow::Borrowed(sql) => sqlx::query(*sql),
            // Nothing but texts of this crate and numbers gets into it: see `push`.
            Cow::Owned(sql) => sqlx::query(AssertSqlSafe(sql.as_str())),
        }
    }
}

/// A value of a statement.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Text(Option<String>),
    Number(Option<i64>),
    Truth(bool),
    /// What stands in the column `id`, which may be anything where the database lets it.
    Id(Vec<u8>),
    /// Only PostgreSQL's statements have these.
    #[cfg_attr(not(feature = "postgres"), allow(dead_code))]
    Bytes(Option<Vec<u8>>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(Some(text.to_owned()))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Some(text))
    }
}

impl From<&String> for Value {
    fn from(text: &String) -> Self {
        Self::Text(Some(text.clone()))
    }
}

impl From<Option<&String>> for Value {
    fn from(text: Option<&String>) -> Self {
        Self::Text(text.cloned())
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(Some(number))
    }
}

impl From<Option<i64>> for Value {
    fn from(number: Option<i64>) -> Self {
        Self::Number(number)
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Self::Truth(truth)
    }
}
