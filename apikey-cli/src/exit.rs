//! The exit codes, which scripts rely on.

/// A code with which the program exits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Code(u8);

/// Done.
pub(crate) const SUCCESS: Code = Code(0);
/// Any other error.
pub(crate) const ERROR: Code = Code(1);
/// The arguments, the settings or an answer at the prompt cannot be used.
pub(crate) const USAGE: Code = Code(2);
/// The key, the owner or the store does not exist.
pub(crate) const NOT_FOUND: Code = Code(3);
/// A rule does not allow it, or servers use the store.
pub(crate) const NOT_ALLOWED: Code = Code(4);
/// Something changed meanwhile, exists already, or is revoked.
pub(crate) const CONFLICT: Code = Code(5);
/// The store does not answer.
pub(crate) const STORE_AWAY: Code = Code(6);
/// The key that was to be verified is rejected.
pub(crate) const REJECTED: Code = Code(10);

impl Code {
    /// Returns the code of a program that this signal ended, as shells say it.
    #[cfg(unix)]
    pub(crate) fn of_signal(number: i32) -> Self {
        Self(u8::try_from(number).map_or(ERROR.0, |number| 128 | number))
    }
}

impl From<Code> for i32 {
    fn from(code: Code) -> Self {
        code.0.into()
    }
}

impl From<Code> for std::process::ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code.0)
    }
}
