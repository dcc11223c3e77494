//! The manager of the process, installed once.

use once_cell::sync::OnceCell;

use super::ApiKeyManager;
use crate::error::Error;

static INSTALLED: OnceCell<ApiKeyManager> = OnceCell::new();

pub(super) fn install(manager: &ApiKeyManager) -> Result<(), Error> {
    INSTALLED
        .set(manager.clone())
        .map_err(|_installed| Error::AlreadyInstalled)
}

/// Returns the installed manager.
pub(crate) fn installed() -> Option<&'static ApiKeyManager> {
    INSTALLED.get()
}
