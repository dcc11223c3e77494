//! What a command writes to stdout, in the format that `--output` names.

mod cell;
mod csv;
mod json;
mod stdout;
mod table;

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;

use crate::args::Common;
use crate::failure::Failure;
use crate::text::escaped;

pub(crate) use cell::Cell;
pub(crate) use stdout::Stdout;

/// A format of stdout. Each is stable; new fields come last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A table for people, as wide as the terminal, or as COLUMNS says in a pipe
    Table,
    /// One JSON document
    Json,
    /// A JSON object a line
    Jsonl,
    /// Values separated by commas, with a header (RFC 4180)
    Csv,
    /// An id a line
    Id,
}

/// A column of an output.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    /// The name, of a member in JSON too.
    pub(crate) name: &'static str,
    /// Whether a table with many rows shows it. A table of one row shows all.
    in_table: bool,
    /// Whether a narrow terminal breaks its values into lines.
    breaks: bool,
}

impl Column {
    /// A column that each format shows.
    pub(crate) const fn shown(name: &'static str) -> Self {
        Self {
            name,
            in_table: true,
            breaks: true,
        }
    }

    /// A column that tables with many rows leave out.
    pub(crate) const fn detail(name: &'static str) -> Self {
        Self {
            name,
            in_table: false,
            breaks: true,
        }
    }

    /// Keeps each value in one line: for what is copied, such as an id.
    pub(crate) const fn unbroken(mut self) -> Self {
        self.breaks = false;
        self
    }
}

/// The values of one thing, in the order of the columns. It may have a secret, and does not implement `Debug`.
#[derive(Clone)]
pub(crate) struct Row {
    id: String,
    cells: Vec<Cell>,
    secret: Option<String>,
}

impl Row {
    pub(crate) fn new(id: impl Into<String>, cells: Vec<Cell>) -> Self {
        Self {
            id: id.into(),
            cells,
            secret: None,
        }
    }

    /// Adds the values of further columns.
    pub(crate) fn and(mut self, cells: impl IntoIterator<Item = Cell>) -> Self {
        self.cells.extend(cells);
        self
    }

    /// Removes the id, which is the first value, of a thing that does not exist yet.
    pub(crate) fn without_id(mut self) -> Self {
        self.id.clear();
        if let Some(id) = self.cells.first_mut() {
            *id = Cell::Absent;
        }
        self
    }

    /// Adds the member `secret`, which only JSON has.
    pub(crate) fn with_secret(mut self, secret: &str) -> Self {
        self.secret = Some(secret.to_owned());
        self
    }
}

/// Writes a text to stdout as it is.
pub(crate) fn text(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Returns stdout. Only tables have colours, which are left out if they are not wanted.
fn stdout_of(format: Format) -> io::BufWriter<Box<dyn Write>> {
    io::BufWriter::new(match format {
        Format::Table => Box::new(anstream::stdout()),
        _ => Box::new(io::stdout()),
    })
}

/// Writes rows to stdout. Programs get exact values, and a terminal nothing that it obeys.
#[derive(Debug)]
pub(crate) struct Output {
    format: Format,
    spreadsheet: bool,
    on_terminal: bool,
    /// The width of the terminal, or of `COLUMNS` in a pipe; `None` without either.
    width: Option<u16>,
}

impl Output {
    pub(crate) fn new(common: &Common) -> Self {
        let on_terminal = io::stdout().is_terminal();
        let width = match on_terminal {
            true => terminal_size::terminal_size().map(|(width, _)| width.0),
            false => std::env::var("COLUMNS")
                .ok()
                .and_then(|width| width.parse().ok()),
        };
        Self {
            format: common.output,
            spreadsheet: common.spreadsheet,
            on_terminal,
            width: width.filter(|width| *width > 0),
        }
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    pub(crate) fn is_on_terminal(&self) -> bool {
        self.on_terminal
    }

    /// Begins a list, of which nothing is written before its first row or its end.
    pub(crate) fn rows(&self, columns: &'static [Column]) -> RowWriter {
        RowWriter {
            format: self.format,
            spreadsheet: self.spreadsheet,
            on_terminal: self.on_terminal,
            width: self.width,
            columns,
            kept: Vec::new(),
            written: 0,
            is_ended: false,
            out: stdout_of(self.format),
        }
    }

    /// Writes one thing: an object in JSON, and one line a field in a table.
    pub(crate) fn one(&self, columns: &'static [Column], row: Row) -> Result<(), Failure> {
        let mut out = stdout_of(self.format);
        match self.format {
            Format::Table => table::write_one(&mut out, columns, &row, self.width)?,
            Format::Json => {
                json::write(&mut out, columns, &row, true, self.on_terminal)?;
                writeln!(out)?;
            }
            _ => {
                let mut rows = self.rows(columns);
                rows.write(row)?;
                return rows.finish();
            }
        }
        Ok(out.flush()?)
    }

    /// Writes a line as it is.
    pub(crate) fn line(&self, text: &str) -> Result<(), Failure> {
        let mut out = io::stdout();
        writeln!(out, "{text}")?;
        Ok(out.flush()?)
    }
}

/// Writes the rows of a list one by one. A table waits for all of them, since its columns are as wide as their values. A list
/// that is given up is still one document.
pub(crate) struct RowWriter {
    format: Format,
    spreadsheet: bool,
    on_terminal: bool,
    width: Option<u16>,
    columns: &'static [Column],
    kept: Vec<Row>,
    written: u64,
    is_ended: bool,
    out: io::BufWriter<Box<dyn Write>>,
}

impl RowWriter {
    fn begin(&mut self) -> io::Result<()> {
        match self.format {
            Format::Csv => csv::write_header(&mut self.out, self.columns),
            Format::Json => write!(self.out, "["),
            _ => Ok(()),
        }
    }

    pub(crate) fn write(&mut self, row: Row) -> Result<(), Failure> {
        if self.written == 0 {
            self.begin()?;
        }
        let out = &mut self.out;
        match self.format {
            Format::Table => self.kept.push(row),
            Format::Json => {
                out.write_all(if self.written > 0 { b",\n " } else { b"\n " })?;
                json::write(out, self.columns, &row, false, self.on_terminal)?;
            }
            Format::Jsonl => {
                json::write(out, self.columns, &row, false, self.on_terminal)?;
                writeln!(out)?;
            }
            Format::Csv => csv::write(out, &row.cells, self.spreadsheet, self.on_terminal)?,
            Format::Id if row.id.is_empty() => {}
            Format::Id if self.on_terminal => writeln!(out, "{}", escaped(&row.id))?,
            Format::Id => writeln!(out, "{}", row.id)?,
        }
        self.written += 1;
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Result<(), Failure> {
        if self.written == 0 {
            self.begin()?;
        }
        if self.format == Format::Table {
            table::write(&mut self.out, self.columns, &self.kept, self.width)?;
        }
        Ok(self.end()?)
    }

    /// Ends what was begun.
    fn end(&mut self) -> io::Result<()> {
        if self.format == Format::Json {
            writeln!(self.out, "{}", if self.written > 0 { "\n]" } else { "]" })?;
        }
        self.is_ended = true;
        self.out.flush()
    }
}

impl Drop for RowWriter {
    fn drop(&mut self) {
        if !self.is_ended && self.written > 0 {
            // The error that led here is the one to report.
            let _ = self.end();
        }
    }
}
