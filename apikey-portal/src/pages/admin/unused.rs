//! Keys of an owner that were not used for a long time, and their revocation in bounded steps.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use apikey_runtime::store::ListCursor;
use apikey_runtime::{Error, Timestamp};
use askama::Template;
use serde::Deserialize;

use super::changes::missing;
use super::revoking::{MAX_KEYS, RevokedKeys, SeenKey, revoke_keys};
use crate::error::{PageError, html};
use crate::fields::{FormFields, SentForm, SentQuery};
use crate::may::may_administer;
use crate::pages::frame::Frame;
use crate::pages::kept::{NO_USAGE, keeps_usage};
use crate::pages::moment::{DAY, Moment, time};
use crate::visit::Visit;

/// The number of keys that one request looks at.
const LOOKED_AT: u32 = 1_000;

/// The number of keys that the page names.
const NAMED: usize = 50;

/// The spans to choose from, in days.
const SPANS: [i64; 5] = [7, 30, 90, 180, 365];

/// The span that is chosen by default, in days.
const SPAN: i64 = 90;

/// What the address or the form asks for.
#[derive(Debug, Default, Deserialize)]
pub(super) struct UnusedQuery {
    #[serde(default)]
    owner: String,
    /// The span in days; it does not count if `since` is set.
    #[serde(default)]
    days: String,
    /// A time or a date.
    #[serde(default)]
    since: String,
    /// Where the part begins that is looked at.
    #[serde(default)]
    after: String,
}

/// The keys of a part of the owner's that were not used since a time.
struct UnusedKeys {
    since: Timestamp,
    looked_at: usize,
    found: Vec<SeenKey>,
    named: Vec<UnusedRow>,
    next: Option<String>,
}

struct UnusedRow {
    id: String,
    label: String,
    created: Moment,
    used: Option<Moment>,
}

#[derive(Template)]
#[template(path = "unused.html")]
struct UnusedPage<'a> {
    frame: Frame<'a>,
    query: &'a UnusedQuery,
    spans: [i64; 5],
    span: i64,
    faults: &'a [String],
    /// The reason, and whether the box was ticked: a form that goes on has both.
    reason: &'a str,
    is_sure: bool,
    /// What a form has just done.
    done: Option<&'a RevokedKeys>,
    since: Moment,
    keys: UnusedKeys,
    /// How many one request revokes.
    batch: usize,
    token: String,
}

/// What a form said and did.
#[derive(Default)]
struct UnusedAnswer<'a> {
    faults: Vec<String>,
    reason: &'a str,
    is_sure: bool,
    done: Option<RevokedKeys>,
}

/// Shows how many keys of an owner were not used.
pub(super) async fn show(visit: Visit, query: SentQuery) -> Result<HttpResponse, PageError> {
    may_administer(&visit.person)?;
    let query: UnusedQuery = query.read(visit.state.manager.config())?;
    let keys = find(&visit, &query).await?;
    page(&visit, &query, keys, &UnusedAnswer::default()).await
}

/// Revokes keys of the part that the form names which are unused now, a bounded number at once.
pub(super) async fn revoke(visit: Visit, form: SentForm) -> Result<HttpResponse, PageError> {
    may_administer(&visit.person)?;
    let fields = form.read()?;
    let owner = fields.exact("owner");
    visit.check_token(&fields, "revoke-unused", owner).await?;
    let query = query_of(&fields);
    let mut keys = find(&visit, &query).await?;
    let mut answer = UnusedAnswer {
        faults: missing(&fields),
        reason: fields.text("reason"),
        is_sure: fields.is_ticked("sure"),
        done: None,
    };
    if answer.faults.is_empty() {
        match revoke_keys(&visit, &keys.found, answer.reason).await {
            Ok(done) => {
                let revoked = done.results.iter().filter(|one| one.is_revoked);
                let revoked: Vec<_> = revoked.map(|one| one.id.clone()).collect();
                keys.found
                    .retain(|key| !revoked.contains(&key.id.to_string()));
                keys.named.retain(|row| !revoked.contains(&row.id));
                answer.done = Some(done);
            }
            Err(fault) => answer.faults.push(fault),
        }
    }
    page(&visit, &query, keys, &answer).await
}

