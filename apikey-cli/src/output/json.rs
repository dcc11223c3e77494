//! JSON, with the members in the order of the columns.

use std::io::{self, Write};

use serde::Serializer;
use serde::ser::SerializeMap;

use super::{Column, Row};
use crate::text::escaped_json;

/// Writes one object, without a line break at its end. For a terminal, what it would obey is escaped.
pub(super) fn write(
    out: &mut impl Write,
    columns: &[Column],
    row: &Row,
    pretty: bool,
    on_terminal: bool,
) -> io::Result<()> {
    let mut object = Vec::new();
    match pretty {
        true => members(
            &mut serde_json::Serializer::pretty(&mut object),
            columns,
            row,
        )?,
        false => members(&mut serde_json::Serializer::new(&mut object), columns, row)?,
    }
    match on_terminal {
        true => out.write_all(escaped_json(&String::from_utf8_lossy(&object)).as_bytes()),
        false => out.write_all(&object),
    }
}

fn members<S: Serializer>(serializer: S, columns: &[Column], row: &Row) -> Result<S::Ok, S::Error> {
    let mut object = serializer.serialize_map(None)?;
    for (column, cell) in columns.iter().zip(&row.cells) {
        object.serialize_entry(column.name, &cell.json())?;
    }
    if let Some(secret) = &row.secret {
        object.serialize_entry("secret", secret)?;
    }
    object.end()
}
