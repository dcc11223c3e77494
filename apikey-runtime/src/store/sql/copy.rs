//! Sections of a copy as rows.

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{KeyRow, id};
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::limit::CounterState;
use crate::store::copy_rules::{another_position, cursor, position};
use crate::store::shared_secret_store::secret_of;
use crate::store::{
    CopiedCounter, CopiedSecret, CopyItems, CopyPage, NetworkUse, Outcome, SecretUse, UsageRow,
};

/// A value of a position.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(in crate::store) enum SqlValue {
    Text(String),
    Number(i64),
}

/// The type of a column of a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum SqlKind {
    Text,
    Number,
}

/// An item that is a row.
pub(in crate::store) trait CopiedRow: Sized + PartialEq {
    /// The columns by which the section is sorted, and which identify an item.
    const POSITION: &'static [(&'static str, SqlKind)];

    /// Reads a row; `None` if it cannot be read.
    fn of_row(row: &impl KeyRow) -> Option<Self>;

    /// Returns the values of the columns as the statements take them, those of the position first.
    fn values(&self) -> Vec<Value>;

    /// Puts rows into their section.
    fn items(rows: Vec<Self>) -> CopyItems;

    /// Returns the values of the position as a text.
    fn identity(&self) -> String {
        let mut values = self.values();
        values.truncate(Self::POSITION.len());
        Value::from(values).to_string()
    }
}

/// Returns the values that follow `$1` in a statement that reads a section.
pub(in crate::store) fn copy_start<T: CopiedRow>(
    after: Option<&str>,
) -> Result<Vec<SqlValue>, StoreError> {
    let Some(after) = position::<Vec<SqlValue>>(after)? else {
        let first = |(_, kind): &(&str, SqlKind)| match kind {
            SqlKind::Text => SqlValue::Text(String::new()),
            SqlKind::Number => SqlValue::Number(i64::MIN),
        };
        return Ok(T::POSITION.iter().map(first).collect());
    };
    let is_of_kind = |(value, (_, kind)): (&SqlValue, &(&str, SqlKind))| match value {
        SqlValue::Text(_) => *kind == SqlKind::Text,
        SqlValue::Number(_) => *kind == SqlKind::Number,
    };
    if after.len() == T::POSITION.len() && after.iter().zip(T::POSITION).all(is_of_kind) {
        return Ok(after);
    }
    Err(another_position())
}

/// Reads a page of `size` items from `rows`, which have one more if others follow.
///
/// # Errors
///
/// Returns [`StoreError::Corrupt`] if the next page cannot be found, since no row of this one has a valid position.
pub(in crate::store) fn copy_page<T: CopiedRow>(
    rows: &[impl KeyRow],
    size: usize,
) -> Result<CopyPage, StoreError> {
    let (mut items, mut unreadable, mut last) = (Vec::new(), Vec::new(), None);
    for row in rows.iter().take(size) {
        let position = row_position::<T>(row);
        if position.is_some() && position == last {
            // Two tables have it. The later one came first.
            continue;
        }
        match T::of_row(row) {
            Some(item) if row.flag("is_kept").unwrap_or_default() => items.push(item),
            Some(_) => {}
            None => unreadable.push(row_name::<T>(row)),
        }
        last = position.or(last);
    }
    let next = last.filter(|_| rows.len() > size);
    if next.is_none() && rows.len() > size {
        return Err(StoreError::Corrupt {
            id: unreadable.first().cloned().unwrap_or_default(),
            reason: "no row of this page has a text in each column by which it is sorted; correct them by hand"
                .to_owned(),
        });
    }
    let mut page = CopyPage::new(T::items(items), next.as_ref().map(cursor));
    page.unreadable = unreadable;
    Ok(page)
}

fn row_position<T: CopiedRow>(row: &impl KeyRow) -> Option<Vec<SqlValue>> {
    let value = |(name, kind): &(&str, SqlKind)| match kind {
        SqlKind::Text => Some(SqlValue::Text(row.text(name).ok()??.to_owned())),
        SqlKind::Number => Some(SqlValue::Number(row.number(name).ok()??)),
    };
    T::POSITION.iter().map(value).collect()
}

/// Returns the name of a row that cannot be read. It does not have other columns than those of the position.
fn row_name<T: CopiedRow>(row: &impl KeyRow) -> String {
    let part = |(name, kind): &(&str, SqlKind)| match kind {
        SqlKind::Text => String::from_utf8_lossy(row.bytes(name).unwrap_or_default()).into_owned(),
        SqlKind::Number => row
            .number(name)
            .ok()
            .flatten()
            .unwrap_or_default()
            .to_string(),
    };
    T::POSITION.iter().map(part).collect::<Vec<_>>().join(" ")
}

/// Returns the rows of `items` as the statements take them.
pub(in crate::store) fn copy_rows<'i, T: CopiedRow + 'i>(
    items: impl IntoIterator<Item = &'i T>,
) -> String {
    let rows = items.into_iter().map(T::values);
    Value::from_iter(rows).to_string()
}

/// Reads the rows that are there already. One that cannot be read is replaced.
pub(in crate::store) fn present_rows<T: CopiedRow>(rows: &[impl KeyRow]) -> Vec<T> {
    rows.iter().filter_map(T::of_row).collect()
}

