//! What happened to keys and owners: the audit log as a page, as CSV and as JSON.

mod export;
mod filter;
mod view;
mod words;

use std::collections::{HashMap, HashSet};

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use apikey_runtime::audit::AuditEntry;
use apikey_runtime::{Error, KeyId, KeyRecord};
use askama::Template;

use super::frame::Frame;
use super::resource::shown;
use crate::error::{PageError, html};
use crate::fields::SentQuery;
use crate::may::{Action, may};
use crate::visit::Visit;
use export::ExportFormat;
use filter::{AskedEntries, AuditFilter};
use view::AuditView;
pub(super) use words::AuditRow;

/// Adds the routes of these pages.
pub(crate) fn routes(app: &mut web::ServiceConfig) {
    app.service(shown("/audit", show))
        .service(shown("/audit.csv", csv))
        .service(shown("/audit.json", json));
}

/// The number of entries of a page.
const PAGE: u32 = 50;

#[derive(Template)]
#[template(path = "audit.html")]
struct AuditPageOfPortal<'a> {
    frame: Frame<'a>,
    filter: &'a AuditFilter,
    faults: &'a [String],
    /// The owners that the person chooses from; empty for admins, who write one.
    owners: &'a [String],
    rows: Vec<AuditRow>,
    /// The parameters of the address, without the position.
    query: String,
    next: Option<String>,
}

/// Shows a page of the audit log, the newest entries first.
async fn show(visit: Visit, query: SentQuery) -> Result<HttpResponse, PageError> {
    let filter: AuditFilter = query.read(visit.state.manager.config())?;
    let view = AuditView::of(&visit.person, &filter.owner)?;
    let filter = view.with_whole_key(&visit, filter).await?;
    let query = match filter.query() {
        Ok(query) => query,
        Err(faults) => return Ok(answer(&visit, &filter, &view, &faults, Vec::new(), None)),
    };
    let read = view.request(&visit.state.manager, &query).page_size(PAGE);
    let mut page = match read.await {
        Ok(page) => page,
        // A position that is not one.
        Err(Error::InvalidArgument(fault)) => {
            return Ok(answer(&visit, &filter, &view, &[fault], Vec::new(), None));
        }
        Err(error) => return Err(unread(error)),
    };
    view.redact(&mut page.entries);
    let labels = labels(&visit, &page.entries).await;
    let now = visit.now();
    let rows = page.entries.iter().map(|entry| AuditRow {
        label: entry.key.and_then(|id| labels.get(&id).cloned()),
        ..AuditRow::of(entry, now)
    });
    let rows = rows.collect();
    Ok(answer(&visit, &filter, &view, &[], rows, page.next))
}

/// Returns the names of the entries' keys, as far as they can be read and the person may see them: a key may be
/// another owner's now. Without its name, a key is told by its id.
async fn labels(visit: &Visit, entries: &[AuditEntry]) -> HashMap<KeyId, String> {
    let mut labels = HashMap::new();
    let ids: HashSet<_> = entries.iter().filter_map(|entry| entry.key).collect();
    for id in ids {
        match visit.state.manager.get(id).await {
            Ok(record) if may(&visit.person, &Action::See, &record).is_ok() => {
                labels.insert(id, record.label);
            }
            Ok(_) | Err(Error::NotFound(_)) => {}
            // The others would wait for the store too.
            Err(_) => break,
        }
    }
    labels
}

/// Returns the latest entries of a key that the person may see, as far as they may read them. `None` if the store
/// does not keep an audit log.
pub(super) async fn latest(
    visit: &Visit,
    record: &KeyRecord,
    entries: u32,
) -> Result<Option<Vec<AuditRow>>, PageError> {
    let owner = record.owner.as_deref().filter(|_| !visit.is_admin());
    let view = AuditView::of(&visit.person, owner.unwrap_or_default())?;
    let asked = AskedEntries {
        key: Some(record.id),
        ..AskedEntries::default()
    };
    let read = view.request(&visit.state.manager, &asked);
    let mut page = match read.page_size(entries).await {
        Ok(page) => page,
        Err(Error::Unsupported(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    view.redact(&mut page.entries);
    let now = visit.now();
    let rows = page.entries.iter().map(|entry| AuditRow::of(entry, now));
    Ok(Some(rows.collect()))
}

fn answer(
    visit: &Visit,
    filter: &AuditFilter,
    view: &AuditView,
    faults: &[String],
    rows: Vec<AuditRow>,
    next: Option<String>,
) -> HttpResponse {
    let page = AuditPageOfPortal {
        frame: Frame::new(&visit.state, Some(&visit.person)),
        filter,
        faults,
        owners: view.choices(),
        rows,
        query: filter.parameters(),
        next,
    };
    let status = match faults.is_empty() {
        true => StatusCode::OK,
        false => StatusCode::UNPROCESSABLE_ENTITY,
    };
    html(status, &page)
}

async fn csv(visit: Visit, query: SentQuery) -> Result<HttpResponse, PageError> {
    let filter = query.read(visit.state.manager.config())?;
    export::send(&visit, filter, ExportFormat::Csv).await
}

async fn json(visit: Visit, query: SentQuery) -> Result<HttpResponse, PageError> {
    let filter = query.read(visit.state.manager.config())?;
    export::send(&visit, filter, ExportFormat::Json).await
}

/// Returns the page for an audit log that cannot be read.
fn unread(error: Error) -> PageError {
    match error {
        Error::Unsupported(_) => PageError::Unsupported(
            "The store of this application does not keep an audit log. Its operator finds in the manual of the store how \
             to keep one."
                .to_owned(),
        ),
        other => other.into(),
    }
}
