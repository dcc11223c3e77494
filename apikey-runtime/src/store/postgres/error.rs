//! What a failure of PostgreSQL means to a caller.

use std::error::Error as StdError;
use std::fmt;

use sqlx::error::DatabaseError;

use crate::error::{BoxError, ErrorChain, StoreError};
use crate::store::WriteOptions;

/// Error codes, <https://www.postgresql.org/docs/current/errcodes-appendix.html>, or their first
/// two characters, which name a class: what a later try may not meet again.
const PASSING: [&str; 12] = [
    "08",    // The connection.
    "25006", // The server only reads: it is a standby, or was told to.
    "26000", // A pooler in between gave us another's connection.
    "28",    // The password was changed on one side.
    "3D000", // The database is being restored.
    "40",    // Serialization failures and deadlocks.
    "53",    // No memory, no room on the disk, too many connections.
    LOCKED,
    "57",    // Cancelled, shutting down, starting up.
    "58",    // The disk.
    "72000", // The snapshot is too old.
    CHANGED_PLAN,
];

/// "Cached plan must not change result type": the tables were migrated under a prepared statement.
const CHANGED_PLAN: &str = "0A000";

/// A lock was not had in time.
const LOCKED: &str = "55P03";

/// A statement took too long, or was canceled.
const CANCELED: &str = "57014";

/// Errors after which nothing of the statement holds, so that it can be run again.
const UNDONE: [&str; 4] = ["40001", "40P01", "26000", CHANGED_PLAN];

/// A write would make a key live for an owner that has as many live keys as it may have.
const TOO_MANY_KEYS: &str = "KEY01";

/// unique_violation.
const TAKEN: &str = "23505";

/// The class of data exceptions: a number out of its range, a text that cannot be kept, or a limit
/// counter that our functions reject.
const DATA: &str = "22";

/// character_not_in_repertoire and untranslatable_character: the text has U+0000, as it is or in JSON.
const NUL: [&str; 2] = ["22021", "22P05"];

/// Returns the error to report if `doing` failed. No value of a record is in it.
pub(super) fn failed(doing: &str, error: sqlx::Error) -> StoreError {
    let reason = format!("{doing} failed");
    match error {
        sqlx::Error::Encode(_)
        | sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::ColumnNotFound(_)
        | sqlx::Error::Decode(_) => StoreError::Backend {
            reason,
            source: source(error),
        },
        sqlx::Error::Database(database) if is_one_of(&NUL, database.as_ref()) => {
            StoreError::InvalidArgument(
                "PostgreSQL cannot keep a text with the character U+0000; leave it out".to_owned(),
            )
        }
        sqlx::Error::Database(database) => {
            let waited = is_one_of(&[LOCKED, CANCELED], database.as_ref());
            let passing = is_one_of(&PASSING, database.as_ref());
            let source = Box::new(ServerMessage::new(database.as_ref()));
            if waited {
                StoreError::waited_too_long(reason, source)
            } else if passing {
                StoreError::Unavailable {
                    reason,
                    source: Some(source),
                }
            } else {
                StoreError::Backend { reason, source }
            }
        }
        error => StoreError::Unavailable {
            reason,
            source: Some(Box::new(error)),
        },
    }
}

/// Describes the error with its causes, for a log line and for errors that cannot carry a source.
pub(super) fn described(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(database) => ServerMessage::new(database.as_ref()).to_string(),
        error => ErrorChain(error).to_string(),
    }
}

/// As [`failed`], for an insert: only there is a taken id a conflict.
pub(super) fn insert_failed(error: sqlx::Error, options: &WriteOptions) -> StoreError {
    match error.as_database_error() {
        Some(database)
            if is_one_of(&[TAKEN], database) && database.constraint() == Some("api_keys_pkey") =>
        {
            StoreError::Conflict
        }
        _ => write_failed("adding a record", error, options),
    }
}

/// As [`failed`], for a write that may be one key too many.
pub(super) fn write_failed(doing: &str, error: sqlx::Error, options: &WriteOptions) -> StoreError {
    let database = error.as_database_error();
    let max = options
        .max_live_keys
        .filter(|_| database.is_some_and(|database| is_one_of(&[TOO_MANY_KEYS], database)));
    match max {
        Some(max) => StoreError::TooManyKeys { max },
        None => failed(doing, error),
    }
}

/// As [`failed`], for what could not be connected to: nothing that was to be kept was refused.
pub(super) fn connecting_failed(error: sqlx::Error) -> StoreError {
    StoreError::Unavailable {
        reason: "connecting to PostgreSQL failed".to_owned(),
        source: Some(source(error)),
    }
}

/// Whether the connection broke, or the server ended it.
pub(super) fn is_lost(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) => true,
        sqlx::Error::Database(database) => is_one_of(&["08", "57P"], database.as_ref()),
        _ => false,
    }
}

/// Whether the database that was to be connected to does not exist: invalid_catalog_name.
pub(super) fn is_missing_database(error: &sqlx::Error) -> bool {
    let database = error.as_database_error();
    database.is_some_and(|database| is_one_of(&["3D000"], database))
}

/// Whether a table does not have the columns of ours: undefined_column, cannot_coerce and invalid_text_representation.
pub(super) fn is_another_table(error: &sqlx::Error) -> bool {
    let database = error.as_database_error();
    database.is_some_and(|database| is_one_of(&["42703", "42846", "22P02"], database))
        || matches!(error, sqlx::Error::RowNotFound)
}

/// Whether nothing of the statement holds, and it may do better at once.
pub(super) fn is_undone(error: &sqlx::Error) -> bool {
    let database = error.as_database_error();
    database.is_some_and(|database| is_one_of(&UNDONE, database))
}

/// Whether the server refused the statement by a rule, and its connection is as good as before.
pub(super) fn leaves_the_connection_whole(error: &sqlx::Error) -> bool {
    // Integrity constraints, exceptions of our triggers, serialization failures, and locks that were not had in time.
    let database = error.as_database_error();
    database.is_some_and(|database| {
        is_one_of(
            &["23", "P0001", "40", LOCKED, DATA, TOO_MANY_KEYS],
            database,
        )
    })
}

/// Whether a function met stored data that it cannot work with.
pub(super) fn is_of_data(error: &sqlx::Error) -> bool {
    let database = error.as_database_error();
    database.is_some_and(|database| is_one_of(&[DATA], database) && !is_one_of(&NUL, database))
}

fn is_one_of(codes: &[&str], error: &dyn DatabaseError) -> bool {
    let code = error.code().unwrap_or_default();
    codes.iter().any(|start| code.starts_with(start))
}

fn source(error: sqlx::Error) -> BoxError {
    match error {
        sqlx::Error::Database(database) => Box::new(ServerMessage::new(database.as_ref())),
        error => Box::new(error),
    }
}

/// What PostgreSQL said, without its `DETAIL` and `CONTEXT`: a broken check quotes the whole row
/// there, digest and all. The message of a data exception quotes a value, and is left out.
#[derive(Debug)]
struct ServerMessage {
    code: String,
    message: String,
}

impl ServerMessage {
    fn new(error: &dyn DatabaseError) -> Self {
        let code = error.code().unwrap_or_default().into_owned();
        let message = match code.starts_with(DATA) {
            true => "the server rejected a value",
            false => error.message(),
        };
        Self {
            message: message.to_owned(),
            code,
        }
    }
}

impl fmt::Display for ServerMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (SQLSTATE {})", self.message, self.code)
    }
}

impl StdError for ServerMessage {}
