//! Lists of records, page by page.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use crate::clock::Timestamp;
use crate::error::Error;
use crate::key::KeyId;
use crate::record::KeyRecord;

/// The maximum number of records in a page.
pub(crate) const MAX_PAGE_SIZE: u32 = 1_000;

/// The number of characters of a label by which keys are found and sorted.
const LABEL_CHARS: usize = 64;

/// The records to list.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListQuery {
    /// Which records, and in which order.
    pub range: ListRange,
    /// Where the page starts: after this position. `None` starts at the first record.
    pub after: Option<ListCursor>,
    /// The maximum number of records, clamped to 1 to 1000.
    pub limit: u32,
}

/// A range of records, each of which a store finds by an index. It also sets their order.
///
/// Texts are compared byte by byte, and no character of them has a meaning, such as that of `%` in SQL.
/// A text with which no label or id begins, and a range of times that ends before it begins, have no
/// records.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ListRange {
    /// All records: the newest first, by time of creation and id, both descending.
    All,
    /// The records of this owner, in the order of [`All`](Self::All).
    Owner(String),
    /// The records whose [folded label](fold_label) begins with this text, which is folded already, in the
    /// order of folded labels and ids, byte by byte.
    Label(String),
    /// The records whose id begins with this text, in the order of ids.
    Id(String),
    /// The records that expire from `from` (inclusive) to `to` (exclusive), the earliest first, and
    /// then by id.
    Expires {
        /// The beginning.
        from: Timestamp,
        /// The end.
        to: Timestamp,
    },
}

/// A position in a list: that of a record. It stays valid if the record is changed or removed.
///
/// As a text, it is safe in a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListCursor {
    /// What the range sorts by before the id.
    pub sort: SortValue,
    /// The record's id.
    pub id: KeyId,
}

/// What a [`ListRange`] sorts by before the id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum SortValue {
    /// Nothing: ids alone.
    None,
    /// The time of creation, or the expiry.
    Time(Timestamp),
    /// The folded label.
    Label(String),
}

/// A page of records, in the order of the query's range.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct RecordPage {
    /// The records.
    pub records: Vec<KeyRecord>,
    /// Where the store sorts each of `records`, in their order. Empty if that is [`ListRange::cursor_of`] for all of
    /// them.
    ///
    /// A store that keeps the text by which it sorts labels sets it for [`ListRange::Label`]: the text may be another
    /// than the [folded label](fold_label) if an older release or a statement by hand wrote it. The labels of these
    /// positions begin with the range's text, and may be in another order than that of bytes.
    pub positions: Vec<ListCursor>,
    /// The ids of records that exist and cannot be read.
    pub unreadable: Vec<String>,
    /// The start of the next page, for [`ListQuery::after`]; `None` on the last page.
    pub next: Option<ListCursor>,
}

impl ListQuery {
    /// Creates a query for the first `limit` records of all.
    #[must_use]
    pub fn first(limit: u32) -> Self {
        Self::of(ListRange::All, limit)
    }

    /// Creates a query for the first `limit` records of a range.
    #[must_use]
    pub fn of(range: ListRange, limit: u32) -> Self {
        Self {
            range,
            after: None,
            limit,
        }
    }

    /// Continues after `cursor`. By default, the page starts at the first record.
    #[must_use]
    pub fn after(mut self, cursor: Option<ListCursor>) -> Self {
        self.after = cursor;
        self
    }
}

impl ListRange {
    /// Returns whether the range has `record`.
    #[must_use]
    pub fn contains(&self, record: &KeyRecord) -> bool {
        match self {
            Self::All => true,
            Self::Owner(owner) => record.owner.as_ref() == Some(owner),
            Self::Label(beginning) => fold_label(&record.label).starts_with(beginning),
            Self::Id(beginning) => record.id.as_str().starts_with(beginning),
            Self::Expires { from, to } => {
                record.expires.is_some_and(|end| *from <= end && end < *to)
            }
        }
    }

    /// Returns the position of `record`.
    #[must_use]
    pub fn cursor_of(&self, record: &KeyRecord) -> ListCursor {
        let sort = match self {
            Self::All | Self::Owner(_) => SortValue::Time(record.created),
            Self::Label(_) => SortValue::Label(fold_label(&record.label)),
            Self::Id(_) => SortValue::None,
            Self::Expires { .. } => SortValue::Time(record.expires.unwrap_or(Timestamp::MAX)),
        };
        ListCursor::new(sort, record.id)
    }

    /// Compares two positions in the order of the range.
    #[must_use]
    pub fn compare(&self, one: &ListCursor, other: &ListCursor) -> Ordering {
        let ascending = (&one.sort, one.id).cmp(&(&other.sort, other.id));
        match self {
            Self::All | Self::Owner(_) => ascending.reverse(),
            Self::Label(_) | Self::Id(_) | Self::Expires { .. } => ascending,
        }
    }

