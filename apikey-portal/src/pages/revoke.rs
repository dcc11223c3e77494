//! Revoking a key.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use apikey_runtime::manager::Propagation;
use apikey_runtime::{Error, KeyRecord};
use askama::Template;

use super::change::{KeyForm, as_shown, failed, is_revoked, revoked};
use super::frame::Frame;
use super::key_form::fault_of;
use super::resource::shown_and_sent;
use crate::error::{PageError, html};
use crate::fields::SentForm;
use crate::may::{Action, may};
use crate::path_part::PathPart;
use crate::visit::Visit;

/// Adds the routes of these pages.
pub(crate) fn routes(app: &mut web::ServiceConfig) {
    app.service(shown_and_sent("/keys/{key_id}/revoke", show, revoke));
}

#[derive(Template)]
#[template(path = "revoke.html")]
struct RevokePage<'a> {
    frame: Frame<'a>,
    record: &'a KeyRecord,
    reason: &'a str,
    token: String,
    can_rotate: bool,
    faults: &'a [String],
}

#[derive(Template)]
#[template(path = "revoked.html")]
struct RevokedPage<'a> {
    frame: Frame<'a>,
    record: &'a KeyRecord,
    /// The number of other nodes that have said that they deny the key.
    acknowledged: usize,
    /// The nodes that have not, and whose time has ended.
    waited_out: Vec<&'a str>,
    /// Whether the longest time was waited for which any node may trust what it knew.
    outlasted: bool,
}

/// Shows the form.
async fn show(visit: Visit, id: web::Path<PathPart>) -> Result<HttpResponse, PageError> {
    let record = visit.key(&id).await?;
    may(&visit.person, &Action::End, &record)?;
    match is_revoked(&visit, &record) {
        true => Ok(revoked(&visit, record.id)),
        false => page(&visit, &record, "", &[]).await,
    }
}

async fn page(
    visit: &Visit,
    record: &KeyRecord,
    reason: &str,
    faults: &[String],
) -> Result<HttpResponse, PageError> {
    let page = RevokePage {
        frame: Frame::new(&visit.state, Some(&visit.person)),
        record,
        reason,
        token: visit.token("revoke", &record.id.to_string()).await?,
        can_rotate: may(&visit.person, &Action::Prolong, record).is_ok(),
        faults,
    };
    let status = match faults {
        [] => StatusCode::OK,
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    };
    Ok(html(status, &page))
}

/// Revokes the key, and answers when it is denied on each node.
async fn revoke(
    visit: Visit,
    id: web::Path<PathPart>,
    form: SentForm,
) -> Result<HttpResponse, PageError> {
    let form = KeyForm::check(&visit, &id, form, (&Action::End, "revoke")).await?;
    let record = &form.record;
    if is_revoked(&visit, record) {
        return Ok(revoked(&visit, record.id));
    }
    let reason = form.fields.text("reason");
    if !form.fields.is_ticked("sure") {
        let fault = "Tick the box that says that you know that this cannot be undone.".to_owned();
        return page(&visit, record, reason, &[fault]).await;
    }
    let mut call = as_shown!(visit.state.manager.revoke(record.id), &visit, form);
    if !reason.is_empty() {
        call = call.reason(reason);
    }
    match call.confirmed().await {
        Ok(confirmed) => Ok(result(&visit, record, &confirmed.propagation)),
        Err(error @ Error::InvalidArgument(_)) => {
            page(&visit, record, reason, &[fault_of(error)?]).await
        }
        Err(error) => failed(&visit, record.id, error),
    }
}

fn result(visit: &Visit, record: &KeyRecord, propagation: &Propagation) -> HttpResponse {
    let page = RevokedPage {
        frame: Frame::new(&visit.state, Some(&visit.person)),
        record,
        acknowledged: propagation.acknowledged.len(),
        waited_out: propagation
            .waited_out
            .iter()
            .map(|node| node.as_str())
            .collect(),
        outlasted: propagation.outlasted,
    };
    html(StatusCode::OK, &page)
}
