//! Entries as CSV and as JSON Lines.

use serde::Serialize;
use serde_json::{Map, Value};

use super::AuditEntry;
use crate::error::ErrorChain;

/// The names of the columns, in their order.
const HEADER: [&str; 12] = [
    "position",
    "at",
    "action",
    "key",
    "owner",
    "former_owner",
    "actor",
    "channel",
    "address",
    "request_id",
    "reason",
    "fields",
];

/// What a spreadsheet takes for the beginning of a formula; some take the full-width forms too.
const FORMULA_STARTS: [char; 8] = ['=', '+', '-', '@', '＝', '＋', '－', '＠'];

/// How entries are written for [`AuditRequest::export`](crate::manager::AuditRequest::export).
///
/// The columns of CSV are `position`, `at` (RFC 3339), `action`, `key`, `owner`, `former_owner`,
/// `actor`, `channel`, `address`, `request_id`, `reason` and `fields`: a JSON object that has, for each
/// changed field, a list of its value before and after, such as `{"label":["ci","ci 2"]}`. A value that
/// is missing is an empty cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuditFormat {
    /// CSV (RFC 4180) with a header, for programs: each cell is exactly the value.
    Csv,
    /// CSV for spreadsheets, which take some texts for formulas: a cell that begins with `=`, `+`, `-` or
    /// `@`, or a full-width form of them, begins with `'`, even after blanks. So does one that begins with
    /// a control character. Each cell is quoted.
    SpreadsheetCsv,
    /// JSON Lines: each line is an [`AuditEntry`] as JSON.
    JsonLines,
}

impl AuditFormat {
    /// Returns the media type: `text/csv` (RFC 4180 section 3) or `application/x-ndjson`.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Csv | Self::SpreadsheetCsv => "text/csv; charset=utf-8; header=present",
            Self::JsonLines => "application/x-ndjson",
        }
    }

    /// Returns what stands before the first entry: the row of the columns' names, or nothing.
    #[must_use]
    pub fn header(self) -> String {
        let mut text = String::new();
        if self != Self::JsonLines {
            self.write_row(&HEADER.map(str::to_owned), &mut text);
        }
        text
    }

    /// Returns the rows of these entries. Each ends with the end of its line: CRLF in CSV, LF in JSON
    /// Lines.
    #[must_use]
    pub fn rows(self, entries: &[AuditEntry]) -> String {
        let mut text = String::new();
        for entry in entries {
            if self == Self::JsonLines {
                write_line(entry, &mut text);
            } else {
                self.write_row(&cells(entry), &mut text);
            }
        }
        text
    }

    fn write_row(self, cells: &[String], text: &mut String) {
        for (place, cell) in cells.iter().enumerate() {
            if place > 0 {
                text.push(',');
            }
            self.write_cell(cell, text);
        }
        text.push_str("\r\n");
    }

    fn write_cell(self, cell: &str, text: &mut String) {
        let is_guarded = self == Self::SpreadsheetCsv;
        // A program that separates cells by another character does not look into a quoted one.
        if !is_guarded && !cell.contains([',', '"', '\r', '\n']) {
            text.push_str(cell);
            return;
        }
        text.push('"');
        if is_guarded && is_like_a_formula(cell) {
            text.push('\'');
        }
        text.push_str(&cell.replace('"', "\"\""));
        text.push('"');
    }
}

/// Returns whether a spreadsheet may take a cell for a formula: it may leave out what stands before one.
fn is_like_a_formula(cell: &str) -> bool {
    let is_left_out = |c: char| c.is_whitespace() || c.is_control() || c == '\u{feff}';
    let shown = cell.trim_start_matches(is_left_out);
    cell.starts_with(char::is_control) || shown.starts_with(FORMULA_STARTS)
}

/// Writes an entry as a line of JSON.
fn write_line(entry: &impl Serialize, text: &mut String) {
    match serde_json::to_string(entry) {
        Ok(line) => {
            text.push_str(&line);
            text.push('\n');
        }
        // Not reachable for an entry, which holds texts, numbers and maps of these.
        Err(error) => {
            tracing::error!(error = %ErrorChain(&error), "an entry of the audit log was left out of an export")
        }
    }
}

