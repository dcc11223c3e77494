//! The suite detects stores whose shared secrets are incorrect: each of these breaks one rule, and fails the
//! check of that rule.

use std::collections::HashMap;
use std::sync::Mutex;

use apikey_runtime::store::{StoreError, WriteOptions};
use apikey_runtime::{KeyStore, MemoryStore};
use apikey_test_support::store::Forward;

use crate::record;
use crate::wrong_checks::ensure_detected;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Fault {
    #[default]
    None,
    TakesTheLastProposal,
    KeepsOneForAllNames,
    FoldsTheCaseOfNames,
    TruncatesNames,
    KeepsText,
    ChangesAKey,
    AnswersWithItsOwnInARace,
    ForgetsAtARestart,
}

#[derive(Debug, Default)]
struct Wrong {
    right: MemoryStore,
    fault: Fault,
    kept: Mutex<HashMap<String, [u8; 32]>>,
}

impl Wrong {
    fn new(fault: Fault) -> Self {
        Self {
            fault,
            ..Self::default()
        }
    }

    fn name(&self, name: &str) -> String {
        match self.fault {
            Fault::KeepsOneForAllNames => String::new(),
            Fault::FoldsTheCaseOfNames => name.to_lowercase(),
            Fault::TruncatesNames => name.chars().take(63).collect(),
            _ => name.to_owned(),
        }
    }
}

impl Forward for Wrong {
    fn inner(&self) -> &dyn KeyStore {
        &self.right
    }

    async fn stop(&self) {
        if self.fault == Fault::ForgetsAtARestart {
            self.kept.lock().unwrap().clear();
        }
    }

    async fn shared_secret(&self, name: &str, proposed: [u8; 32]) -> Result<[u8; 32], StoreError> {
        let mut proposed = proposed;
        match self.fault {
            Fault::KeepsText => {
                // As a text does that is not UTF-8.
                proposed
                    .iter_mut()
                    .for_each(|byte| *byte = (*byte).min(0x7f));
            }
            Fault::ChangesAKey => {
                let number = self.kept.lock().unwrap().len();
                let _ = self
                    .right
                    .insert(&record(number as u128), &WriteOptions::new())
                    .await;
            }
            Fault::AnswersWithItsOwnInARace => {
                let kept = self.kept.lock().unwrap().get(name).copied();
                tokio::task::yield_now().await;
                self.kept
                    .lock()
                    .unwrap()
                    .entry(name.to_owned())
                    .or_insert(proposed);
                return Ok(kept.unwrap_or(proposed));
            }
            _ => {}
        }
        let mut kept = self.kept.lock().unwrap();
        let secret = kept.entry(self.name(name)).or_insert(proposed);
        if self.fault == Fault::TakesTheLastProposal {
            *secret = proposed;
        }
        Ok(*secret)
    }
}

#[tokio::test]
async fn the_suite_detects_wrong_shared_secrets() {
    const FIRST: &str = "the_first_proposal_of_a_secret_stays";
    let cases = [
        (Fault::TakesTheLastProposal, FIRST),
        (Fault::KeepsOneForAllNames, FIRST),
        (Fault::FoldsTheCaseOfNames, FIRST),
        (Fault::TruncatesNames, FIRST),
        (Fault::KeepsText, FIRST),
        (Fault::ChangesAKey, FIRST),
        (
            Fault::AnswersWithItsOwnInARace,
            "racing_proposals_of_a_secret_agree",
        ),
        (Fault::ForgetsAtARestart, "shared_secrets_survive_a_restart"),
    ];
    ensure_detected(Fault::None, &cases, Wrong::new).await;
}
