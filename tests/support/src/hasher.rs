//! A hasher that counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use apikey_runtime::key::{KeyHasher, ParsedDigest, Sha256Hasher};
use apikey_runtime::store::BoxError;

/// The default hasher, with a count of its comparisons. Clones share the count.
#[derive(Debug, Clone, Default)]
pub struct CountingHasher {
    inner: Sha256Hasher,
    comparisons: Arc<AtomicUsize>,
}

impl CountingHasher {
    /// Returns how many keys were hashed to be compared, since the last call.
    pub fn take(&self) -> usize {
        self.comparisons.swap(0, SeqCst)
    }
}

impl KeyHasher for CountingHasher {
    fn hash(&self, key: &str) -> Result<String, BoxError> {
        self.inner.hash(key)
    }

    fn parse(&self, stored: &str) -> Option<ParsedDigest> {
        self.inner.parse(stored)
    }

    fn verify(&self, key: &str, digest: &ParsedDigest) -> bool {
        self.comparisons.fetch_add(1, SeqCst);
        self.inner.verify(key, digest)
    }
}
