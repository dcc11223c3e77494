//! The suite detects stores whose lists are incorrect: each of these breaks one rule, and fails the check
//! of that rule.

use std::cmp::Ordering;

use apikey_runtime::store::{
    ListCursor, ListQuery, ListRange, RecordPage, SortValue, StoreError, fold_label,
};
use apikey_runtime::{KeyRecord, KeyStore, MemoryStore};
use apikey_test_support::store::Forward;

use crate::wrong_checks::ensure_detected;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Fault {
    #[default]
    None,
    SortsTiesTheOtherWay,
    SkipsTies,
    ComparesTimesAsTexts,
    ForgetsTheStart,
    FoldsAsciiOnly,
    FoldsTheWholeLabel,
    FoldsTheBeginning,
    TakesLabelsForPatterns,
    TakesIdsForPatterns,
    FoldsTheCaseOfIds,
    PadsIds,
    ExpiresWithTheEnd,
    ExpiresWithoutTheBeginning,
    SortsEndlessKeysLast,
    LooksForTheRecordOfTheCursor,
    HasPagesOfAnySize,
    EndsAfterAFullPage,
}

#[derive(Debug, Default)]
struct Wrong {
    right: MemoryStore,
    fault: Fault,
}

/// Matches a pattern of LIKE.
fn is_like(text: &[char], pattern: &[char]) -> bool {
    match pattern {
        [] => text.is_empty(),
        ['%', rest @ ..] => (0..=text.len()).any(|skipped| is_like(&text[skipped..], rest)),
        ['_', rest @ ..] => !text.is_empty() && is_like(&text[1..], rest),
        [first, rest @ ..] => text.first() == Some(first) && is_like(&text[1..], rest),
    }
}

fn begins_like(text: &str, beginning: &str) -> bool {
    let pattern: Vec<char> = beginning.chars().chain(['%']).collect();
    is_like(&text.chars().collect::<Vec<_>>(), &pattern)
}

impl Wrong {
    fn new(fault: Fault) -> Self {
        Self {
            fault,
            ..Self::default()
        }
    }

    fn label(&self, record: &KeyRecord) -> String {
        match self.fault {
            Fault::FoldsAsciiOnly => {
                let folded = record.label.to_ascii_lowercase();
                folded.chars().take(64).collect()
            }
            Fault::FoldsTheWholeLabel => {
                record.label.chars().flat_map(char::to_lowercase).collect()
            }
            _ => fold_label(&record.label),
        }
    }

    fn contains(&self, range: &ListRange, record: &KeyRecord) -> bool {
        let id = record.id.as_str();
        match (self.fault, range) {
            (Fault::TakesLabelsForPatterns, ListRange::Label(beginning)) => {
                begins_like(&self.label(record), beginning)
            }
            (Fault::FoldsTheBeginning, ListRange::Label(beginning)) => {
                self.label(record).starts_with(&fold_label(beginning))
            }
            (_, ListRange::Label(beginning)) => self.label(record).starts_with(beginning),
            (Fault::TakesIdsForPatterns, ListRange::Id(beginning)) => begins_like(id, beginning),
            (Fault::FoldsTheCaseOfIds, ListRange::Id(beginning)) => {
                id.to_lowercase().starts_with(&beginning.to_lowercase())
            }
            // Takes those from the beginning on, if it is short, and all if it is not a beginning of an id.
            (Fault::PadsIds, ListRange::Id(beginning)) => {
                id.starts_with(beginning.get(..22).unwrap_or(beginning))
            }
            (Fault::ExpiresWithTheEnd, ListRange::Expires { from, to }) => {
                record.expires.is_some_and(|end| *from <= end && end <= *to)
            }
            (Fault::ExpiresWithoutTheBeginning, ListRange::Expires { from, to }) => {
                record.expires.is_some_and(|end| *from < end && end < *to)
            }
            (Fault::SortsEndlessKeysLast, ListRange::Expires { from, to }) => {
                record.expires.is_none_or(|end| *from <= end && end < *to)
            }
            _ => range.contains(record),
        }
    }

    fn cursor_of(&self, range: &ListRange, record: &KeyRecord) -> ListCursor {
        match range {
            ListRange::Label(_) => ListCursor::new(SortValue::Label(self.label(record)), record.id),
            _ => range.cursor_of(record),
        }
    }

