//! Probes: calls that find out whether the store works while requests make none.

use std::time::Duration;

use tokio::time::sleep;

use super::core::ManagerCore;
use crate::key::KeyId;
use crate::metrics::StoreCall;
use crate::record::KeyPatch;
use crate::shared::CallClass;
use crate::store::WriteOptions;

/// What became of a call is news for this long. Probes are as far apart.
const INTERVAL: Duration = Duration::from_secs(1);

/// The version of no record: a probe must not change one.
const IMPOSSIBLE_VERSION: u64 = 0;

impl ManagerCore {
    /// Probes on request, and then for as long as keys cannot be read or changed, so that health
    /// recovers without traffic.
    pub(super) async fn run_probes(&self) {
        loop {
            self.probe_request.notified().await;
            loop {
                self.probe().await;
                sleep(INTERVAL).await;
                if !self.fails(CallClass::Reads) && !self.fails(CallClass::Changes) {
                    break;
                }
            }
        }
    }

    async fn probe(&self) {
        let id = KeyId::from_u128(u128::MAX);
        if self.is_old(CallClass::Reads) {
            let find = self.shared.store.find(&id);
            // The status records the result.
            let _ = self.shared.call(StoreCall::Find, find).await;
        }
        if self.fails(CallClass::Changes) && self.is_old(CallClass::Changes) {
            let patch = KeyPatch::new();
            let options = WriteOptions::new().with_expected_version(Some(IMPOSSIBLE_VERSION));
            let update = self.shared.store.update(&id, &patch, &options);
            let _ = self.shared.call(StoreCall::Update, update).await;
        }
    }

    fn fails(&self, class: CallClass) -> bool {
        self.shared.status.of(class).failing.is_some()
    }

    fn is_old(&self, class: CallClass) -> bool {
        let ended = self.shared.status.of(class).ended;
        ended.is_none_or(|ended| ended.elapsed() >= INTERVAL)
    }
}
