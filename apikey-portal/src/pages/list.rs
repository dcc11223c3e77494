//! The list of keys.

use std::collections::HashMap;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use apikey_runtime::manager::ListKeys;
use apikey_runtime::store::{LastUsed, ListCursor};
use apikey_runtime::usage::UsageInterval;
use apikey_runtime::{KeyId, KeyRecord, KeyState, Timestamp};
use askama::Template;
use serde::Deserialize;

use super::frame::Frame;
use super::kept::{NO_USAGE, keeps_usage};
use super::moment::Moment;
use super::pasted::{cleaned, id_in};
use super::resource::shown;
use super::text::{self, set};
use crate::chart::{self, Chart};
use crate::error::{PageError, html, if_kept};
use crate::fields::SentQuery;
use crate::person::Role;
use crate::visit::Visit;

/// Adds the route of the list: the mount path, with a slash at its end or without one.
pub(crate) fn routes(app: &mut web::ServiceConfig) {
    app.service(shown("", show)).service(shown("/", show));
}

/// The number of keys of a page.
const PAGE: u32 = 50;

/// The maximum number of calls that fill a page: a call with filters reads 1,000 records at most.
const MAX_CALLS: usize = 10;

/// The number of scopes that a row names.
const SCOPES: usize = 4;

const DAY_MILLIS: i64 = 24 * 3_600_000;

/// A key that ends within this time is marked: 7 days.
const SOON_MILLIS: i64 = 7 * DAY_MILLIS;

/// The number of an id's first characters that a row shows.
const SHOWN_LEN: usize = 8;

/// What the address of the list asks for. An empty parameter is not set.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct ListFilter {
    #[serde(default)]
    q: String,
    #[serde(default)]
    owner: String,
    #[serde(default)]
    state: String,
    /// A number of days.
    #[serde(default)]
    unused: String,
    #[serde(default)]
    after: String,
}

#[derive(Template)]
#[template(path = "list.html")]
struct ListPage<'a> {
    frame: Frame<'a>,
    filter: &'a ListFilter,
    is_filtered: bool,
    owners: &'a [String],
    owner: Option<&'a str>,
    states: Vec<(&'static str, &'static str)>,
    unused: [&'static str; 4],
    rows: Vec<Row>,
    /// Whether the store keeps usage.
    has_usage: bool,
    unreadable: usize,
    has_more_ids: bool,
    next: Option<String>,
}

/// A key in the list.
struct Row {
    id: KeyId,
    shown: String,
    label: String,
    owner: Option<String>,
    scopes: Vec<String>,
    more_scopes: usize,
    used: Option<(Moment, Option<String>)>,
    /// `None` if the store does not keep usage.
    requests: Option<(Chart, u64, u64)>,
    state: &'static str,
    end: Option<Moment>,
    ends_soon: bool,
}

/// The keys of a page, and the place of the next one.
#[derive(Default)]
struct Found {
    keys: Vec<KeyRecord>,
    unreadable: usize,
    /// Whether ids beyond those of the page begin with the text.
    has_more_ids: bool,
    next: Option<ListCursor>,
}

/// What is known of the use of a page's keys.
#[derive(Default)]
struct PageUsage {
    is_kept: bool,
    last_used: HashMap<KeyId, LastUsed>,
    days: HashMap<KeyId, Vec<UsageInterval>>,
}

impl ListPage<'_> {
    fn is_chosen(&self, owner: &str) -> bool {
        self.owner == Some(owner)
    }

    /// Returns the query of this list's links.
    fn query(&self) -> String {
        let filter = self.filter;
        let parts = [
            ("q", &filter.q),
            ("owner", &filter.owner),
            ("state", &filter.state),
            ("unused", &filter.unused),
        ];
        let set = parts.into_iter().filter(|(_, value)| !value.is_empty());
        let set = set.map(|(name, value)| format!("{name}={}", text::encode(value)));
        set.collect::<Vec<_>>().join("&")
    }
}

