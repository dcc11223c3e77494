//! `apikey audit`.

use apikey_runtime::Timestamp;
use apikey_runtime::audit::{AuditEntry, AuditFormat};
use apikey_runtime::manager::AuditRequest;
use serde_json::Value;

use crate::args::AuditArguments;
use crate::failure::Failure;
use crate::notice;
use crate::output::{self, Cell, Column, Format, Row, RowWriter};
use crate::progress::Progress;
use crate::session::Session;

/// The columns of an entry, as in the runtime's own exports. New ones come last.
const COLUMNS: &[Column] = &[
    Column::detail("position"),
    Column::shown("at").unbroken(),
    Column::shown("action").unbroken(),
    Column::shown("key").unbroken(),
    Column::shown("owner"),
    Column::detail("former_owner"),
    Column::shown("actor"),
    Column::detail("channel"),
    Column::detail("address"),
    Column::detail("request_id"),
    Column::detail("reason"),
    Column::detail("fields"),
];

/// The rows of a table, unless `--limit` says otherwise.
const TABLE_LIMIT: u64 = 100;

/// The entries that are read at once.
const PAGE_SIZE: u32 = 500;

pub(crate) async fn run(session: &Session, arguments: AuditArguments) -> Result<(), Failure> {
    let mut out = EntryWriter::new(session)?;
    let default = match session.output.format() {
        Format::Table => TABLE_LIMIT,
        _ => u64::MAX,
    };
    let limit = arguments.limit.unwrap_or(default);
    let mut progress = Progress::new(&session.common, "entries", None);
    let (mut left, mut before, mut has_more) = (limit, None, false);
    while left > 0 {
        let size = PAGE_SIZE.min(u32::try_from(left).unwrap_or(PAGE_SIZE));
        let page = selected(session, &arguments)
            .before(before)
            .page_size(size)
            .await?;
        out.write(&page.entries)?;
        left -= page.entries.len() as u64;
        progress.set(limit - left);
        has_more = page.next.is_some();
        before = page.next;
        if !has_more {
            break;
        }
    }
    drop(progress);
    out.finish()?;
    if has_more && arguments.limit.is_none() {
        notice::note(&format!(
            "these are the newest {limit} entries; `--limit 1000` reads more, `--output csv` all"
        ));
    }
    Ok(())
}

/// Returns the call that reads what the arguments select.
fn selected(session: &Session, arguments: &AuditArguments) -> AuditRequest {
    let (mut call, now) = (session.manager.audit(), session.now());
    if let Some(key) = arguments.key {
        call = call.key(key);
    }
    if let Some(owner) = &arguments.owner {
        call = call.owner(owner);
    }
    if let Some(actor) = &arguments.by {
        call = call.actor(actor);
    }
    if arguments.since.is_none() && arguments.until.is_none() {
        return call;
    }
    let since = arguments
        .since
        .map_or(Timestamp::MIN, |time| time.before(now));
    let until = arguments
        .until
        .map_or(Timestamp::MAX, |time| time.before(now));
    call.between(since, until)
}

/// Writes entries to stdout. Lines for programs are those that the runtime exports; on a terminal, they are rows.
enum EntryWriter {
    Lines(AuditFormat),
    Rows(RowWriter, Format),
}

impl EntryWriter {
    fn new(session: &Session) -> Result<Self, Failure> {
        if session.output.is_on_terminal() {
            return Ok(Self::Rows(
                session.output.rows(COLUMNS),
                session.output.format(),
            ));
        }
        let format = match (session.output.format(), session.common.spreadsheet) {
            (Format::Csv, false) => AuditFormat::Csv,
            (Format::Csv, true) => AuditFormat::SpreadsheetCsv,
            (Format::Jsonl, _) => AuditFormat::JsonLines,
            _ => {
                return Ok(Self::Rows(
                    session.output.rows(COLUMNS),
                    session.output.format(),
                ));
            }
        };
        output::text(&format.header())?;
        Ok(Self::Lines(format))
    }

    fn write(&mut self, entries: &[AuditEntry]) -> Result<(), Failure> {
        match self {
            Self::Lines(format) => output::text(&format.rows(entries)),
            Self::Rows(rows, format) => {
                let mut entries = entries.iter().map(|entry| row(entry, *format));
                entries.try_for_each(|row| rows.write(row))
            }
        }
    }

    fn finish(self) -> Result<(), Failure> {
        match self {
            Self::Lines(_) => Ok(()),
            Self::Rows(rows, _) => rows.finish(),
        }
    }
}

fn row(entry: &AuditEntry, format: Format) -> Row {
    let origin = &entry.origin;
    let fields = match format {
        // As the runtime's own CSV.
        Format::Csv => {
            let fields = entry.fields.iter();
            let pairs = fields.map(|change| {
                let pair = Value::from(vec![
                    change.before.clone().unwrap_or(Value::Null),
                    change.after.clone().unwrap_or(Value::Null),
                ]);
                (change.field.clone(), pair)
            });
            Value::Object(pairs.collect())
        }
        // Not reachable without a value: an entry holds texts and JSON.
        _ => serde_json::to_value(&entry.fields).unwrap_or(Value::Null),
    };
    let cells = vec![
        Cell::from(entry.position.as_str()),
        Cell::Second(entry.at),
        entry.action.code().into(),
        entry.key.map(|key| key.to_string()).into(),
        entry.owner.clone().into(),
        entry.former_owner.clone().into(),
        origin.actor.clone().into(),
        origin.channel.code().into(),
        origin.address.map(|address| address.to_string()).into(),
        origin.request_id.clone().into(),
        origin.reason.clone().into(),
        fields.into(),
    ];
    Row::new(entry.position.as_str(), cells)
}
