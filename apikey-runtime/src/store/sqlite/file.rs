//! The file and its identity.

use parking_lot::Mutex;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::StoreError;

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

/// Creates the file so that only its owner can read it. SQLite gives the files beside it the same
/// rights.
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

/// Device and inode.
pub(super) type FileIdentity = (u64, u64);

#[cfg(unix)]
pub(super) fn identity(path: &Path) -> Option<FileIdentity> {
    use std::os::unix::fs::MetadataExt;

    let found = std::fs::metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

/// On other systems a file that is open cannot be replaced.
#[cfg(not(unix))]
pub(super) fn identity(_path: &Path) -> Option<FileIdentity> {
    None
}

fn file_failed(path: &Path, error: io::Error) -> StoreError {
    let reason = format!("opening `{}`: {error}", path.display());
    StoreError::Unavailable {
        reason,
        source: Some(Box::new(error)),
    }
}
