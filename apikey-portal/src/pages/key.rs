//! One key: what is known of it, and what may be done to it.

use actix_web::http::StatusCode;
use actix_web::http::header::LOCATION;
use actix_web::{HttpResponse, web};
use apikey_runtime::{Error, KeyRecord, KeyState, Scopes, Timestamp};
use askama::Template;

use super::audit::{self, AuditRow};
use super::change::{KeyForm, as_granted, as_shown, failed};
use super::frame::Frame;
use super::key_facts::{self, Fact};
use super::key_usage::{GraceView, LimitRow, UsageView};
use super::resource::{sent, shown};
use super::text;
use crate::chart;
use crate::error::{PageError, html, if_kept};
use crate::fields::SentForm;
use crate::may::{Action, Refusal, may};
use crate::path_part::PathPart;
use crate::visit::Visit;

/// Adds the routes of these pages.
pub(crate) fn routes(app: &mut web::ServiceConfig) {
    app.service(shown("/keys/{key_id}", show))
        .service(sent("/keys/{key_id}/disable", disable))
        .service(sent("/keys/{key_id}/enable", enable))
        .service(sent("/keys/{key_id}/end-grace", end_grace));
}

/// The number of entries of the audit log on the page.
const ENTRIES: u32 = 20;

#[derive(Template)]
#[template(path = "key.html")]
struct KeyPage<'a> {
    frame: Frame<'a>,
    record: &'a KeyRecord,
    state: &'static str,
    /// What the state means, if that is not said elsewhere.
    note: &'static str,
    facts: Vec<Fact>,
    grace: Option<GraceView>,
    offers: Offers,
    usage: Option<UsageView>,
    limits: Vec<LimitRow>,
    audit: Option<Vec<AuditRow>>,
}

/// What the person may do with the key now.
#[derive(Default)]
struct Offers {
    edit: bool,
    rotate: bool,
    revoke: bool,
    /// The tokens of the forms that the page has.
    disable: Option<String>,
    enable: Option<String>,
    end_grace: Option<String>,
    /// Whether the key has scopes that keep the person from rotating it.
    lacks_scopes: bool,
}

/// Shows a key.
async fn show(visit: Visit, id: web::Path<PathPart>) -> Result<HttpResponse, PageError> {
    let record = visit.key(&id).await?;
    let manager = &visit.state.manager;
    let now = visit.now();
    let kept = if_kept(manager.last_used(record.id).await)?;
    let used = kept.flatten();
    let networks = if_kept(manager.networks_of(record.id).await)?.unwrap_or_default();
    let report = manager
        .usage(record.id)
        .between(chart::first_day(now), after(now));
    let report = if_kept(report.await)?;
    let limits = manager.limits(record.id).await?;
    let state = manager.state_of(&record, used.as_ref());
    let page = KeyPage {
        frame: Frame::new(&visit.state, Some(&visit.person)),
        state: text::state(state),
        note: note(state),
        facts: key_facts::of(&record, kept.map(|_| (used.as_ref(), &networks[..])), now),
        grace: GraceView::of(&record, used.as_ref(), now).filter(|_| state != KeyState::Revoked),
        offers: Offers::of(&visit, &record, state).await?,
        usage: report.map(|report| UsageView::of(&record, &report, now)),
        limits: limits.iter().map(LimitRow::of).collect(),
        audit: audit::latest(&visit, &record, ENTRIES).await?,
        record: &record,
    };
    Ok(html(StatusCode::OK, &page))
}

/// Returns a moment later: what is read up to it includes now.
fn after(now: Timestamp) -> Timestamp {
    Timestamp::from_millis(now.as_millis().saturating_add(1))
}

fn note(state: KeyState) -> &'static str {
    match state {
        KeyState::Suspended => {
            "All keys of its owner are suspended. They work again when an administrator resumes the owner."
        }
        KeyState::Disabled => "It is denied until it is enabled again.",
        KeyState::Idle => "It was not used for too long. Enabling it makes it work again.",
        KeyState::Expired => "It is denied. A later end makes it work again.",
        _ => "",
    }
}

impl Offers {
    async fn of(visit: &Visit, record: &KeyRecord, state: KeyState) -> Result<Self, PageError> {
        if state == KeyState::Revoked {
            return Ok(Self::default());
        }
        let may = |action: Action<'_>| may(&visit.person, &action, record);
        let none = Scopes::none();
        let edit = may(Action::Edit {
            added_scopes: &none,
        });
        let prolong = may(Action::Prolong);
        let end = may(Action::End).is_ok();
        let id = record.id.to_string();
        let previous = record.previous.as_ref();
        let has_grace = previous.is_some_and(|previous| previous.until > visit.now());
        let can_enable = prolong.is_ok() && (!record.enabled || state == KeyState::Idle);
        let token = async |offered: bool, action: &str| match offered {
            true => visit.token(action, &id).await.map(Some),
            false => Ok(None),
        };
        Ok(Self {
            edit: edit.is_ok(),
            rotate: prolong.is_ok(),
            revoke: end,
            disable: token(end && record.enabled, "disable").await?,
            enable: token(can_enable, "enable").await?,
            end_grace: token(end && has_grace, "end-grace").await?,
            lacks_scopes: prolong == Err(Refusal::Scopes),
        })
    }
}

/// Disables a key.
async fn disable(
    visit: Visit,
    id: web::Path<PathPart>,
    form: SentForm,
) -> Result<HttpResponse, PageError> {
    let form = KeyForm::check(&visit, &id, form, (&Action::End, "disable")).await?;
    let call = visit.state.manager.disable(form.record.id);
    answer(&visit, &form, as_shown!(call, &visit, form).await)
}

/// Enables a key.
async fn enable(
    visit: Visit,
    id: web::Path<PathPart>,
    form: SentForm,
) -> Result<HttpResponse, PageError> {
    let form = KeyForm::check(&visit, &id, form, (&Action::Prolong, "enable")).await?;
    let call = as_granted!(visit.state.manager.enable(form.record.id), &visit);
    answer(&visit, &form, as_shown!(call, &visit, form).await)
}

/// Ends the grace of the key's old secret, and answers when it is denied on each node.
async fn end_grace(
    visit: Visit,
    id: web::Path<PathPart>,
    form: SentForm,
) -> Result<HttpResponse, PageError> {
    let form = KeyForm::check(&visit, &id, form, (&Action::End, "end-grace")).await?;
    let call = visit.state.manager.end_grace(form.record.id);
    let ended = as_shown!(call, &visit, form).confirmed().await;
    answer(&visit, &form, ended.map(drop))
}

/// Shows the key after a change.
fn answer(
    visit: &Visit,
    form: &KeyForm,
    outcome: Result<(), Error>,
) -> Result<HttpResponse, PageError> {
    match outcome {
        Ok(()) => Ok(see_key(visit, &form.record)),
        Err(error) => failed(visit, form.record.id, error),
    }
}

/// Redirects to the page of a key.
pub(super) fn see_key(visit: &Visit, record: &KeyRecord) -> HttpResponse {
    let page = format!("{}/keys/{}", visit.state.location.base, record.id);
    HttpResponse::SeeOther()
        .insert_header((LOCATION, page))
        .finish()
}
