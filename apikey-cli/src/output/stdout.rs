//! Whether stdout keeps what is written to it.

/// What becomes of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stdout {
    /// It goes to a terminal, a pipe or a file.
    Kept,
    /// It is discarded by `/dev/null`.
    Discarded,
    /// It is lost, since stdout was closed when the program began, or is open for reading only.
    Closed,
}

impl Stdout {
    /// Returns what the process has. In place of a closed stdout, Rust's runtime opens `/dev/null` for reading and writing. A
    /// shell opens it for writing only, and other programs may open it for both, too. Rust takes a stdout that is not open for writing
    /// for one that was closed, and reports no error.
    #[cfg(unix)]
    pub(crate) fn of_process() -> Self {
        use rustix::fs::{FileType, OFlags, Stat, fcntl_getfl, fstat, stat};

        let device = |stat: Stat| (FileType::from_raw_mode(stat.st_mode), stat.st_rdev);
        let stdout = std::io::stdout();
        let (Ok(stat_of_stdout), Ok(flags)) = (fstat(&stdout), fcntl_getfl(&stdout)) else {
            return Self::Closed;
        };
        let access = flags & OFlags::RWMODE;
        if access == OFlags::RDONLY {
            return Self::Closed;
        }
        match stat("/dev/null") {
            Ok(null) if device(null) != device(stat_of_stdout) => Self::Kept,
            Ok(_) if access == OFlags::RDWR => Self::Closed,
            Ok(_) => Self::Discarded,
            Err(_missing) => Self::Kept,
        }
    }

    /// Returns that the output is kept, which is not known here.
    #[cfg(not(unix))]
    pub(crate) fn of_process() -> Self {
        Self::Kept
    }
}
