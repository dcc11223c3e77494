//! Errors, in words for the person at the terminal.

use std::error::Error as StdError;
use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use apikey_runtime::store::{FoundSchema, StoreError};
use apikey_runtime::{Error, KeyId};

use crate::args::Common;
use crate::exit::{self, Code};
use crate::text::escaped;

/// The time that a help recommends.
const LONG: Duration = Duration::from_secs(30);

/// What to do about a store that is away.
const SEE_SERVER: &str = "see that the server runs, and that the store's address is right";

/// The same about a store in a file.
const SEE_FILE: &str = "see that the path is right, and that the file can be read and written";

/// The same about a file for which the program waited too long.
const SEE_LOCK: &str = "see that no other program holds the file locked";

/// The same about a file that this user may not use. SQLite does not tell a disk that is mounted read-only from that.
const SEE_RIGHTS: &str = "run it as the user of the server, who may write the store's file and its folder, and see that its disk is not mounted read-only";

/// Why a command failed, what to do, and the exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    code: Code,
    cause: String,
    remedy: Option<String>,
    /// Whether what reads stdout has gone.
    reader_gone: bool,
    /// Why the store is away, if that decides what to do.
    away: Option<io::ErrorKind>,
}

impl Failure {
    /// Creates an error of any other kind.
    pub(crate) fn new(cause: impl Into<String>) -> Self {
        Self::with_code(exit::ERROR, cause)
    }

    /// Creates an error of the arguments or the settings.
    pub(crate) fn usage(cause: impl Into<String>) -> Self {
        Self::with_code(exit::USAGE, cause)
    }

    pub(crate) fn with_code(code: Code, cause: impl Into<String>) -> Self {
        Self {
            code,
            cause: cause.into(),
            remedy: None,
            reader_gone: false,
            away: None,
        }
    }

    /// Creates an error with a message and the chain of its causes.
    pub(crate) fn because(cause: impl fmt::Display, error: &(dyn StdError + 'static)) -> Self {
        Self::new(format!("{cause}: {}", chain(error)))
    }

    /// Creates an error of a file that an option names, and that cannot be read.
    pub(crate) fn unread_file(what: &str, path: &Path, error: &io::Error) -> Self {
        Self::usage(format!(
            "the file `{}` {what} cannot be read: {error}",
            path.display()
        ))
    }

    /// Creates an error of a variable whose bytes are no text. They are not repeated.
    pub(crate) fn not_unicode(variable: &str) -> Self {
        Self::usage(format!("`{variable}` is not Unicode; write it as UTF-8"))
    }

    /// Adds what to do.
    pub(crate) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// Says first what was done before this.
    pub(crate) fn after(mut self, done: impl fmt::Display) -> Self {
        self.cause = format!("{done}, and {}", self.cause);
        self
    }

    /// Returns the whole text without an id that it may have.
    pub(crate) fn text_without(&self, id: &str) -> String {
        let remedy = self.remedy.as_deref().unwrap_or_default();
        format!("{}\n{remedy}", self.cause).replace(id, "")
    }

    /// Adds what failed in the same way.
    pub(crate) fn and_also(mut self, others: impl fmt::Display) -> Self {
        self.cause = format!("{}; the same for {others}", self.cause);
        self
    }

    /// Adds that `--timeout` waits longer, if it does.
    pub(crate) fn patient(self, common: &Common, has_timeout: bool) -> Self {
        let is_short = common.timeout.is_none_or(|timeout| timeout < LONG);
        match &self.remedy {
            Some(remedy)
                if self.away == Some(io::ErrorKind::TimedOut) && has_timeout && is_short =>
            {
                let remedy = format!("{remedy}; `--timeout 30s` waits longer");
                self.remedy(remedy)
            }
            _ => self,
        }
    }

    /// Names the file of a store that is away: it does not have a server.
    pub(crate) fn in_file(mut self, path: &Path) -> Self {
        if !self.is_store_away() {
            return self;
        }
        let shown = path.display().to_string();
        if !self.cause.contains(&shown) {
            self.cause = format!("{} (the store is `{shown}`)", self.cause);
        }
        let see = match self.away {
            Some(io::ErrorKind::TimedOut) => SEE_LOCK,
            Some(io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) => SEE_RIGHTS,
            _ => SEE_FILE,
        };
        self.remedy = self.remedy.map(|remedy| remedy.replace(SEE_SERVER, see));
        self
    }

    /// Returns whether the store did not answer, so that it is not known whether a change was made.
    pub(crate) fn is_store_away(&self) -> bool {
        self.code == exit::STORE_AWAY
    }

    /// Adds that `what` may have happened, and the command that tells or ends it, if the store did not answer.
    pub(crate) fn unsure(self, what: impl fmt::Display, command: impl fmt::Display) -> Self {
        // Without the rights, nothing was asked of the store.
        let was_asked = !matches!(self.away, Some(io::ErrorKind::PermissionDenied));
        if !self.is_store_away() || !was_asked {
            return self;
        }
        let unsure = format!("it is not known whether {what}: `{command}`");
        let remedy = match &self.remedy {
            Some(remedy) => format!("{remedy}; {unsure}"),
            None => unsure,
        };
        self.remedy(remedy)
    }

    /// Adds that a change of a key may have been made, if the store did not answer.
    pub(crate) fn unsure_of_change(self, id: KeyId) -> Self {
        self.unsure("the change was made", format!("apikey keys show {id}"))
    }

    /// Returns whether what reads stdout has gone: the rest of the output is not wanted.
    pub(crate) fn is_reader_gone(&self) -> bool {
        self.reader_gone
    }

    /// Writes the message to stderr, and returns the exit code.
    pub(crate) fn report(&self) -> std::process::ExitCode {
        let mut err = anstream::stderr().lock();
        // Without stderr, the exit code has to do.
        let _ = writeln!(err, "\x1b[1;31merror:\x1b[0m {}", escaped(&self.cause));
        if let Some(remedy) = &self.remedy {
            let _ = writeln!(err, "  \x1b[1mhelp:\x1b[0m {}", escaped(remedy));
        }
        self.code.into()
    }
}

fn causes<'e>(
    error: &'e (dyn StdError + 'static),
) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// Returns an error and its causes in one line. A cause whose text stands in the line already is left out.
pub(crate) fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut shown = String::new();
    for error in causes(error) {
        let text = error.to_string();
        if shown.is_empty() {
            shown = text;
        } else if !shown.contains(&text) {
            shown = format!("{shown}: {text}");
        }
    }
    shown
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let mut failure = Self::with_code(code_of(&error), chain(&error));
        failure.away = why_away(&error);
        match &error {
            Error::Store(StoreError::Unavailable { .. }) => {
                let remedy = remedy_of_away(failure.away);
                failure.remedy(remedy)
            }
            Error::Store(StoreError::Schema { found, .. }) => of_schema(failure, *found),
            Error::NotFound(_) => of_unknown(failure, "`apikey keys list` lists the keys"),
            Error::OwnerNotFound(_) => of_unknown(failure, "`apikey owners list` lists the owners"),
            _ => failure,
        }
    }
}

