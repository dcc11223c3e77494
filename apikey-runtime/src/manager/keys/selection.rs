//! Which keys a list selects: by one index of the store, and by filters.

use crate::clock::Timestamp;
use crate::error::Error;
use crate::record::{KeyRecord, KeyState};
use crate::store::{ListCursor, ListRange, SortValue, fold_label};

/// The length from which the beginning of an id selects fewer keys than an owner or a label usually
/// does: one in 62 to the power of this.
const SELECTIVE_ID_LEN: usize = 3;

/// The filters of a list. A key must match all that are set.
#[derive(Debug, Clone, Default)]
pub(super) struct KeySelection {
    pub(super) owner: Option<String>,
    pub(super) label: Option<String>,
    pub(super) label_prefix: Option<String>,
    pub(super) id_prefix: Option<String>,
    /// The beginning and the end.
    pub(super) expires: Option<(Timestamp, Timestamp)>,
    pub(super) state: Option<KeyState>,
    pub(super) unused_since: Option<Timestamp>,
}

impl KeySelection {
    /// Returns the range of the filter that probably selects the fewest keys.
    ///
    /// # Errors
    ///
    /// Returns [`Error::InvalidArgument`] if the end of a span is not after its beginning.
    pub(super) fn range(&self) -> Result<ListRange, Error> {
        let span = match self.expires {
            Some((from, to)) if from >= to => {
                return Err(Error::InvalidArgument(format!(
                    "keys are listed by an expiry from {from} up to {to}, which is not later; write the times in their \
                     order, as in `expires_between(from, to)`"
                )));
            }
            span => span,
        };
        let id = self.id_prefix.as_ref().filter(|id| !id.is_empty());
        let labels = self.label.iter().chain(&self.label_prefix);
        let labels = labels.filter(|label| !label.is_empty());
        // The longer of two texts selects fewer labels.
        let label = labels
            .map(|label| fold_label(label))
            .max_by_key(String::len);
        Ok(
            if let Some(id) = id.filter(|id| id.len() >= SELECTIVE_ID_LEN) {
                ListRange::Id(id.clone())
            } else if let Some(owner) = &self.owner {
                ListRange::Owner(owner.clone())
            } else if let Some(label) = label {
                ListRange::Label(label)
            } else if let Some((from, to)) = span {
                ListRange::Expires { from, to }
            } else if let Some(id) = id {
                ListRange::Id(id.clone())
            } else {
                ListRange::All
            },
        )
    }

    /// Rejects a cursor that a list with another range returned, as far as it can be told.
    pub(super) fn check_cursor(
        &self,
        range: &ListRange,
        cursor: Option<&ListCursor>,
    ) -> Result<(), Error> {
        let is_within = cursor.is_none_or(|cursor| match (range, &cursor.sort) {
            (ListRange::Label(beginning), SortValue::Label(label)) => label.starts_with(beginning),
            (ListRange::Id(beginning), _) => cursor.id.as_str().starts_with(beginning),
            (ListRange::Expires { from, to }, SortValue::Time(end)) => from <= end && end < to,
            _ => true,
        });
        match cursor {
            Some(cursor) if !is_within || !range.fits(cursor) => {
                Err(Error::InvalidArgument(format!(
                    "the cursor `{cursor}` is of a list with other filters; read each page with the filters of the first, \
                 or start again without a cursor"
                )))
            }
            _ => Ok(()),
        }
    }

    /// Returns whether the range has keys that a filter may exclude.
    pub(super) fn filters(&self, range: &ListRange) -> bool {
        let covered = match range {
            ListRange::Id(_) => self.id_prefix.is_some(),
            ListRange::Owner(_) => self.owner.is_some(),
            ListRange::Label(beginning) => {
                let wanted = self.label_prefix.as_ref().filter(|_| self.label.is_none());
                wanted.is_some_and(|wanted| fold_label(wanted) == *beginning)
            }
            ListRange::Expires { .. } => self.expires.is_some(),
            ListRange::All => false,
        };
        let set = [
            self.owner.is_some(),
            self.label.is_some(),
            self.label_prefix.is_some(),
            self.id_prefix.is_some(),
            self.expires.is_some(),
            self.state.is_some(),
            self.unused_since.is_some(),
        ];
        set.into_iter().map(usize::from).sum::<usize>() > usize::from(covered)
    }

    /// Returns whether a record matches, except for its usage, and thus its state.
    pub(super) fn matches(&self, record: &KeyRecord, now: Timestamp) -> bool {
        fn is<T: PartialEq>(wanted: Option<&T>, found: Option<&T>) -> bool {
            wanted.is_none_or(|wanted| Some(wanted) == found)
        }
        is(self.owner.as_ref(), record.owner.as_ref())
            && is(self.label.as_ref(), Some(&record.label))
            && self.label_prefix.as_ref().is_none_or(|beginning| {
                // The index has the first characters alone.
                lower_case(&record.label).starts_with(&lower_case(beginning))
            })
            && self
                .id_prefix
                .as_ref()
                .is_none_or(|beginning| record.id.as_str().starts_with(beginning))
            && self
                .expires
                .is_none_or(|(from, to)| record.expires.is_some_and(|end| from <= end && end < to))
            && self
                .state
                .is_none_or(|wanted| may_be(record.state_at(now), wanted))
            && self.unused_since.is_none_or(|time| record.created < time)
    }

    /// Returns whether a position of the range, and thus all that follow, is of another label than the one
    /// that is wanted, in whatever encoding the store compares texts.
    pub(super) fn ends_before(&self, range: &ListRange, position: &ListCursor) -> bool {
        match (range, &position.sort, &self.label) {
            (ListRange::Label(_), SortValue::Label(found), Some(label)) => {
                is_after(found, &fold_label(label))
            }
            _ => false,
        }
    }
}

/// Returns whether a record in the state `found` may be of a key in the state `wanted`.
fn may_be(found: KeyState, wanted: KeyState) -> bool {
    found == wanted || (found == KeyState::Active && wanted == KeyState::Idle)
}

/// Returns whether a text is after another one in the order of bytes in UTF-8 and in both kinds of UTF-16.
fn is_after(text: &str, other: &str) -> bool {
    let swapped = |text: &str| -> Vec<u16> { text.encode_utf16().map(u16::swap_bytes).collect() };
    text > other && text.encode_utf16().gt(other.encode_utf16()) && swapped(text) > swapped(other)
}

/// Returns a text in small letters, letter by letter, as [`fold_label`] does.
fn lower_case(text: &str) -> String {
    text.chars().flat_map(char::to_lowercase).collect()
}
