//! The capability of shared secrets.

use async_trait::async_trait;

use crate::error::StoreError;

/// Keeps secrets that all managers on a store share, such as a key that signs the forms of a web page.
///
/// A secret is not a change of a key: it does not take an epoch, and does not write an entry of the audit log.
#[async_trait]
pub trait SharedSecretStore: Send + Sync {
    /// Returns the secret of this name. If the name does not have one, keeps `proposed`, and returns it.
    ///
    /// The first proposal stays: all calls for a name return the same bytes, from all processes, however they race, and
    /// after each restart. A secret that is returned is as durable as a change of a key: on Redis, as far as its server is
    /// configured to keep writes. Names are compared byte by byte; a manager passes 1 to 64 ASCII letters, digits, `_`,
    /// `-`, `.` and `:`.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::Corrupt`] if what is kept for the name is not 32 bytes. Its text does not have the secret.
    async fn shared_secret(&self, name: &str, proposed: [u8; 32]) -> Result<[u8; 32], StoreError>;
}

/// Returns the secret of a name as a store has read it.
///
/// # Errors
///
/// Returns [`StoreError::Corrupt`] if it is not 32 bytes.
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "redis"))]
pub(super) fn secret_of(name: &str, bytes: &[u8]) -> Result<[u8; 32], StoreError> {
    bytes
        .try_into()
        .map_err(|_another_length| StoreError::Corrupt {
            id: format!("the shared secret {}", crate::util::text::quote(name)),
            reason: format!("it has {} bytes in place of 32", bytes.len()),
        })
}
