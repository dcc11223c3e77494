//! A list of keys with boxes to tick, and the revocation of those that are ticked.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use apikey_runtime::KeyState;
use apikey_runtime::store::ListCursor;
use askama::Template;
use serde::Deserialize;

use super::changes::missing;
use super::revoking::{KeyResult, RevokedKeys, SeenKey, revoke_keys, seen};
use crate::error::{PageError, html, if_kept};
use crate::fields::{SentForm, SentQuery};
use crate::may::may_administer;
use crate::pages::frame::Frame;
use crate::pages::kept::keeps_usage;
use crate::pages::moment::Moment;
use crate::pages::text;
use crate::visit::Visit;

/// The number of keys of a page, and of a selection.
const PAGE: u32 = 50;

/// Which keys the page lists.
#[derive(Debug, Default, Deserialize)]
pub(super) struct SelectionFilter {
    #[serde(default)]
    owner: String,
    #[serde(default)]
    q: String,
    #[serde(default)]
    after: String,
}

#[derive(Template)]
#[template(path = "selection.html")]
struct SelectionPage<'a> {
    frame: Frame<'a>,
    filter: &'a SelectionFilter,
    faults: &'a [String],
    reason: &'a str,
    rows: Vec<SelectionRow>,
    /// Whether the store keeps usage.
    has_usage: bool,
    next: Option<String>,
    token: String,
}

struct SelectionRow {
    id: String,
    /// The id and the version.
    value: String,
    label: String,
    owner: Option<String>,
    state: &'static str,
    is_revoked: bool,
    is_ticked: bool,
    created: Moment,
    used: Option<Moment>,
}

#[derive(Template)]
#[template(path = "selection_done.html")]
struct SelectionDonePage<'a> {
    frame: Frame<'a>,
    owner: &'a str,
    count: usize,
    results: &'a [KeyResult],
    reach: &'a [String],
}

/// What a form said, to be shown again.
#[derive(Default)]
struct SelectionText<'a> {
    faults: Vec<String>,
    reason: &'a str,
    ticked: Vec<SeenKey>,
}

/// Shows a page of keys.
pub(super) async fn show(visit: Visit, filter: SentQuery) -> Result<HttpResponse, PageError> {
    may_administer(&visit.person)?;
    let filter: SelectionFilter = filter.read(visit.state.manager.config())?;
    page(&visit, &filter, &SelectionText::default()).await
}

async fn page(
    visit: &Visit,
    filter: &SelectionFilter,
    form: &SelectionText<'_>,
) -> Result<HttpResponse, PageError> {
    let manager = &visit.state.manager;
    let mut list = manager.list().page_size(PAGE);
    if !filter.owner.is_empty() {
        list = list.owner(&*filter.owner);
    }
    if !filter.q.trim().is_empty() {
        list = list.label_prefix(filter.q.trim());
    }
    if !filter.after.is_empty() {
        let cursor: ListCursor = filter.after.parse().map_err(PageError::from)?;
        list = list.after(cursor);
    }
    let keys = match if_kept(list.clone().with_usage().await)? {
        Some(keys) => keys,
        None => list.await?,
    };
    let has_usage = keeps_usage(visit).await;
    let now = visit.now();
    let rows = keys.keys.iter().map(|key| {
        let used = keys.last_used.iter().find(|used| used.key == key.id);
        let state = manager.state_of(key, used);
        let seen = SeenKey {
            id: key.id,
            version: key.version,
        };
        SelectionRow {
            id: key.id.to_string(),
            value: format!("{}.{}", key.id, key.version),
            label: key.label.clone(),
            owner: key.owner.clone(),
            state: text::state(state),
            is_revoked: state == KeyState::Revoked,
            is_ticked: form.ticked.contains(&seen),
            created: Moment::ago(key.created, now),
            used: used.map(|used| Moment::ago(used.at, now)),
        }
    });
    let page = SelectionPage {
        frame: Frame::new(&visit.state, Some(&visit.person)),
        filter,
        faults: &form.faults,
        reason: form.reason,
        rows: rows.collect(),
        has_usage,
        next: keys.next.map(|next| next.to_string()),
        token: visit.token("revoke-selected", "").await?,
    };
    let status = match form.faults.is_empty() {
        true => StatusCode::OK,
        false => StatusCode::UNPROCESSABLE_ENTITY,
    };
    Ok(html(status, &page))
}

/// Revokes the ticked keys, at most as many as a page has.
pub(super) async fn revoke(visit: Visit, form: SentForm) -> Result<HttpResponse, PageError> {
    may_administer(&visit.person)?;
    let fields = form.read()?;
    visit.check_token(&fields, "revoke-selected", "").await?;
    let ticked = fields.texts("key").map(seen);
    let ticked = ticked.collect::<Result<Vec<SeenKey>, _>>()?;
    let filter = SelectionFilter {
        owner: fields.exact("owner").to_owned(),
        q: fields.text("q").to_owned(),
        after: fields.text("after").to_owned(),
    };
    let reason = fields.text("reason");
    let mut faults = missing(&fields);
    match ticked.len() {
        0 => faults.push("Tick the keys that you want to revoke.".to_owned()),
        many if many > PAGE as usize => faults.push(format!(
            "{many} keys are ticked. Tick at most {PAGE}, and the others afterwards."
        )),
        _ => {}
    }
    if faults.is_empty() {
        match revoke_keys(&visit, &ticked, reason).await {
            Ok(done) => return Ok(result(&visit, &filter.owner, &done)),
            Err(fault) => faults.push(fault),
        }
    }
    let form = SelectionText {
        faults,
        reason,
        ticked,
    };
    page(&visit, &filter, &form).await
}

fn result(visit: &Visit, owner: &str, done: &RevokedKeys) -> HttpResponse {
    let page = SelectionDonePage {
        frame: Frame::new(&visit.state, Some(&visit.person)),
        owner,
        count: done.count,
        results: &done.results,
        reach: &done.reach,
    };
    html(done.status(), &page)
}