/// Returns what the system said of a store that is away, if that decides what to do.
fn why_away(error: &Error) -> Option<io::ErrorKind> {
    use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem, StorageFull, TimedOut};

    let kinds = causes(error).filter_map(|cause| cause.downcast_ref::<io::Error>());
    kinds.map(io::Error::kind).find(|kind| {
        matches!(
            kind,
            PermissionDenied | ReadOnlyFilesystem | StorageFull | TimedOut
        )
    })
}

fn remedy_of_away(why: Option<io::ErrorKind>) -> &'static str {
    match why {
        Some(io::ErrorKind::StorageFull) => "make room on the store's disk",
        _ => SEE_SERVER,
    }
}

/// Replaces what follows the cause, which is for the author of a program.
fn of_unknown(mut failure: Failure, remedy: &str) -> Failure {
    if let Some((told, _)) = failure.cause.rsplit_once("; ") {
        failure.cause = told.to_owned();
    }
    failure.remedy(remedy)
}

/// Adds what to do about something else than a store of this release.
fn of_schema(failure: Failure, found: FoundSchema) -> Failure {
    // What follows is for the author of a program.
    let told = failure.cause.split("; ").next().unwrap_or_default();
    let told = told.trim_start_matches("the key store failed: ");
    let (cause, code, remedy) = match found {
        FoundSchema::Missing => (
            "the store does not exist, and none was created",
            exit::NOT_FOUND,
            "correct the store's address; a server creates the store when it starts",
        ),
        FoundSchema::Older(_) => (
            "the store was made by an older release",
            exit::ERROR,
            "stop the servers, make a copy, and run `apikey store migrate`; or start a server of this release, which does the same",
        ),
        FoundSchema::Newer(_) => (
            "the store was changed by a newer release",
            exit::ERROR,
            "use an `apikey` of the servers' release",
        ),
        _ => (
            "what is at the store's address is not a store of keys",
            exit::ERROR,
            "correct the store's address",
        ),
    };
    let cause = format!("{cause}: {told}");
    Failure::with_code(code, cause).remedy(remedy)
}

fn code_of(error: &Error) -> Code {
    match error {
        Error::Config(_) | Error::InvalidArgument(_) => exit::USAGE,
        Error::NotFound(_) | Error::OwnerNotFound(_) => exit::NOT_FOUND,
        Error::Store(StoreError::NotFound) => exit::NOT_FOUND,
        Error::Policy(_) => exit::NOT_ALLOWED,
        Error::Conflict(_) | Error::Revoked(_) => exit::CONFLICT,
        Error::Store(StoreError::Conflict) => exit::CONFLICT,
        Error::Store(StoreError::Unavailable { .. }) => exit::STORE_AWAY,
        Error::Incomplete { source, .. } => code_of(source),
        _ => exit::ERROR,
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::from(Error::from(error))
    }
}

/// The error of an output. `commands::run` decides whether a reader that has gone is one.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self {
            reader_gone: error.kind() == io::ErrorKind::BrokenPipe,
            ..Self::because("the output cannot be written", &error)
        }
    }
}
