//! The manager of the whole process, set once.

use once_cell::sync::OnceCell;

use super::ApiKeyManager;
use crate::error::Error;

static INSTALLED: OnceCell<ApiKeyManager> = OnceCell::new();

pub(super) fn install(manager: &ApiKeyManager) -> Result<(), Error> {
    INSTALLED
        .set(manager.clone())
        .map_err(|_| Error::AlreadyInstalled)
}

/// The manager that was installed, if one was.
pub(crate) fn installed() -> Option<&'static ApiKeyManager> {
    INSTALLED.get()
}