/// Shows a page of keys.
async fn show(visit: Visit, query: SentQuery) -> Result<HttpResponse, PageError> {
    let mut filter: ListFilter = query.read(visit.state.manager.config())?;
    filter.q = cleaned(&visit, &filter.q).to_owned();
    let owner = owner_of(&visit, &filter)?;
    if set(&filter.unused).is_some() && !keeps_usage(&visit).await {
        return Err(PageError::Unsupported(NO_USAGE.to_owned()));
    }
    let found = find(&visit, &filter, owner.as_deref()).await?;
    let usage = usage_of(&visit, &found.keys).await?;
    let now = visit.now();
    let shows_owner = owner.is_none();
    let rows = found.keys.iter();
    let rows = rows.map(|key| Row::of(&visit, key, &usage, shows_owner, now));
    let chosen = [&filter.q, &filter.state, &filter.unused, &filter.after];
    let page = ListPage {
        rows: rows.collect(),
        has_usage: usage.is_kept,
        frame: Frame::new(&visit.state, Some(&visit.person)),
        is_filtered: chosen.iter().any(|text| !text.is_empty()),
        owners: &visit.person.owners,
        owner: owner.as_deref(),
        states: states(&visit),
        unused: ["7", "30", "90", "365"],
        unreadable: found.unreadable,
        has_more_ids: found.has_more_ids,
        next: found.next.map(|cursor| cursor.to_string()),
        filter: &filter,
    };
    Ok(html(StatusCode::OK, &page))
}

/// Finds the keys of a page: on the first one, those whose ids begin with the text, then those whose names do.
async fn find(visit: &Visit, filter: &ListFilter, owner: Option<&str>) -> Result<Found, PageError> {
    let list = selection(visit, filter, owner)?;
    let mut found = Found {
        next: set(&filter.after).map(str::parse).transpose()?,
        ..Found::default()
    };
    let id = id_in(visit, &filter.q);
    if let Some(id) = id.filter(|_| found.next.is_none()) {
        let page = list.clone().id_prefix(id).page_size(PAGE).await?;
        found.keys = page.keys;
        found.has_more_ids = page.next.is_some();
        if !found.keys.is_empty() && (id.len() == text::ID_LEN || id != filter.q) {
            return Ok(found);
        }
    }
    let list = match set(&filter.q) {
        Some(text) => list.label_prefix(text),
        None => list,
    };
    for _ in 0..MAX_CALLS {
        let room = PAGE.saturating_sub(count(&found.keys));
        let call = list.clone().page_size(room.max(1));
        let page = call.after(found.next.take()).await?;
        // Those with this id are on the first page.
        let is_new = |key: &KeyRecord| id.is_none_or(|id| !key.id.as_str().starts_with(id));
        found.keys.extend(page.keys.into_iter().filter(is_new));
        found.unreadable += page.unreadable.len();
        found.next = page.next;
        if found.next.is_none() || count(&found.keys) >= PAGE {
            break;
        }
    }
    Ok(found)
}

fn count(keys: &[KeyRecord]) -> u32 {
    u32::try_from(keys.len()).unwrap_or(u32::MAX)
}

/// Returns the call that lists keys by all filters but the text.
fn selection(
    visit: &Visit,
    filter: &ListFilter,
    owner: Option<&str>,
) -> Result<ListKeys, PageError> {
    let mut list = visit.state.manager.list();
    if let Some(owner) = owner {
        list = list.owner(owner);
    }
    if let Some(code) = set(&filter.state) {
        list = list.state(state_of(code)?);
    }
    if let Some(days) = set(&filter.unused) {
        let days: u16 = days.parse().map_err(|_not_a_number| {
            PageError::BadForm(
                "The days without use are a number. Choose one from the list.".into(),
            )
        })?;
        let since = visit.now().as_millis() - i64::from(days) * DAY_MILLIS;
        list = list.unused_since(Timestamp::from_millis(since));
    }
    Ok(list)
}

