//! Limits of keys.

use super::ApiKeyManager;
use crate::error::Error;
use crate::limit::{Limit, Rule, check_limits};
use crate::store::Counting;

impl ApiKeyManager {
    /// Refuses limits that cannot be stored, or that the store cannot count.
    pub(super) fn check_limits(&self, limits: &[Limit]) -> Result<(), Error> {
        check_limits(limits)?;
        let quota = |limit: &&Limit| matches!(limit.rule(), Rule::Quota(_));
        match limits.iter().find(quota) {
            Some(limit) if self.0.verifier.reader.store.counting() == Counting::Nothing => {
                Err(Error::Invalid(format!(
                    "the limit `{}` is a quota, and the key store counts none; \
                     implement `KeyStore::charge`, or write a rate",
                    limit.name()
                )))
            }
            _ => Ok(()),
        }
    }
}
