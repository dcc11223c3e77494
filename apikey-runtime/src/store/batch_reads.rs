//! The capability of reading many records at once.

use async_trait::async_trait;

use crate::error::StoreError;
use crate::key::KeyId;
use crate::record::KeyRecord;

/// The answer to a read of one record.
pub type FindResult = Result<Option<KeyRecord>, StoreError>;

/// The maximum number of ids of one call.
pub(crate) const MAX_BATCH: usize = 100;

/// Reads many records by one statement.
///
/// While a few reads are under way, a manager lets further ones wait, and then reads all that wait by one call. Without
/// this capability it reads each record by itself, as soon as it is needed.
#[async_trait]
pub trait BatchReads: Send + Sync {
    /// Returns the records of 1 to 100 ids, all of them different, in the order of the ids: each as
    /// [`find`](crate::KeyStore::find) returns it, as of a moment after the call. A record that exists and cannot be read is
    /// [`StoreError::Corrupt`] at its place, and does not change the answer for another id.
    ///
    /// # Errors
    ///
    /// Returns any backend error. The manager then reads each record by itself.
    async fn find_many(&self, ids: &[KeyId]) -> Result<Vec<FindResult>, StoreError>;
}
