//! The files of a database, and their identities.

use parking_lot::Mutex;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{FoundSchema, StoreError};
use crate::store::schema;

/// Returns an absolute path: it does not start with `file:`, which SQLite would read as a URI, and it
/// stays right if the process changes its directory.
pub(super) fn checked_path(path: &Path) -> Result<PathBuf, StoreError> {
    if path.as_os_str().is_empty() || path == Path::new(":memory:") {
        return Err(StoreError::InvalidArgument(
            "a store in SQLite needs a file; for one in memory take `MemoryStore`".to_owned(),
        ));
    }
    std::path::absolute(path).map_err(|error| file_failed(path, error))
}

/// Creates the file, if it does not exist, so that only its owner can read it. SQLite gives the files
/// beside it the same rights.
pub(super) fn create_private(path: &Path) -> Result<(), StoreError> {
    /// POSIX drops all of a process's locks on a file when it closes *any* descriptor of that file.
    /// So this closes one only if the file is new, and before another store of this process can have
    /// opened it.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock();

    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(file_failed(path, error)),
        _ => Ok(()),
    }
}

/// Returns an error if the file does not exist.
pub(super) fn require(path: &Path) -> Result<(), StoreError> {
    match std::fs::metadata(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(StoreError::Schema {
            found: FoundSchema::Missing,
            reason: schema::missing(&place(path)),
        }),
        Err(error) => Err(file_failed(path, error)),
    }
}

/// Names the file that does not have a store, for [`must_exist`](super::SqliteStore::must_exist).
pub(super) fn place(path: &Path) -> String {
    let folder = std::env::current_dir().unwrap_or_default();
    format!(
        "the file `{}` (the working directory is `{}`)",
        path.display(),
        folder.display()
    )
}

/// Refuses a file that is missing or empty beside the log of another: SQLite would delete the log, with
/// the changes that are only there.
pub(super) fn refuse_stray_log(path: &Path) -> Result<(), StoreError> {
    let length = |path: &Path| std::fs::metadata(path).map_or(0, |found| found.len());
    let log = beside(path, "-wal");
    // In this order: another process that creates both writes the file first.
    let stray = length(&log);
    if stray == 0 || length(path) > 0 {
        return Ok(());
    }
    Err(StoreError::InvalidArgument(format!(
        "`{}` is missing or empty, and `{}` beside it has changes of {stray} bytes, which SQLite would \
         delete with a new file; put the file of this log back, or move the log away",
        path.display(),
        log.display()
    )))
}

/// Returns the path of a file that SQLite keeps beside the file to which `path` leads.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut path = std::fs::canonicalize(path)
        .unwrap_or_else(|_not_there| path.to_owned())
        .into_os_string();
    path.push(suffix);
    path.into()
}

/// Device and inode.
type FileIdentity = (u64, u64);

/// The files that are open: the main file, the log of its changes, and the index of that log. They are
/// found at their paths for as long as other processes use the same ones.
#[derive(Debug)]
pub(super) struct DatabaseFiles {
    main: OpenFile,
    /// The log, and its index.
    beside: [OpenFile; 2],
}

#[derive(Debug)]
struct OpenFile {
    path: PathBuf,
    identity: Option<FileIdentity>,
}

/// What happened to a file while it was open.
#[derive(Debug)]
pub(super) struct FileChange {
    /// What happened, and what to do.
    pub(super) reason: String,
    pub(super) action: CloseAction,
}

/// What to do with the connections after something happened to the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CloseAction {
    /// To close them. SQLite sees by itself that the file was moved, and does not touch its log then.
    Close,
    /// To leave them open. With the last one, SQLite would delete the log by its path, and another
    /// process may have written its changes there meanwhile.
    Leave,
    /// To write the log into the file, and to leave them open. The log has no path any more, and what
    /// was acknowledged may be only there.
    SaveAndLeave,
}

impl DatabaseFiles {
    /// Notes which files stand at their paths.
    pub(super) fn of(path: &Path) -> Self {
        let open = |path: PathBuf| OpenFile {
            identity: identity(&path),
            path,
        };
        Self {
            main: open(path.to_owned()),
            beside: ["-wal", "-shm"].map(|suffix| open(beside(path, suffix))),
        }
    }

    /// Returns whether the main file is the one that `earlier` noted, and all files exist.
    pub(super) fn is_complete_since(&self, earlier: &Self) -> bool {
        let is_there = |file: &OpenFile| file.identity.is_some() || cfg!(not(unix));
        self.main.identity == earlier.main.identity && self.beside.iter().all(is_there)
    }

    /// Returns what happened to the files, if they are not the only ones, and the same, as when they
    /// were noted. What other processes change is then not seen here.
    pub(super) fn change(&self) -> Option<FileChange> {
        let (main, links) = look(&self.main.path).unzip();
        if main != self.main.identity {
            let what = "was moved or replaced";
            return Some(self.changed(what, &self.main, CloseAction::Close));
        }
        if links.is_some_and(|links| links > 1) {
            // The log has the name of the file by which it was opened.
            let what = "has a second name (a hard link)";
            return Some(self.changed(what, &self.main, CloseAction::Close));
        }
        let [log, index] = self.beside.each_ref().map(|file| identity(&file.path));
        let [own_log, own_index] = &self.beside;
        let is_other = index.is_some() && index != own_index.identity;
        let (file, action) = if log != own_log.identity {
            let action = match log {
                None if !is_other => CloseAction::SaveAndLeave,
                _ => CloseAction::Leave,
            };
            (own_log, action)
        } else if index != own_index.identity {
            (own_index, CloseAction::Leave)
        } else {
            return None;
        };
        Some(self.changed("was removed or replaced", file, action))
    }

    fn changed(&self, what: &str, file: &OpenFile, action: CloseAction) -> FileChange {
        FileChange {
            reason: format!(
                "`{}` {what}, so that what other processes change may not be seen any more; end every process that uses `{}`, see that it is the right file, and start again",
                file.path.display(),
                self.main.path.display()
            ),
            action,
        }
    }
}

fn identity(path: &Path) -> Option<FileIdentity> {
    look(path).map(|(identity, _)| identity)
}

/// Returns the identity of the file to which `path` leads, and the number of its names.
#[cfg(unix)]
fn look(path: &Path) -> Option<(FileIdentity, u64)> {
    use std::os::unix::fs::MetadataExt;

    let found = std::fs::metadata(path).ok()?;
    Some(((found.dev(), found.ino()), found.nlink()))
}

/// On other systems a file that is open cannot be replaced.
#[cfg(not(unix))]
fn look(_path: &Path) -> Option<(FileIdentity, u64)> {
    None
}

fn file_failed(path: &Path, error: io::Error) -> StoreError {
    let reason = format!("opening `{}`: {error}", path.display());
    StoreError::Unavailable {
        reason,
        source: Some(Box::new(error)),
    }
}
