//! The audit log as a file, which is sent as it is read.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::task::{Context, Poll, ready};

use actix_web::HttpResponse;
use actix_web::body::{BodySize, MessageBody};
use actix_web::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use actix_web::web::Bytes;
use apikey_runtime::audit::{AuditEntry, AuditFormat};
use apikey_runtime::manager::AuditRequest;
use apikey_runtime::store::AuditPage;
use apikey_runtime::{ApiKeyManager, Error};

use super::filter::{AskedEntries, AuditFilter};
use super::unread;
use super::view::AuditView;
use crate::error::{Chain, PageError};
use crate::visit::Visit;

/// The number of entries that are read at once.
const PAGE: u32 = 500;

/// The format of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ExportFormat {
    /// For spreadsheets: a cell is never a formula.
    Csv,
    /// An array of entries.
    Json,
}

/// Answers with the entries that the address asks for, as far as the person may read them.
///
/// The process sends [`FILES`] at once; one more is answered with 503 and `Retry-After`.
///
/// The first page is read before the answer begins, so that a store that is down answers with 503. If a later one
/// cannot be read, the connection is closed before the end of the body.
pub(super) async fn send(
    visit: &Visit,
    filter: AuditFilter,
    format: ExportFormat,
) -> Result<HttpResponse, PageError> {
    let view = AuditView::of(&visit.person, &filter.owner)?;
    let filter = view.with_whole_key(visit, filter).await?;
    let asked = filter
        .query()
        .map_err(|faults| PageError::BadForm(faults.join(" ")))?;
    let permit = FilePermit::take()?;
    let mut body = ExportBody {
        _permit: permit,
        manager: visit.state.manager.clone(),
        view,
        asked,
        format,
        reading: None,
        has_begun: false,
        has_entry: false,
        is_done: false,
        written: String::new(),
    };
    let first = body.read().await.map_err(unread)?;
    body.add(first);
    let (media_type, file) = match format {
        ExportFormat::Csv => (
            AuditFormat::SpreadsheetCsv.media_type(),
            "attachment; filename=\"audit.csv\"",
        ),
        ExportFormat::Json => ("application/json", "attachment; filename=\"audit.json\""),
    };
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, media_type))
        .insert_header((CONTENT_DISPOSITION, file))
        .body(body))
}

/// The number of files that the process sends at once: each reads the store as long as its reader takes it.
const FILES: usize = 4;

static SENDING: AtomicUsize = AtomicUsize::new(0);

/// The permission to send a file, until it is dropped.
struct FilePermit;

impl FilePermit {
    /// Takes one, if fewer than [`FILES`] are taken.
    fn take() -> Result<Self, PageError> {
        let more = |taken: usize| (taken < FILES).then_some(taken + 1);
        match SENDING.fetch_update(SeqCst, SeqCst, more) {
            Ok(_) => Ok(Self),
            Err(_) => Err(PageError::Busy(
                "Other files of the audit log are being sent now. Try again in a minute, or ask for fewer days.",
            )),
        }
    }
}

impl Drop for FilePermit {
    fn drop(&mut self) {
        SENDING.fetch_sub(1, SeqCst);
    }
}

type PageRead = Pin<Box<dyn Future<Output = Result<AuditPage, Error>>>>;

/// The text of the entries, one page in memory.
struct ExportBody {
    _permit: FilePermit,
    manager: ApiKeyManager,
    view: AuditView,
    asked: AskedEntries,
    format: ExportFormat,
    /// The page that is being read.
    reading: Option<PageRead>,
    has_begun: bool,
    /// Whether an entry was written.
    has_entry: bool,
    /// Whether the last page was read.
    is_done: bool,
    /// What is to be sent.
    written: String,
}

impl ExportBody {
    /// Writes a page.
    fn add(&mut self, mut page: AuditPage) {
        self.view.redact(&mut page.entries);
        self.is_done = page.next.is_none();
        self.asked.before = page.next;
        let begins = !std::mem::replace(&mut self.has_begun, true);
        match self.format {
            ExportFormat::Csv => self.add_csv(&page.entries, begins),
            ExportFormat::Json => self.add_json(&page.entries, begins),
        }
    }

    fn add_csv(&mut self, entries: &[AuditEntry], begins: bool) {
        let format = AuditFormat::SpreadsheetCsv;
        if begins {
            self.written += &format.header();
        }
        self.written += &format.rows(entries);
    }

    fn add_json(&mut self, entries: &[AuditEntry], begins: bool) {
        if begins {
            self.written.push('[');
        }
        for entry in entries {
            match serde_json::to_string(entry) {
                Ok(text) => {
                    let between = if self.has_entry { ",\n" } else { "\n" };
                    self.written.push_str(between);
                    self.written.push_str(&text);
                    self.has_entry = true;
                }
                // Not reachable for an entry, which holds texts, numbers and maps of these.
                Err(error) => {
                    tracing::error!(error = %Chain(&error), "an entry of the audit log was left out of an export")
                }
            }
        }
        if self.is_done {
            self.written.push_str("\n]\n");
        }
    }

    /// Returns the call that reads the next page.
    fn read(&self) -> AuditRequest {
        self.view
            .request(&self.manager, &self.asked)
            .page_size(PAGE)
    }
}

impl MessageBody for ExportBody {
    type Error = Error;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Error>>> {
        let this = self.get_mut();
        loop {
            if !this.written.is_empty() {
                let text = std::mem::take(&mut this.written);
                return Poll::Ready(Some(Ok(text.into())));
            }
            if this.is_done {
                return Poll::Ready(None);
            }
            if this.reading.is_none() {
                this.reading = Some(Box::pin(this.read()));
            }
            let Some(reading) = &mut this.reading else {
                return Poll::Ready(None);
            };
            let page = ready!(reading.as_mut().poll(context));
            this.reading = None;
            this.add(page?);
        }
    }
}
