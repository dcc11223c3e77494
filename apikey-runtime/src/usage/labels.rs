//! The route labels of usage: each label is built when it is first seen, and identified by its hash
//! from then on.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use foldhash::fast::RandomState;
use parking_lot::Mutex;

/// The maximum length of a label in bytes; a longer one is truncated.
pub(crate) const MAX_BYTES: usize = 200;

/// The maximum number of distinct labels; further labels count as [`REST`].
const MOST: usize = 1_000;

/// The label of a check without a request.
pub(crate) const NO_ROUTE: &str = "-";

/// The label that stands for all routes beyond the limit.
pub(crate) const REST: &str = "*";

/// Writes a label piece by piece, the same pieces each time.
pub(crate) trait WriteLabel: Fn(&mut dyn FnMut(&str)) {}

impl<W: Fn(&mut dyn FnMut(&str))> WriteLabel for W {}

/// The labels seen so far.
///
/// A hash identifies its label without a comparison. There are at most a thousand labels, which the
/// application itself wrote, and two of their 64-bit hashes collide in one of 10^13 processes.
#[derive(Debug)]
pub(crate) struct Labels {
    state: RandomState,
    seen: Mutex<HashMap<u64, Arc<str>>>,
    rest: Arc<str>,
    rest_hash: u64,
}

impl Labels {
    pub(crate) fn new() -> Self {
        let state = RandomState::default();
        let rest_hash = hash(&state, &|write: &mut dyn FnMut(&str)| write(REST));
        Self {
            state,
            seen: Mutex::default(),
            rest: Arc::from(REST),
            rest_hash,
        }
    }

    /// Returns the hash of a label without building it.
    pub(crate) fn hash(&self, write: &impl WriteLabel) -> u64 {
        hash(&self.state, write)
    }

    /// Returns the label of `hash`, and the hash under which it counts. These are [`REST`] and its
    /// hash if there are too many labels.
    pub(crate) fn of(&self, hash: u64, write: &impl WriteLabel) -> (u64, Arc<str>) {
        if hash == self.rest_hash {
            return self.rest();
        }
        let mut seen = self.seen.lock();
        if let Some(label) = seen.get(&hash) {
            return (hash, Arc::clone(label));
        }
        if seen.len() >= MOST {
            return self.rest();
        }
        let label = build(write);
        seen.insert(hash, Arc::clone(&label));
        (hash, label)
    }

    /// Returns the label and hash for all routes beyond the limit.
    pub(crate) fn rest(&self) -> (u64, Arc<str>) {
        (self.rest_hash, Arc::clone(&self.rest))
    }
}

fn hash(state: &RandomState, write: &impl WriteLabel) -> u64 {
    let mut hasher = state.build_hasher();
    write(&mut |piece| hasher.write(piece.as_bytes()));
    hasher.finish()
}

/// Builds a label without control characters, which forge log lines and which not every store
/// accepts.
fn build(write: &impl WriteLabel) -> Arc<str> {
    let mut label = String::new();
    write(&mut |piece| label.extend(piece.chars().filter(|one| !one.is_control())));
    label.truncate(label.floor_char_boundary(MAX_BYTES));
    match label.as_str() {
        "" => Arc::from(NO_ROUTE),
        label => Arc::from(label),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(labels: &Labels, pieces: &[&str]) -> (u64, String) {
        let write = |write: &mut dyn FnMut(&str)| pieces.iter().for_each(|piece| write(piece));
        let (hash, label) = labels.of(labels.hash(&write), &write);
        (hash, label.to_string())
    }

    #[test]
    fn a_label_is_what_was_written_and_known_by_its_hash() {
        let labels = Labels::new();
        let first = label(&labels, &["/orders/", "{", "id", "}"]);
        assert_eq!(first.1, "/orders/{id}");
        assert_eq!(label(&labels, &["/orders/", "{", "id", "}"]), first);
        assert_ne!(label(&labels, &["/orders"]).0, first.0);
        assert_eq!(label(&labels, &[]).1, NO_ROUTE);
    }

    #[test]
    fn a_label_is_cut_between_characters_and_holds_no_control_characters() {
        let labels = Labels::new();
        let (_, long) = label(&labels, &["/", &"ü".repeat(400), "end"]);
        assert_eq!(long, format!("/{}", "ü".repeat(99)));
        assert_eq!(label(&labels, &["/a\nb\0", "\u{85}c"]).1, "/abc");
    }

    #[test]
    fn labels_beyond_the_last_count_as_one() {
        let labels = Labels::new();
        for number in 0..MOST {
            let name = format!("/{number}");
            assert_eq!(label(&labels, &[&name]).1, name);
        }
        for number in MOST..MOST * 3 {
            let one = label(&labels, &[&format!("/{number}")]);
            assert_eq!(one, (labels.rest_hash, REST.to_owned()));
        }
        assert_eq!(label(&labels, &["/7"]).1, "/7");
        // If only its hash is left.
        let nothing = |_: &mut dyn FnMut(&str)| {};
        assert_eq!(&*labels.of(labels.rest_hash, &nothing).1, REST);
        assert_eq!(labels.seen.lock().len(), MOST);
    }
}