fn query_of(fields: &FormFields) -> UnusedQuery {
    UnusedQuery {
        owner: fields.exact("owner").to_owned(),
        days: String::new(),
        since: fields.text("since").to_owned(),
        after: fields.text("after").to_owned(),
    }
}

/// Looks at a part of the owner's keys.
async fn find(visit: &Visit, query: &UnusedQuery) -> Result<UnusedKeys, PageError> {
    if query.owner.is_empty() {
        return Err(PageError::NotFound);
    }
    let now = visit.now();
    let since = since(query, now)?;
    let mut list = visit.state.manager.list().owner(&*query.owner);
    if !query.after.is_empty() {
        let cursor: ListCursor = query.after.parse().map_err(PageError::from)?;
        list = list.after(cursor);
    }
    let page = match list.page_size(LOOKED_AT).with_usage().await {
        Ok(page) => page,
        Err(Error::Unsupported(_)) if !keeps_usage(visit).await => {
            return Err(PageError::Unsupported(NO_USAGE.to_owned()));
        }
        Err(Error::Unsupported(why)) => return Err(PageError::Unsupported(why)),
        Err(error) => return Err(error.into()),
    };
    let mut keys = UnusedKeys {
        since,
        looked_at: page.keys.len(),
        found: Vec::new(),
        named: Vec::new(),
        next: page.next.map(|next| next.to_string()),
    };
    for key in &page.keys {
        let used = page.last_used.iter().find(|used| used.key == key.id);
        let is_used = key.created >= since || used.is_some_and(|used| used.at >= since);
        if is_used || key.revoked.is_some() {
            continue;
        }
        keys.found.push(SeenKey {
            id: key.id,
            version: key.version,
        });
        keys.named.push(UnusedRow {
            id: key.id.to_string(),
            label: key.label.clone(),
            created: Moment::ago(key.created, now),
            used: used.map(|used| Moment::ago(used.at, now)),
        });
    }
    Ok(keys)
}

/// Returns the time since which a key was not used. A later time than now would find all keys.
fn since(query: &UnusedQuery, now: Timestamp) -> Result<Timestamp, PageError> {
    let fault = || {
        PageError::BadForm(
            "The time since which keys were not used is not one in the past; choose one from the list."
                .to_owned(),
        )
    };
    if !query.since.is_empty() {
        let since = time(&query.since, false);
        return since.filter(|since| *since <= now).ok_or_else(fault);
    }
    let days = match query.days.trim() {
        "" => SPAN,
        days => days.parse().map_err(|_not_a_number| fault())?,
    };
    match days {
        1..=36_500 => Ok(Timestamp::from_millis(now.as_millis() - days * DAY)),
        _ => Err(fault()),
    }
}

async fn page(
    visit: &Visit,
    query: &UnusedQuery,
    mut keys: UnusedKeys,
    answer: &UnusedAnswer<'_>,
) -> Result<HttpResponse, PageError> {
    keys.named.truncate(NAMED);
    let since = Moment::ago(keys.since, visit.now());
    let days = (visit.now().as_millis() - keys.since.as_millis()) / DAY;
    let status = match &answer.done {
        Some(done) => done.status(),
        None if answer.faults.is_empty() => StatusCode::OK,
        None => StatusCode::UNPROCESSABLE_ENTITY,
    };
    let page = UnusedPage {
        frame: Frame::new(&visit.state, Some(&visit.person)),
        query,
        spans: SPANS,
        span: days,
        faults: &answer.faults,
        reason: answer.reason,
        is_sure: answer.is_sure,
        done: answer.done.as_ref(),
        since,
        batch: keys.found.len().min(MAX_KEYS),
        keys,
        token: visit.token("revoke-unused", &query.owner).await?,
    };
    Ok(html(status, &page))
}
