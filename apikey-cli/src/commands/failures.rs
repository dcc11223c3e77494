//! Failures of a change of many keys.

use std::collections::HashMap;

use apikey_runtime::KeyId;

use crate::failure::Failure;
use crate::text::counted;

/// How many ids of further keys are named.
const NAMED: usize = 3;

/// The failures of a command. Those that differ in the id of the key alone are told once.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    kinds: Vec<FailureKind>,
    /// The place of each kind, by its text without an id.
    places: HashMap<String, usize>,
}

#[derive(Debug)]
struct FailureKind {
    first: Failure,
    /// The first ids of further keys.
    others: Vec<KeyId>,
    /// How many further keys there are.
    count: u64,
}

impl Failures {
    /// Adds the failure of a key.
    pub(crate) fn add(&mut self, id: KeyId, failure: Failure) {
        let text = failure.text_without(id.as_str());
        let place = *self.places.entry(text).or_insert(self.kinds.len());
        match self.kinds.get_mut(place) {
            None => self.add_other(failure),
            Some(kind) => {
                kind.count += 1;
                if kind.others.len() < NAMED {
                    kind.others.push(id);
                }
            }
        }
    }

    /// Adds a failure that is not of one key.
    pub(crate) fn add_other(&mut self, failure: Failure) {
        self.kinds.push(FailureKind {
            first: failure,
            others: Vec::new(),
            count: 0,
        });
    }

    /// Returns the first failure, and reports the others.
    pub(crate) fn first(self) -> Result<(), Failure> {
        let mut kinds = self.kinds.into_iter().map(FailureKind::told);
        let first = kinds.next();
        for other in kinds {
            other.report();
        }
        first.map_or(Ok(()), Err)
    }
}

impl FailureKind {
    fn told(self) -> Failure {
        if self.count == 0 {
            return self.first;
        }
        let mut ids: Vec<_> = self.others.iter().map(|id| format!("`{id}`")).collect();
        if self.count > NAMED as u64 {
            ids.push("..".to_owned());
        }
        let keys = counted(self.count, "other key");
        self.first.and_also(format!("{keys}: {}", ids.join(", ")))
    }
}
