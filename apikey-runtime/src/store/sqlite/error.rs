//! What a failure of SQLite means to a caller.

use std::borrow::Borrow;
use std::io;

use sqlx::error::DatabaseError;

use crate::error::StoreError;

/// Primary result codes, <https://www.sqlite.org/rescode.html>: what a later try may not meet
/// again.
const TRANSIENT: [i32; 8] = [
    BUSY,
    6, // SQLITE_LOCKED.
    7, // SQLITE_NOMEM.
    READ_ONLY,
    10, // SQLITE_IOERR.
    FULL,
    CANNOT_OPEN,
    LOCKING_RACE,
];

/// SQLITE_BUSY: another process writes.
const BUSY: i32 = 5;

/// SQLITE_READONLY: the file or its folder may not be written, the file system was mounted so, or the file was moved away.
const READ_ONLY: i32 = 8;

/// SQLITE_READONLY_DBMOVED: the file was moved away.
const MOVED: i32 = 1032;

/// SQLITE_FULL: no room on the disk.
const FULL: i32 = 13;

/// SQLITE_CANTOPEN: the file, or one that SQLite keeps beside it, may not be opened.
const CANNOT_OPEN: i32 = 14;

/// SQLITE_PROTOCOL: another process opened the same new file at the same moment.
const LOCKING_RACE: i32 = 15;

/// SQLITE_CONSTRAINT_TRIGGER: one of our triggers.
const REFUSED_BY_TRIGGER: i32 = 1811;

/// What the trigger says of an insert whose id a revoked key has.
const TAKEN: &str = "a revoked key stays revoked; create a new key";

/// Returns the error to report if `doing` failed. No value of a record is in it: SQLite's messages name
/// tables and columns. The error is the client library's, or one that several share.
pub(super) fn failed<E>(doing: &str, error: E) -> StoreError
where
    E: Borrow<sqlx::Error> + std::error::Error + Send + Sync + 'static,
{
    let reason = match error.borrow() {
        // Later calls say why.
        sqlx::Error::PoolClosed => format!("{doing} failed, since the store stopped meanwhile"),
        _ => format!("{doing} failed"),
    };
    match error.borrow() {
        sqlx::Error::Database(database) if database.is_unique_violation() => StoreError::Conflict,
        sqlx::Error::PoolTimedOut => {
            StoreError::timed_out(format!("{reason}: all connections are in use"))
        }
        sqlx::Error::Database(database) if is_refused(database.as_ref()) => {
            StoreError::InvalidArgument(format!("{doing} failed: {}", database.message()))
        }
        found if is_busy(found) => StoreError::waited_too_long(reason, error),
        found if is_transient(found) => StoreError::Unavailable {
            reason,
            source: Some(match kind_of(error.borrow()) {
                Some(kind) => Box::new(io::Error::new(kind, error)),
                None => Box::new(error),
            }),
        },
        _ => StoreError::Backend {
            reason,
            source: Box::new(error),
        },
    }
}

/// As [`failed`], for an insert: only there is a taken id a conflict, and a revoked one is found
/// taken by a trigger.
pub(super) fn insert_failed(error: sqlx::Error) -> StoreError {
    match error.as_database_error() {
        Some(database) if is_refused(database) && database.message() == TAKEN => {
            StoreError::Conflict
        }
        _ => failed("adding a record", error),
    }
}

/// Whether another process had the file locked.
pub(super) fn is_busy(error: &sqlx::Error) -> bool {
    matches!(
        error.as_database_error().and_then(primary_code),
        Some(BUSY | LOCKING_RACE)
    )
}

/// Whether the file is something else: SQLITE_NOTADB.
pub(super) fn is_not_a_database(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(primary_code) == Some(26)
}

/// Returns the kind of a failure about which the operator can do something: the rights to the file, and room on its disk.
fn kind_of(error: &sqlx::Error) -> Option<io::ErrorKind> {
    let code = code(error.as_database_error()?)?;
    match code & 0xff {
        _ if code == MOVED => None,
        READ_ONLY | CANNOT_OPEN => Some(io::ErrorKind::PermissionDenied),
        FULL => Some(io::ErrorKind::StorageFull),
        _ => None,
    }
}

fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(database) => {
            primary_code(database.as_ref()).is_some_and(|code| TRANSIENT.contains(&code))
        }
        _ => false,
    }
}

fn is_refused(error: &dyn DatabaseError) -> bool {
    code(error) == Some(REFUSED_BY_TRIGGER)
}

fn primary_code(error: &dyn DatabaseError) -> Option<i32> {
    code(error).map(|code| code & 0xff)
}

/// The extended result code, which sqlx gives as a decimal text.
fn code(error: &dyn DatabaseError) -> Option<i32> {
    error.code()?.parse().ok()
}
