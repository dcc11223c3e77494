//! Tables for people.

use std::io::{self, Write};

use comfy_table::{ColumnConstraint, ContentArrangement, Table};

use super::{Column, Row};

/// Writes a table with a header. On a terminal, long values are wrapped to its width; without one, each row is a line.
pub(super) fn write(
    out: &mut impl Write,
    columns: &[Column],
    rows: &[Row],
    width: Option<u16>,
) -> io::Result<()> {
    let mut table = table(width);
    let is_shown: Vec<bool> = columns.iter().map(|column| column.in_table).collect();
    let names = columns.iter().filter(|column| column.in_table);
    table.set_header(names.map(|column| column.name.to_ascii_uppercase().replace('_', " ")));
    for row in rows {
        let cells = row.cells.iter().zip(&is_shown).filter(|(_, shown)| **shown);
        table.add_row(cells.map(|(cell, _)| cell.shown()));
    }
    let unbroken = columns
        .iter()
        .filter(|column| column.in_table)
        .map(|column| !column.breaks);
    for (column, is_unbroken) in table.column_iter_mut().zip(unbroken) {
        if is_unbroken {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    for (number, line) in table.lines().enumerate() {
        match number {
            0 => writeln!(out, "\x1b[1m{}\x1b[0m", line.trim())?,
            _ => writeln!(
                out,
                "{}",
                line.strip_prefix(' ').unwrap_or(&line).trim_end()
            )?,
        }
    }
    Ok(())
}

/// Writes one row, a line for each field.
pub(super) fn write_one(
    out: &mut impl Write,
    columns: &[Column],
    row: &Row,
    width: Option<u16>,
) -> io::Result<()> {
    let mut table = table(width);
    for (column, cell) in columns.iter().zip(&row.cells) {
        table.add_row([column.name.replace('_', " "), cell.shown()]);
    }
    for line in table.lines() {
        writeln!(
            out,
            "{}",
            line.strip_prefix(' ').unwrap_or(&line).trim_end()
        )?;
    }
    Ok(())
}

fn table(width: Option<u16>) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    if let Some(width) = width {
        table
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(width);
    }
    table
}
