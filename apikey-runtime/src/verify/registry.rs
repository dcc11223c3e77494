//! The verifiers of this process's managers. A guard that denies a request refunds what guards of other
//! managers charged.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::Verifier;
use crate::cache::WatchersId;

/// The verifiers of all managers of this process.
static VERIFIERS: Mutex<BTreeMap<WatchersId, Weak<Verifier>>> = Mutex::new(BTreeMap::new());

impl Verifier {
    /// Makes a verifier that [`of`](Self::of) finds.
    pub(crate) fn registered(self) -> Arc<Self> {
        let verifier = Arc::new(self);
        let mut verifiers = VERIFIERS.lock();
        verifiers.retain(|_, other| other.strong_count() > 0);
        verifiers.insert(verifier.watchers_id(), Arc::downgrade(&verifier));
        verifier
    }

    /// Returns the verifier of a manager, unless it is gone. A decision has this number, and not a
    /// pointer, so that no request increments a count that all requests share.
    pub(crate) fn of(manager: WatchersId) -> Option<Arc<Self>> {
        VERIFIERS.lock().get(&manager)?.upgrade()
    }
}
