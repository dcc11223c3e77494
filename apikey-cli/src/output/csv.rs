//! CSV as in RFC 4180. Its values are exact, unless a spreadsheet is to open it, or a terminal shows it.

use std::io::{self, Write};

use super::{Cell, Column};
use crate::text::escaped;

pub(super) fn write_header(out: &mut impl Write, columns: &[Column]) -> io::Result<()> {
    let names: Vec<_> = columns.iter().map(|column| column.name).collect();
    write!(out, "{}\r\n", names.join(","))
}

/// What a spreadsheet takes for the beginning of a formula; some take the full-width forms too.
const FORMULA_STARTS: [char; 8] = ['=', '+', '-', '@', '＝', '＋', '－', '＠'];

/// Writes a row. For a spreadsheet, each value is quoted, and one that it would take for a formula begins with `'`. For a
/// terminal, what it would obey is escaped.
pub(super) fn write(
    out: &mut impl Write,
    cells: &[Cell],
    spreadsheet: bool,
    on_terminal: bool,
) -> io::Result<()> {
    for (number, cell) in cells.iter().enumerate() {
        if number > 0 {
            out.write_all(b",")?;
        }
        let mut text = cell.text();
        if spreadsheet && is_like_a_formula(&text) {
            text.insert(0, '\'');
        }
        if on_terminal {
            text = escaped(&text);
        }
        // A spreadsheet that separates values by another character does not look into a quoted one.
        match spreadsheet || text.contains(['"', ',', '\r', '\n']) {
            true => write!(out, "\"{}\"", text.replace('"', "\"\""))?,
            false => out.write_all(text.as_bytes())?,
        }
    }
    out.write_all(b"\r\n")
}

/// Returns whether a spreadsheet may take a value for a formula: it may leave out what stands before one. The runtime's
/// exports of the audit log have the same rule.
fn is_like_a_formula(text: &str) -> bool {
    let is_left_out = |c: char| c.is_whitespace() || c.is_control() || c == '\u{feff}';
    text.starts_with(char::is_control)
        || text
            .trim_start_matches(is_left_out)
            .starts_with(FORMULA_STARTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str, spreadsheet: bool) -> String {
        let mut out = Vec::new();
        write(&mut out, &[text.into(), 1.into()], spreadsheet, false).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn values_are_exact_and_guarded_only_for_a_spreadsheet() {
        assert_eq!(written("a \"b\", c\n", false), "\"a \"\"b\"\", c\n\",1\r\n");
        assert_eq!(written("=1+1", false), "=1+1,1\r\n");
        for formula in ["=1+1", " @sum", "\t1", "\u{feff}-1", "＝1"] {
            assert_eq!(written(formula, true), format!("\"'{formula}\",\"1\"\r\n"));
        }
        assert_eq!(written("plain;=1", true), "\"plain;=1\",\"1\"\r\n");
    }
}