    /// Returns whether the cursor is one of a range that sorts as this one does.
    #[must_use]
    pub fn fits(&self, cursor: &ListCursor) -> bool {
        match self {
            Self::All | Self::Owner(_) | Self::Expires { .. } => {
                matches!(cursor.sort, SortValue::Time(_))
            }
            Self::Label(_) => matches!(cursor.sort, SortValue::Label(_)),
            Self::Id(_) => cursor.sort == SortValue::None,
        }
    }
}

/// Returns the text by which keys are found and sorted by label: its first 64 characters in lower case
/// (Unicode's full mapping, without regard to language).
#[must_use]
pub fn fold_label(label: &str) -> String {
    let lower = label.chars().flat_map(char::to_lowercase);
    lower.take(LABEL_CHARS).collect()
}

/// Returns the least text that is greater than each one that begins with `beginning`, compared byte by
/// byte; `None` if such a text does not exist.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(super) fn end_of_prefix(beginning: &str) -> Option<String> {
    let mut end: Vec<char> = beginning.chars().collect();
    while let Some(last) = end.pop() {
        let next = match last {
            '\u{d7ff}' => Some('\u{e000}'),
            other => char::from_u32(u32::from(other) + 1),
        };
        if let Some(next) = next {
            end.push(next);
            return Some(end.into_iter().collect());
        }
    }
    None
}

impl ListCursor {
    /// Creates a position.
    #[must_use]
    pub fn new(sort: SortValue, id: KeyId) -> Self {
        Self { sort, id }
    }
}

/// The position of an id in a range that sorts by ids alone.
impl From<KeyId> for ListCursor {
    fn from(id: KeyId) -> Self {
        Self::new(SortValue::None, id)
    }
}

/// `-`, the time in milliseconds, or `l` with the label's bytes in hexadecimal; then `~` and the id.
impl fmt::Display for ListCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.sort {
            SortValue::None => f.write_str("-")?,
            SortValue::Time(time) => write!(f, "{}", time.as_millis())?,
            SortValue::Label(label) => {
                f.write_str("l")?;
                label.bytes().try_for_each(|byte| write!(f, "{byte:02x}"))?;
            }
        }
        write!(f, "~{}", self.id)
    }
}

impl FromStr for ListCursor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        read_cursor(text).ok_or_else(|| {
            Error::InvalidArgument(
                "the cursor is not one that a page has as `next`; start again without a cursor"
                    .to_owned(),
            )
        })
    }
}

fn read_cursor(text: &str) -> Option<ListCursor> {
    let (sort, id) = text.split_once('~')?;
    let sort = match sort.strip_prefix('l') {
        Some(digits) => SortValue::Label(from_hex(digits)?),
        None if sort == "-" => SortValue::None,
        None => SortValue::Time(Timestamp::from_millis(sort.parse().ok()?)),
    };
    let cursor = ListCursor::new(sort, id.parse().ok()?);
    // A position has one text.
    (cursor.to_string() == text).then_some(cursor)
}

fn from_hex(digits: &str) -> Option<String> {
    let pairs = digits.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = pairs
        .map(|pair| byte(pair).filter(|_| pair.len() == 2))
        .collect();
    String::from_utf8(bytes?).ok()
}

impl RecordPage {
    /// Creates a page of these records, which are where [`ListRange::cursor_of`] says.
    #[must_use]
    pub fn new(records: Vec<KeyRecord>, unreadable: Vec<String>, next: Option<ListCursor>) -> Self {
        Self {
            records,
            positions: Vec::new(),
            unreadable,
            next,
        }
    }
}

/// Returns the maximum number of records for `query`: its limit, clamped to 1 to 1000. An empty
/// page would look like the last.
pub(super) fn page_size(query: &ListQuery) -> usize {
    usize::try_from(query.limit.clamp(1, MAX_PAGE_SIZE)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_from_its_text() {
        let id = KeyId::from_u128(7);
        for sort in [
            SortValue::None,
            SortValue::Time(Timestamp::from_millis(-5)),
            SortValue::Label(String::new()),
            SortValue::Label("zo\u{eb} ~ 1".to_owned()),
        ] {
            let cursor = ListCursor::new(sort, id);
            assert_eq!(cursor.to_string().parse::<ListCursor>().unwrap(), cursor);
        }
        for text in [
            "",
            "~",
            "-~",
            "x~0",
            "lf~0000000000000000000007",
            "l+f~0000000000000000000007",
            "l6F~0000000000000000000007",
            "+5~0000000000000000000007",
            "05~0000000000000000000007",
        ] {
            assert!(text.parse::<ListCursor>().is_err(), "{text}");
        }
    }

    #[test]
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    fn the_end_of_a_prefix_is_the_least_text_above_all_with_it() {
        assert_eq!(end_of_prefix("ab"), Some("ac".to_owned()));
        assert_eq!(end_of_prefix("a\u{10ffff}"), Some("b".to_owned()));
        assert_eq!(end_of_prefix("\u{d7ff}"), Some("\u{e000}".to_owned()));
        assert_eq!(end_of_prefix(""), None);
    }
}