    fn compare(&self, range: &ListRange, one: &ListCursor, other: &ListCursor) -> Ordering {
        let text = |cursor: &ListCursor| match &cursor.sort {
            SortValue::Time(time) => time.as_millis().to_string(),
            _ => String::new(),
        };
        let right = range.compare(one, other);
        match (self.fault, range) {
            (Fault::SortsTiesTheOtherWay, ListRange::Id(_)) => right,
            (Fault::SortsTiesTheOtherWay, _) if one.sort == other.sort => right.reverse(),
            (Fault::SkipsTies, _) if one.sort == other.sort && one.sort != SortValue::None => {
                Ordering::Equal
            }
            (Fault::ComparesTimesAsTexts, ListRange::Expires { .. }) => {
                (text(one), one.id).cmp(&(text(other), other.id))
            }
            _ => right,
        }
    }
}

impl Forward for Wrong {
    fn inner(&self) -> &dyn KeyStore {
        &self.right
    }

    async fn list(&self, query: &ListQuery) -> Result<RecordPage, StoreError> {
        let (range, mut records) = (&query.range, Vec::new());
        let mut all = ListQuery::first(1_000);
        loop {
            let page = self.right.list(&all).await?;
            records.extend(page.records);
            all = all.after(page.next);
            if all.after.is_none() {
                break;
            }
        }
        let mut after = query.after.clone();
        if self.fault == Fault::LooksForTheRecordOfTheCursor {
            // As a subquery for the values of the record does, and from the start if it is gone.
            let record = records
                .iter()
                .find(|record| Some(record.id) == after.as_ref().map(|after| after.id));
            after = record.map(|record| range.cursor_of(record));
        }
        let forgets = self.fault == Fault::ForgetsTheStart && after.is_some();
        records.retain(|record| match range {
            ListRange::Expires { to, .. } if forgets => record.expires.is_some_and(|end| end < *to),
            _ => self.contains(range, record),
        });
        records.sort_by(|one, other| {
            let cursors = [one, other].map(|record| self.cursor_of(range, record));
            self.compare(range, &cursors[0], &cursors[1])
        });
        records.retain(|record| {
            let cursor = self.cursor_of(range, record);
            let follows = |after: &ListCursor| self.compare(range, after, &cursor).is_lt();
            after.as_ref().is_none_or(follows)
        });
        let limit = match self.fault {
            Fault::HasPagesOfAnySize => query.limit.max(1),
            _ => query.limit.clamp(1, 1_000),
        } as usize;
        let more = records.len() > limit;
        records.truncate(limit);
        let last = records
            .last()
            .filter(|_| more && self.fault != Fault::EndsAfterAFullPage);
        let next = last.map(|last| self.cursor_of(range, last));
        Ok(RecordPage::new(records, Vec::new(), next))
    }
}

#[tokio::test]
async fn each_fault_of_a_list_fails_the_check_of_its_rule() {
    const ORDER: &str = "each_range_lists_its_records_in_order";
    const LABELS: &str = "labels_are_found_by_their_folded_beginning";
    const IDS: &str = "ids_are_found_by_their_beginning";
    const EXPIRIES: &str = "expiries_are_found_up_to_their_end";
    let cases = [
        (Fault::SortsTiesTheOtherWay, ORDER),
        (Fault::SkipsTies, ORDER),
        (Fault::ComparesTimesAsTexts, ORDER),
        (Fault::ForgetsTheStart, ORDER),
        (Fault::FoldsAsciiOnly, LABELS),
        (Fault::FoldsTheWholeLabel, LABELS),
        (Fault::FoldsTheBeginning, LABELS),
        (Fault::TakesLabelsForPatterns, LABELS),
        (Fault::TakesIdsForPatterns, IDS),
        (Fault::FoldsTheCaseOfIds, IDS),
        (Fault::PadsIds, IDS),
        (Fault::ExpiresWithTheEnd, EXPIRIES),
        (Fault::ExpiresWithoutTheBeginning, EXPIRIES),
        (Fault::SortsEndlessKeysLast, EXPIRIES),
        (
            Fault::LooksForTheRecordOfTheCursor,
            "a_cursor_stays_valid_if_records_change",
        ),
        (Fault::HasPagesOfAnySize, "a_page_has_1000_records_at_most"),
        (Fault::EndsAfterAFullPage, "a_page_has_1000_records_at_most"),
    ];
    ensure_detected(Fault::None, &cases, Wrong::new).await;
}
