//! The routes that usage is counted by: each label is built when it is first seen, and known by its
//! hash from then on.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use foldhash::fast::RandomState;
use parking_lot::Mutex;

/// The longest label, in bytes; the rest of a longer one is cut off.
pub(crate) const LONGEST: usize = 200;

/// Labels that are told apart; whatever comes beyond them counts as [`REST`].
const MOST: usize = 1_000;

/// The label of a check that no request asked for.
pub(crate) const NO_ROUTE: &str = "-";

/// The label of all routes that are not told apart.
pub(crate) const REST: &str = "*";

/// Writes a label piece by piece, the same pieces each time.
pub(crate) trait WriteLabel: Fn(&mut dyn FnMut(&str)) {}

impl<W: Fn(&mut dyn FnMut(&str))> WriteLabel for W {}

/// The labels that were seen.
///
/// A hash stands for its label with nothing to compare: there are a thousand of them at most, which
/// the application itself wrote, and two of 64 bits agree once in 10^13 processes.
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

    /// The hash of a label that is not built.
    pub(crate) fn hash(&self, write: &impl WriteLabel) -> u64 {
        hash(&self.state, write)
    }

    /// The label of this hash, and the hash under which it counts: another where there are too many
    /// to tell apart.
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

    /// The label of all others.
    pub(crate) fn rest(&self) -> (u64, Arc<str>) {
        (self.rest_hash, Arc::clone(&self.rest))
    }
}

fn hash(state: &RandomState, write: &impl WriteLabel) -> u64 {
    let mut hasher = state.build_hasher();
    write(&mut |piece| hasher.write(piece.as_bytes()));
    hasher.finish()
}

/// Without control characters, which forge lines and which not every store takes.
fn build(write: &impl WriteLabel) -> Arc<str> {
    let mut label = String::new();
    write(&mut |piece| label.extend(piece.chars().filter(|one| !one.is_control())));
    label.truncate(label.floor_char_boundary(LONGEST));
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
        // Where only the hash is left of it.
        let nothing = |_: &mut dyn FnMut(&str)| {};
        assert_eq!(&*labels.of(labels.rest_hash, &nothing).1, REST);
        assert_eq!(labels.seen.lock().len(), MOST);
    }
}