fn number(row: &impl KeyRow, name: &str) -> Option<i64> {
    row.number(name).ok().flatten()
}

/// Reads a number that is never negative.
fn count(row: &impl KeyRow, name: &str) -> Option<u64> {
    u64::try_from(number(row, name)?).ok()
}

fn time(row: &impl KeyRow, name: &str) -> Option<Timestamp> {
    number(row, name).map(Timestamp::from_millis)
}

fn text<'r>(row: &'r impl KeyRow, name: &str) -> Option<&'r str> {
    row.text(name).ok().flatten()
}

/// The largest number that the databases have stands for all that are larger.
fn saturated(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl CopiedRow for CopiedSecret {
    const POSITION: &'static [(&'static str, SqlKind)] = &[("name", SqlKind::Text)];

    fn of_row(row: &impl KeyRow) -> Option<Self> {
        let name = text(row, "name")?;
        let secret = secret_of(name, row.bytes("secret")?).ok()?;
        Some(Self::new(name, secret))
    }

    /// Without the secret, which statements take as bytes.
    fn values(&self) -> Vec<Value> {
        vec![self.name.as_str().into()]
    }

    fn items(rows: Vec<Self>) -> CopyItems {
        CopyItems::SharedSecrets(rows)
    }
}

impl CopiedRow for CopiedCounter {
    const POSITION: &'static [(&'static str, SqlKind)] =
        &[("key", SqlKind::Text), ("name", SqlKind::Text)];

    /// `parts` is a JSON object.
    fn of_row(row: &impl KeyRow) -> Option<Self> {
        let mut state = CounterState {
            tat: number(row, "tat")?,
            period: number(row, "period")?,
            used: count(row, "used")?,
            ..CounterState::default()
        };
        state.parts = serde_json::from_str(text(row, "parts")?).ok()?;
        let copied = Self::new(id(row)?, text(row, "name")?, state);
        copied.state.is_in_range().then_some(copied)
    }

    fn values(&self) -> Vec<Value> {
        let state = &self.state;
        let parts = state.parts.iter();
        let parts: BTreeMap<_, _> = parts.map(|(part, used)| (part, saturated(*used))).collect();
        vec![
            self.key.as_str().into(),
            self.name.as_str().into(),
            state.tat.into(),
            state.period.into(),
            saturated(state.used).into(),
            serde_json::to_value(parts).unwrap_or_default(),
        ]
    }

    fn items(rows: Vec<Self>) -> CopyItems {
        let is_used = |copied: &Self| copied.state != CounterState::default();
        CopyItems::LimitCounters(rows.into_iter().filter(is_used).collect())
    }
}

impl CopiedRow for UsageRow {
    const POSITION: &'static [(&'static str, SqlKind)] = &[
        ("key", SqlKind::Text),
        ("hour", SqlKind::Number),
        ("route", SqlKind::Text),
        ("outcome", SqlKind::Text),
    ];

    fn of_row(row: &impl KeyRow) -> Option<Self> {
        let outcome = Outcome::from_code(text(row, "outcome")?)?;
        let mut usage = Self::new(id(row)?, text(row, "route")?, number(row, "hour")?, outcome);
        usage.requests = count(row, "requests")?;
        usage.cost = count(row, "cost")?;
        Some(usage)
    }

    fn values(&self) -> Vec<Value> {
        vec![
            self.key.as_str().into(),
            self.hour.into(),
            self.route.as_str().into(),
            self.outcome.code().into(),
            saturated(self.requests).into(),
            saturated(self.cost).into(),
        ]
    }

    fn items(rows: Vec<Self>) -> CopyItems {
        CopyItems::Usage(rows)
    }
}

impl CopiedRow for SecretUse {
    const POSITION: &'static [(&'static str, SqlKind)] =
        &[("key", SqlKind::Text), ("rotations", SqlKind::Number)];

    fn of_row(row: &impl KeyRow) -> Option<Self> {
        let network = text(row, "network").and_then(|network| network.parse().ok());
        Some(Self::new(
            id(row)?,
            count(row, "rotations")?,
            time(row, "at")?,
            network,
        ))
    }

    fn values(&self) -> Vec<Value> {
        vec![
            self.key.as_str().into(),
            saturated(self.rotations).into(),
            self.at.as_millis().into(),
            self.network.map(|network| network.to_string()).into(),
        ]
    }

    fn items(rows: Vec<Self>) -> CopyItems {
        CopyItems::SecretUses(rows)
    }
}

impl CopiedRow for NetworkUse {
    const POSITION: &'static [(&'static str, SqlKind)] =
        &[("key", SqlKind::Text), ("network", SqlKind::Text)];

    fn of_row(row: &impl KeyRow) -> Option<Self> {
        let network: IpNet = text(row, "network")?.parse().ok()?;
        Some(Self::new(id(row)?, network, time(row, "at")?))
    }

    fn values(&self) -> Vec<Value> {
        const DAY_MILLIS: i64 = 86_400_000;
        let at = self.at.as_millis();
        vec![
            self.key.as_str().into(),
            self.network.to_string().into(),
            at.into(),
            at.div_euclid(DAY_MILLIS).into(),
        ]
    }

    fn items(rows: Vec<Self>) -> CopyItems {
        CopyItems::Networks(rows)
    }
}
