//! The audit log as a file, which is sent as it is read.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

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
/// The process sends [`FILES`] at once, and one to each person; one more is answered with 503 and `Retry-After`. A file
/// that is not sent within [`LONGEST`] ends as one that cannot be read.
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
    let recipient = (visit.state.place.clone(), visit.person.id.clone());
    let permit = SENDING.take(recipient, Instant::now())?;
    let mut body = ExportBody {
        permit,
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

/// The longest time that a file is sent for.
const LONGEST: Duration = Duration::from_mins(10);

static SENDING: FilePermits = FilePermits(Mutex::new(Vec::new()));

/// The files that are sent now: of whom, and until when.
struct FilePermits(Mutex<Vec<(FileRecipient, Instant)>>);

/// A person of a portal: the portal's place, and the person's id.
type FileRecipient = (String, String);

/// The permission to send a file to a person, until it is dropped or has lasted for [`LONGEST`].
struct FilePermit {
    permits: &'static FilePermits,
    recipient: FileRecipient,
    until: Instant,
}

impl FilePermits {
    /// Takes one at a time, if fewer than [`FILES`] are taken, and none for this person.
    ///
    /// # Errors
    ///
    /// Returns [`PageError::Busy`] otherwise.
    fn take(
        &'static self,
        recipient: FileRecipient,
        now: Instant,
    ) -> Result<FilePermit, PageError> {
        let mut taken = self.taken();
        // A reader who takes nothing more does not drop theirs.
        taken.retain(|(_, until)| *until > now);
        if taken.iter().any(|(other, _)| *other == recipient) {
            return Err(PageError::Busy(
                "Another file of the audit log is being sent to you now. Try again when you have it, or in ten minutes.",
            ));
        }
        if taken.len() >= FILES {
            return Err(PageError::Busy(
                "Other files of the audit log are being sent now. Try again in a minute, or ask for fewer days.",
            ));
        }
        let until = now + LONGEST;
        taken.push((recipient.clone(), until));
        Ok(FilePermit {
            permits: self,
            recipient,
            until,
        })
    }

    fn taken(&self) -> MutexGuard<'_, Vec<(FileRecipient, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FilePermit {
    fn is_over(&self, now: Instant) -> bool {
        now >= self.until
    }
}

impl Drop for FilePermit {
    fn drop(&mut self) {
        let mut taken = self.permits.taken();
        // The person may have another one since this one is over.
        taken.retain(|(recipient, until)| *recipient != self.recipient || *until != self.until);
    }
}

type PageRead = Pin<Box<dyn Future<Output = Result<AuditPage, Error>>>>;

/// The text of the entries, one page in memory.
struct ExportBody {
    permit: FilePermit,
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

/// Why a file ends before its end.
#[derive(Debug, thiserror::Error)]
enum ExportError {
    #[error("the file was not taken within {} minutes", LONGEST.as_secs() / 60)]
    TooLong,
    #[error(transparent)]
    Unread(#[from] Error),
}

impl MessageBody for ExportBody {
    type Error = ExportError;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, ExportError>>> {
        let this = self.get_mut();
        loop {
            if !this.written.is_empty() {
                let text = std::mem::take(&mut this.written);
                return Poll::Ready(Some(Ok(text.into())));
            }
            if this.is_done {
                return Poll::Ready(None);
            }
            if this.permit.is_over(Instant::now()) {
                return Poll::Ready(Some(Err(ExportError::TooLong)));
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use apikey_runtime::MemoryStore;

    use super::*;
    use crate::person::{Person, Role};

    static PERMITS: FilePermits = FilePermits(Mutex::new(Vec::new()));

    #[actix_web::test]
    async fn a_file_that_is_not_taken_in_time_is_cut_off() {
        static OWN: FilePermits = FilePermits(Mutex::new(Vec::new()));
        let manager = ApiKeyManager::builder().store(MemoryStore::new());
        let manager = manager.start().await.unwrap();
        manager.create("ci").await.unwrap();
        let root = Person::new("root").with_role(Role::Admin);
        let body = || ExportBody {
            permit: OWN.take(Default::default(), Instant::now()).unwrap(),
            manager: manager.clone(),
            view: AuditView::of(&root, "").unwrap(),
            asked: AskedEntries::default(),
            format: ExportFormat::Json,
            reading: None,
            has_begun: false,
            has_entry: false,
            is_done: false,
            written: "what was read before".to_owned(),
        };
        let next = async |body: &mut ExportBody| {
            poll_fn(|context| Pin::new(&mut *body).poll_next(context)).await
        };
        let mut late = body();
        let until = std::mem::replace(&mut late.permit.until, Instant::now());
        assert_eq!(
            next(&mut late).await.unwrap().unwrap(),
            "what was read before"
        );
        let end = next(&mut late).await.unwrap().unwrap_err();
        assert!(end.to_string().contains("within 10 minutes"), "{end}");
        late.permit.until = until;
        drop(late);
        // Control: in time, the rest is read.
        let mut early = body();
        assert!(next(&mut early).await.unwrap().is_ok());
        assert!(next(&mut early).await.unwrap().unwrap().ends_with(b"\n]\n"));
        assert!(next(&mut early).await.is_none());
    }

    #[test]
    fn a_person_has_one_permit_and_it_does_not_last() {
        let start = Instant::now();
        let take = |person: &str, seconds| {
            let recipient = ("/keys".to_owned(), person.to_owned());
            let now = start + Duration::from_secs(seconds);
            PERMITS.take(recipient, now).ok()
        };
        let first = take("alice", 0).unwrap();
        assert!(take("alice", 599).is_none());
        let others = ["bob", "carol", "dave"].map(|person| take(person, 300).unwrap());
        assert!(take("root", 599).is_none());
        // The first one is over, whether or not its reader goes on.
        assert!(!first.is_over(start + Duration::from_secs(599)));
        assert!(first.is_over(start + LONGEST));
        let second = take("alice", 600).unwrap();
        drop(first);
        assert!(
            take("alice", 601).is_none(),
            "its end is not that of the second"
        );
        assert!(take("root", 601).is_none());
        drop(second);
        assert!(take("root", 601).is_some());
        drop(others);
        assert!(PERMITS.taken().is_empty());
    }
}
