//! A value, and its text in each format.

use apikey_runtime::Timestamp;
use serde_json::Value;

use crate::text::escaped;

/// A value of a row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell {
    Absent,
    Text(String),
    Number(u64),
    Flag(bool),
    Time(Timestamp),
    /// A time whose seconds matter.
    Second(Timestamp),
    /// Texts without blanks, such as scopes.
    List(Vec<String>),
    /// Anything else.
    Json(Value),
}

impl Cell {
    /// Returns the value in JSON.
    pub(super) fn json(&self) -> Value {
        match self {
            Self::Absent => Value::Null,
            Self::Text(text) => text.as_str().into(),
            Self::Number(number) => (*number).into(),
            Self::Flag(flag) => (*flag).into(),
            Self::Time(time) | Self::Second(time) => time.to_string().into(),
            Self::List(list) => list.clone().into(),
            Self::Json(value) => value.clone(),
        }
    }

    /// Returns the exact text. A list is separated by blanks.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Absent => String::new(),
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
            Self::Flag(flag) => flag.to_string(),
            Self::Time(time) | Self::Second(time) => time.to_string(),
            Self::List(list) => list.join(" "),
            Self::Json(value) => value.to_string(),
        }
    }

    /// Returns the text for a table: times without fractions of a minute or a second, `-` for what is absent or empty, and nothing
    /// that a terminal obeys.
    pub(super) fn shown(&self) -> String {
        let text = match self {
            Self::Time(time) => short(time, 16),
            Self::Second(time) => short(time, 19),
            Self::Flag(true) => "yes".to_owned(),
            Self::Flag(false) => "no".to_owned(),
            other => other.text(),
        };
        match text.is_empty() {
            true => "-".to_owned(),
            false => escaped(&text),
        }
    }
}

/// Returns the first letters of a time, with a blank between the date and the rest.
fn short(time: &Timestamp, length: usize) -> String {
    let text = time.to_string();
    match (text.get(..10), text.get(11..length)) {
        (Some(date), Some(rest)) if text.len() == 24 => format!("{date} {rest}Z"),
        _ => text,
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<u64> for Cell {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<bool> for Cell {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<Timestamp> for Cell {
    fn from(time: Timestamp) -> Self {
        Self::Time(time)
    }
}

impl From<Vec<String>> for Cell {
    fn from(list: Vec<String>) -> Self {
        Self::List(list)
    }
}

impl From<Value> for Cell {
    fn from(value: Value) -> Self {
        Self::Json(value)
    }
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Absent, Into::into)
    }
}
