//! JSON, with the members in the order of the columns.

use std::io::{self, Write};

use serde::Serializer;
use serde::ser::SerializeMap;

use super::{Column, Row};

/// Writes one object, without a line break at its end.
pub(super) fn write(
    out: &mut impl Write,
    columns: &[Column],
    row: &Row,
    pretty: bool,
) -> io::Result<()> {
    let written = match pretty {
        true => members(&mut serde_json::Serializer::pretty(out), columns, row),
        false => members(&mut serde_json::Serializer::new(out), columns, row),
    };
    Ok(written?)
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
