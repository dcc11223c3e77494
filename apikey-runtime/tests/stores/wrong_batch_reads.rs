//! The suite detects stores that read many records incorrectly: each of these breaks one rule, and fails the check of that
//! rule.

use std::collections::HashMap;
use std::sync::Mutex;

use apikey_runtime::store::{BatchReads, FindResult, StoreError};
use apikey_runtime::{KeyId, KeyRecord, KeyStore, MemoryStore};
use apikey_test_support::store::{Capability, Forward};

use crate::wrong_checks::ensure_detected;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    SortsTheIds,
    OmitsTheUnknown,
    FailsForTheUnknown,
    ReadsTenAtMost,
    OmitsOwners,
    ReadsOld,
}

#[derive(Debug)]
struct Wrong {
    right: MemoryStore,
    fault: Fault,
    seen: Mutex<HashMap<KeyId, Option<KeyRecord>>>,
}

impl Forward for Wrong {
    fn inner(&self) -> &dyn KeyStore {
        &self.right
    }

    fn has(&self, _: Capability) -> bool {
        true
    }

    async fn find_many(&self, ids: &[KeyId]) -> Result<Vec<FindResult>, StoreError> {
        let mut ids = ids.to_vec();
        if self.fault == Fault::SortsTheIds {
            ids.sort_unstable();
        }
        let mut found = self.right.find_many(&ids).await?;
        match self.fault {
            Fault::OmitsTheUnknown => found.retain(|found| !matches!(found, Ok(None))),
            Fault::FailsForTheUnknown if found.iter().any(|found| matches!(found, Ok(None))) => {
                return Err(StoreError::NotFound);
            }
            Fault::ReadsTenAtMost => found.truncate(10),
            Fault::OmitsOwners => {
                for record in found.iter_mut().flatten().flatten() {
                    record.owner_state = None;
                }
            }
            Fault::ReadsOld => {
                let mut seen = self.seen.lock().unwrap();
                let old = |(id, found): (&KeyId, FindResult)| {
                    let found = found?;
                    let seen = seen.entry(*id).or_insert_with(|| found.clone());
                    Ok(seen.clone().or(found))
                };
                found = ids.iter().zip(found).map(old).collect();
            }
            _ => {}
        }
        Ok(found)
    }
}

#[tokio::test]
async fn the_suite_detects_wrong_batches() {
    const MANY: &str = "many_records_are_read_as_one_by_one";
    let cases = [
        (Fault::SortsTheIds, MANY),
        (Fault::OmitsTheUnknown, MANY),
        (Fault::FailsForTheUnknown, MANY),
        (Fault::ReadsTenAtMost, MANY),
        (Fault::OmitsOwners, MANY),
        (Fault::ReadsOld, "a_batch_reads_what_is_written_at_once"),
    ];
    let make = |fault| Wrong {
        right: MemoryStore::new(),
        fault,
        seen: Mutex::default(),
    };
    ensure_detected(Fault::None, &cases, make).await;
}
