//! One owner: state, keys, usage, and the forms that change all keys at once.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use apikey_runtime::usage::UsageReport;
use apikey_runtime::{Error, KeyId, Timestamp};
use askama::Template;
use serde::Deserialize;

use crate::chart::{self, Chart, DayCounts};
use crate::error::{PageError, html, if_kept};
use crate::fields::SentQuery;
use crate::may::may_administer;
use crate::pages::frame::Frame;
use crate::pages::kept::{keeps_audit, keeps_usage};
use crate::pages::text;
use crate::visit::Visit;

/// The number of keys up to which the page counts them by state and adds up their usage without being asked.
const FEW: u32 = 200;

/// The number up to which the runtime counts live keys.
const MAX_COUNT: u32 = 10_000;

/// The owner in the address.
#[derive(Debug, Default, Deserialize)]
pub(super) struct OwnerQuery {
    #[serde(default)]
    owner: String,
    /// Set if the usage of many keys is to be added up.
    #[serde(default)]
    usage: String,
}

/// What a form said, to be shown again.
#[derive(Debug, Default)]
pub(super) struct OwnerFormText {
    pub(super) faults: Vec<String>,
    pub(super) reason: String,
}

#[derive(Template)]
#[template(path = "owner.html")]
struct OwnerPage<'a> {
    frame: Frame<'a>,
    owner: &'a str,
    faults: &'a [String],
    reason: &'a str,
    state: OwnerInWords,
    keys: KeyCounts,
    usage: Option<OwnerUsage>,
    /// Whether the usage is of too many keys to be added up without being asked.
    is_large: bool,
    /// Whether the store keeps usage, and an audit log.
    has_usage: bool,
    has_audit: bool,
    revoke_token: String,
    /// Of the form that suspends, or of the one that resumes.
    switch_token: String,
}

/// The state of an owner, as far as the store keeps it.
pub(super) struct OwnerInWords {
    /// Whether the store keeps owners.
    is_kept: bool,
    pub(super) version: u64,
    suspended: bool,
    revocations: u64,
}

/// How many keys an owner has.
struct KeyCounts {
    live: Option<String>,
    /// Of all keys, by state; empty if there are many.
    by_state: Vec<(usize, &'static str)>,
}

/// The usage of 30 days.
struct OwnerUsage {
    allowed: u64,
    denied: u64,
    days: Vec<DayCounts>,
    chart: Chart,
}

/// Shows an owner.
pub(super) async fn show(visit: Visit, query: SentQuery) -> Result<HttpResponse, PageError> {
    may_administer(&visit.person)?;
    let query: OwnerQuery = query.read(visit.state.manager.config())?;
    let adds_up = !query.usage.is_empty();
    page(
        &visit,
        &query.owner,
        adds_up,
        &OwnerFormText::default(),
        StatusCode::OK,
    )
    .await
}

/// Answers with the page of an owner, and with what a form of it said.
pub(super) async fn page(
    visit: &Visit,
    owner: &str,
    adds_up: bool,
    form: &OwnerFormText,
    status: StatusCode,
) -> Result<HttpResponse, PageError> {
    let state = state(visit, owner).await?;
    let (keys, ids) = keys(visit, owner).await?;
    if !state.is_kept && ids.as_ref().is_some_and(Vec::is_empty) {
        return Err(PageError::NotFound);
    }
    let manager = &visit.state.manager;
    let is_large = ids.is_none() && !adds_up;
    let usage = match ids {
        Some(ids) => Some(manager.usage_of(&ids)),
        None if adds_up => Some(manager.owner_usage(owner)),
        None => None,
    };
    let usage = match usage {
        Some(usage) => {
            if_kept(usage.await)?.map(|report| OwnerUsage::of(&report, owner, visit.now()))
        }
        None => None,
    };
    let switch = if state.suspended {
        "owner-resume"
    } else {
        "owner-suspend"
    };
    let page = OwnerPage {
        frame: Frame::new(&visit.state, Some(&visit.person)),
        owner,
        faults: &form.faults,
        reason: &form.reason,
        state,
        keys,
        usage,
        is_large,
        has_usage: keeps_usage(visit).await,
        has_audit: keeps_audit(visit).await,
        revoke_token: visit.token("owner-revoke", owner).await?,
        switch_token: visit.token(switch, owner).await?,
    };
    Ok(html(status, &page))
}

/// Reads the state of an owner.
///
/// # Errors
///
/// Returns [`PageError::NotFound`] if the owner has never had a key.
pub(super) async fn state(visit: &Visit, owner: &str) -> Result<OwnerInWords, PageError> {
    match visit.state.manager.owner_state(owner).await {
        Ok(Some(state)) => Ok(OwnerInWords {
            is_kept: true,
            version: state.version,
            suspended: state.suspended,
            revocations: state.revocations,
        }),
        Ok(None) => Err(PageError::NotFound),
        Err(Error::Unsupported(_)) => Ok(OwnerInWords {
            is_kept: false,
            version: 0,
            suspended: false,
            revocations: 0,
        }),
        Err(error) => Err(error.into()),
    }
}

/// Counts the keys of an owner. Returns the ids of all if they are few.
async fn keys(visit: &Visit, owner: &str) -> Result<(KeyCounts, Option<Vec<KeyId>>), PageError> {
    let manager = &visit.state.manager;
    let list = || manager.list().owner(owner).page_size(FEW);
    let page = match if_kept(list().with_usage().await)? {
        Some(page) => page,
        None => list().await?,
    };
    let live = page.live_keys.map(|live| match live {
        MAX_COUNT.. => format!("at least {MAX_COUNT}"),
        live => live.to_string(),
    });
    if page.next.is_some() {
        let by_state = Vec::new();
        return Ok((KeyCounts { live, by_state }, None));
    }
    let mut by_state: Vec<(usize, &'static str)> = Vec::new();
    for key in &page.keys {
        let used = page.last_used.iter().find(|used| used.key == key.id);
        let word = text::state(manager.state_of(key, used));
        match by_state.iter_mut().find(|(_, known)| *known == word) {
            Some((count, _)) => *count += 1,
            None => by_state.push((1, word)),
        }
    }
    let ids = page.keys.iter().map(|key| key.id).collect();
    Ok((KeyCounts { live, by_state }, Some(ids)))
}

impl OwnerUsage {
    fn of(report: &UsageReport, owner: &str, now: Timestamp) -> Self {
        let days = chart::last_days(&report.by_day(), now);
        let (allowed, denied) = chart::total(&days);
        Self {
            allowed,
            denied,
            chart: chart::bars(owner, &days),
            days,
        }
    }
}
