//! Limit counters in a store.

use async_trait::async_trait;

use super::{Charge, ChargeOutcome, LimitCounter, LimitSupport};
use crate::error::StoreError;
use crate::key::KeyId;

/// Counts limits of keys, for all processes that use the store.
#[async_trait]
pub trait LimitStore: Send + Sync {
    /// Returns which limits the store counts. The answer must not change.
    fn support(&self) -> LimitSupport;

    /// Charges all limits of a request, or none, in one step, at the time of the store's own clock;
    /// see [`Charge::apply`].
    ///
    /// An allowed charge of a quota outlives a crash of the store. A charge of rates alone may be
    /// lost in a crash if it was made in the last moments before. If the store does not have the
    /// key, the charge may be counted or not. The manager charges only what
    /// [`support`](Self::support) names.
    ///
    /// # Errors
    ///
    /// Returns any backend error. Whether the charge was counted is then not known, and the request
    /// is denied.
    async fn charge(&self, charge: &Charge) -> Result<ChargeOutcome, StoreError>;

    /// Gives back up to `amount` units of what the key used of a limit, in one step; see
    /// [`CounterState::refill`](crate::limit::CounterState::refill).
    ///
    /// # Errors
    ///
    /// Returns any backend error. Whether the units were given back is then not known.
    async fn refill(
        &self,
        key: &KeyId,
        counter: &LimitCounter,
        amount: u64,
    ) -> Result<(), StoreError>;
}