/// Reads the last uses of keys, and their usage of 30 days.
async fn usage_of(visit: &Visit, keys: &[KeyRecord]) -> Result<PageUsage, PageError> {
    let manager = &visit.state.manager;
    let ids: Vec<_> = keys.iter().map(|key| key.id).collect();
    let Some(last_used) = if_kept(manager.last_used_of(&ids).await)? else {
        return Ok(PageUsage::default());
    };
    let report = manager.usage_of(&ids).await?;
    let days = report.by_key_and_day().into_iter();
    Ok(PageUsage {
        is_kept: true,
        last_used: last_used.into_iter().map(|used| (used.key, used)).collect(),
        days: days.map(|of_key| (of_key.key, of_key.days)).collect(),
    })
}

/// The states by which keys are found, with their codes in addresses.
const STATES: [(KeyState, &str); 7] = [
    (KeyState::Active, "active"),
    (KeyState::Disabled, "disabled"),
    (KeyState::Suspended, "suspended"),
    (KeyState::Expired, "expired"),
    (KeyState::Idle, "idle"),
    (KeyState::NotYetValid, "not_yet_valid"),
    (KeyState::Revoked, "revoked"),
];

/// Returns the codes and words of the states that keys can be in.
fn states(visit: &Visit) -> Vec<(&'static str, &'static str)> {
    let idles = visit.state.manager.config().idle_expiry().is_some();
    let states = STATES.into_iter();
    let states = states.filter(|(state, _)| idles || *state != KeyState::Idle);
    states
        .map(|(state, code)| (code, text::state(state)))
        .collect()
}

fn state_of(code: &str) -> Result<KeyState, PageError> {
    let found = STATES.into_iter().find(|(_, known)| *known == code);
    found.map(|(state, _)| state).ok_or_else(|| {
        PageError::BadForm("This state does not exist. Choose one from the list.".to_owned())
    })
}

/// Returns the owner whose keys are listed; `None` lists those of all owners.
fn owner_of(visit: &Visit, filter: &ListFilter) -> Result<Option<String>, PageError> {
    let person = &visit.person;
    let stated = Some(&*filter.owner).filter(|owner| !owner.is_empty());
    match (stated, person.role) {
        (Some(owner), Role::Admin) => Ok(Some(owner.to_owned())),
        (None, Role::Admin) => Ok(None),
        (Some(owner), _) if person.owners.iter().any(|own| own == owner) => {
            Ok(Some(owner.to_owned()))
        }
        (Some(_), _) => Err(PageError::NotFound),
        (None, _) => match person.owners.first() {
            Some(owner) => Ok(Some(owner.clone())),
            None => Err(PageError::Forbidden(super::NO_OWNER)),
        },
    }
}

impl Row {
    fn of(
        visit: &Visit,
        record: &KeyRecord,
        usage: &PageUsage,
        shows_owner: bool,
        now: Timestamp,
    ) -> Self {
        let used = usage.last_used.get(&record.id);
        let state = visit.state.manager.state_of(record, used);
        let network = |used: &LastUsed| used.network.map(|network| network.to_string());
        let left = |end: Timestamp| end.as_millis().saturating_sub(now.as_millis());
        Self {
            id: record.id,
            shown: text::beginning(record, SHOWN_LEN),
            label: record.label.clone(),
            owner: record.owner.clone().filter(|_| shows_owner),
            scopes: record
                .scopes
                .iter()
                .take(SCOPES)
                .map(str::to_owned)
                .collect(),
            more_scopes: record.scopes.iter().count().saturating_sub(SCOPES),
            used: used.map(|used| (Moment::ago(used.at, now), network(used))),
            requests: usage.is_kept.then(|| {
                let days = usage.days.get(&record.id).map_or(&[][..], Vec::as_slice);
                let days = chart::last_days(days, now);
                let (allowed, denied) = chart::total(&days);
                (chart::sparkline("Last 30 days", &days), allowed, denied)
            }),
            state: text::state(state),
            end: record
                .expires
                .map(|end| Moment::end(end, now))
                .filter(|_| state != KeyState::Revoked),
            ends_soon: state == KeyState::Active
                && record.expires.is_some_and(|end| left(end) < SOON_MILLIS),
        }
    }
}
