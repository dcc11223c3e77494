//! The states of keys, with their last uses.

use tokio::time::Instant;

use crate::clock::Timestamp;
use crate::error::Error;
use crate::manager::ApiKeyManager;
use crate::manager::core::ManagerCore;
use crate::record::{KeyRecord, KeyState};
use crate::shared::LastUseTimes;
use crate::store::LastUsed;

impl ApiKeyManager {
    /// Returns the state of a key now, by its record and its last use (`None` if it was never used): as
    /// [`KeyRecord::state_at`], and [`Idle`](KeyState::Idle) if [`idle_expiry`](crate::ConfigBuilder::idle_expiry)
    /// is set.
    ///
    /// A page of a list has both, and a single key's last use is that of [`last_used`](Self::last_used):
    ///
    /// ```
    /// # use apikey_runtime::{ApiKeyManager, KeyState, MemoryStore};
    /// # actix_web::rt::System::new().block_on(async {
    /// # let manager = ApiKeyManager::builder().store(MemoryStore::new()).start().await?;
    /// # manager.create("ci").await?;
    /// let page = manager.list().with_usage().await?;
    /// for record in &page.keys {
    ///     let used = page.last_used.iter().find(|used| used.key == record.id);
    ///     assert_eq!(manager.state_of(record, used), KeyState::Active);
    /// }
    /// # Ok::<(), apikey_runtime::Error>(())
    /// # }).unwrap();
    /// ```
    #[must_use]
    pub fn state_of(&self, record: &KeyRecord, last_used: Option<&LastUsed>) -> KeyState {
        let now = self.now();
        match self.config().idle_expiry() {
            Some(after) => record.state_with_use(now, last_used.map(|used| used.at), after),
            None => record.state_at(now),
        }
    }
}

impl ManagerCore {
    /// Returns the states of keys, at most 1000, in their order. Reads the last uses, in one call of the
    /// store, of those that would be idle without.
    ///
    /// # Errors
    ///
    /// Returns any error of the store.
    pub(in crate::manager) async fn states_of<'r>(
        &self,
        records: impl Iterator<Item = &'r KeyRecord> + Clone,
        now: Timestamp,
    ) -> Result<Vec<KeyState>, Error> {
        let Some(after) = self.verifier.config.idle_expiry() else {
            return Ok(records.map(|record| record.state_at(now)).collect());
        };
        let unused =
            |record: &&KeyRecord| record.state_with_use(now, None, after) == KeyState::Idle;
        let unused: Vec<_> = records
            .clone()
            .filter(unused)
            .map(|record| record.id)
            .collect();
        let uses = match unused[..] {
            [] => LastUseTimes::new(),
            _ => {
                let until = Instant::now() + self.shared.deadline;
                self.shared.last_uses(&unused, &*self.usage, until).await?
            }
        };
        let state =
            |record: &KeyRecord| record.state_with_use(now, uses.get(&record.id).copied(), after);
        Ok(records.map(state).collect())
    }
}