fn cells(entry: &AuditEntry) -> [String; HEADER.len()] {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let fields = entry.fields.iter().map(|change| {
        let values = [&change.before, &change.after].map(|value| value.clone().into());
        (change.field.clone(), Value::Array(values.to_vec()))
    });
    let fields = Value::Object(fields.collect::<Map<_, _>>());
    let origin = &entry.origin;
    [
        entry.position.clone(),
        entry.at.to_string(),
        entry.action.to_string(),
        entry.key.map(|key| key.to_string()).unwrap_or_default(),
        text(&entry.owner),
        text(&entry.former_owner),
        text(&origin.actor),
        origin.channel.to_string(),
        origin
            .address
            .map(|address| address.to_string())
            .unwrap_or_default(),
        text(&origin.request_id),
        text(&origin.reason),
        fields.to_string(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{AuditAction, ChangeChannel, ChangeOrigin, FieldChange};
    use crate::clock::Timestamp;
    use crate::key::KeyId;

    fn entry(owner: &str, actor: &str) -> AuditEntry {
        let origin = ChangeOrigin::new()
            .with_actor(actor)
            .with_channel(ChangeChannel::Page)
            .with_address("192.0.2.7".parse().unwrap());
        let at = Timestamp::from_millis(0);
        let mut entry = AuditEntry::new("007", at, AuditAction::Updated, origin);
        entry.key = Some(KeyId::from_u128(1));
        entry.owner = Some(owner.to_owned());
        entry.fields = vec![FieldChange::new("label", None, Some("a \"b\"".into()))];
        entry
    }

    #[test]
    fn csv_is_exact() {
        let entries = [entry("a, \"b\"", "=1+1"), entry("two\r\nlines", " anna ")];
        let rows = AuditFormat::Csv.rows(&entries);
        let expected = concat!(
            "007,1970-01-01T00:00:00.000Z,updated,0000000000000000000001,\"a, \"\"b\"\"\",,=1+1,page,192.0.2.7,,,",
            "\"{\"\"label\"\":[null,\"\"a \\\"\"b\\\"\"\"\"]}\"\r\n",
            "007,1970-01-01T00:00:00.000Z,updated,0000000000000000000001,\"two\r\nlines\",, anna ,page,192.0.2.7,,,",
            "\"{\"\"label\"\":[null,\"\"a \\\"\"b\\\"\"\"\"]}\"\r\n",
        );
        assert_eq!(rows, expected);
        let header = "position,at,action,key,owner,former_owner,actor,channel,address,request_id,reason,fields\r\n";
        assert_eq!(AuditFormat::Csv.header(), header);
    }

    #[test]
    fn a_spreadsheet_takes_no_cell_for_a_formula() {
        let formulas = [
            "=1+1",
            "+1",
            "-1",
            "@sum",
            "\t=1",
            "\r=1",
            "\t1",
            " =1",
            "\u{a0} @sum",
            "\u{feff}=1",
            "＝1",
            "＋1",
            "－1",
            "\u{3000}＠sum",
        ];
        for text in formulas {
            let rows = AuditFormat::SpreadsheetCsv.rows(&[entry("acme;=2", text)]);
            assert!(rows.contains(&format!("\"'{text}\"")), "{rows:?}");
            assert!(rows.contains("\"acme;=2\""), "{rows:?}");
            // Negative control: the exact form has the text itself.
            let rows = AuditFormat::Csv.rows(&[entry("acme", text)]);
            assert!(!rows.contains('\''), "{rows:?}");
        }
        let rows = AuditFormat::SpreadsheetCsv.rows(&[entry("acme", " anna")]);
        assert!(
            rows.contains("\" anna\"") && !rows.contains('\''),
            "{rows:?}"
        );
    }

    #[test]
    fn what_cannot_be_written_as_json_is_not_an_empty_line() {
        let mut text = String::new();
        write_line(&std::collections::HashMap::from([([1_u8], 1)]), &mut text);
        assert_eq!(text, "");
        write_line(&1, &mut text);
        assert_eq!(text, "1\n");
    }

    #[test]
    fn a_line_of_json_has_all_of_an_entry() {
        let rows = AuditFormat::JsonLines.rows(&[entry("a\nb", "anna"), entry("c", "d")]);
        assert_eq!(rows.lines().count(), 2);
        let line: Value = serde_json::from_str(rows.lines().next().unwrap()).unwrap();
        let expected = serde_json::json!({
            "position": "007", "at": "1970-01-01T00:00:00.000Z", "action": "updated",
            "key": "0000000000000000000001", "owner": "a\nb", "former_owner": null,
            "actor": "anna", "channel": "page", "address": "192.0.2.7", "request_id": null,
            "reason": null,
            "fields": [{ "field": "label", "before": null, "after": "a \"b\"" }],
        });
        assert_eq!(line, expected);
        assert_eq!(AuditFormat::JsonLines.header(), "");
    }
}
