//! What was done with keys: usage, the audit log; and what the program does with them: routes, health.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use apikey_runtime::Timestamp;
use apikey_runtime::manager::AuditRequest;
use serde_json::{Value, json};

use super::body::Members;
use super::caller::Caller;
use super::problem::ApiError;
use super::query::{self, OwnerScope};
use crate::path_part::PathPart;
use crate::redact::redact;

/// The largest page of the audit log.
const MAX_PAGE: u32 = 1_000;

const DAY: Duration = Duration::from_secs(24 * 3_600);

/// The span that is read by default.
const SPAN: Duration = Duration::from_secs(30 * 24 * 3_600);

/// By what usage is told, and the longest span for that.
const VIEWS: [(&str, u32); 3] = [("hour", 31), ("day", 366), ("route", 366)];

/// Answers with the usage of a key.
pub(super) async fn usage(
    caller: Caller,
    request: HttpRequest,
    id: web::Path<PathPart>,
) -> Result<HttpResponse, ApiError> {
    let record = caller.key(&id).await?;
    let mut query = query::parameters(&request)?;
    let by = query.parameter("by")?.unwrap_or_else(|| "day".to_owned());
    let (from, to) = span(&caller, &mut query)?;
    query.finish()?;
    let Some((_, days)) = VIEWS.iter().find(|(name, _)| *name == by) else {
        return Err(ApiError::unusable("`by` is not `hour`, `day` or `route`."));
    };
    let longest = from.checked_add(DAY * *days);
    if longest.is_some_and(|longest| to > longest) {
        return Err(ApiError::unusable(format!(
            "`from` and `to` are more than {days} days apart; write a shorter span."
        )));
    }
    let manager = caller.manager();
    let report = manager.usage(record.id).between(from, to).await?;
    let rows = match by.as_str() {
        "hour" => json!(report.by_hour()),
        "day" => json!(report.by_day()),
        _ => json!(report.by_route()),
    };
    let used = manager.last_used(record.id).await?;
    Ok(HttpResponse::Ok().json(json!({
        "by": by,
        "from": from,
        "to": to,
        "total": report.total(),
        "rows": rows,
        "last_used_at": used.map(|used| used.at),
        "last_used_network": used.and_then(|used| used.network),
        "previous_secret_last_used_at": used.and_then(|used| used.superseded_at),
        "previous_secret_last_used_network": used.and_then(|used| used.superseded_network),
    })))
}

/// Takes the span of a report. By default, it is of the 30 days before its end, which is now.
fn span(caller: &Caller, query: &mut Members) -> Result<(Timestamp, Timestamp), ApiError> {
    let (from, to) = (query::time(query, "from")?, query::time(query, "to")?);
    let to = to.unwrap_or_else(|| caller.state.now());
    let by_default = || to.as_millis().saturating_sub(SPAN.as_millis() as i64);
    let from = from.unwrap_or_else(|| Timestamp::from_millis(by_default()));
    match from < to {
        true => Ok((from, to)),
        false => Err(wrong_order()),
    }
}

fn wrong_order() -> ApiError {
    ApiError::unusable("`from` is not before `to`; write them in their order.")
}

/// Answers with the entries of the audit log about a key.
pub(super) async fn key_audit(
    caller: Caller,
    request: HttpRequest,
    id: web::Path<PathPart>,
) -> Result<HttpResponse, ApiError> {
    let record = caller.key(&id).await?;
    let mut query = query::parameters(&request)?;
    let mut audit = caller.manager().audit().key(record.id);
    // What another owner did with the key before is not this one's to see.
    if let Some(owner) = caller.owner_of(&record) {
        audit = audit.owner(owner);
    }
    let audit = paged(audit, &mut query)?;
    query.finish()?;
    entries(&caller, audit).await
}

/// Answers with the entries of the audit log about the caller's owner, or about all.
pub(super) async fn audit(caller: Caller, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let mut query = query::parameters(&request)?;
    let stated = query.parameter("owner")?;
    let owners = query::owners(&caller, stated)?;
    let mut audit = caller.manager().audit();
    if let Some(key) = query::id(&mut query, "key")? {
        audit = audit.key(key);
    }
    if let Some(actor) = query.parameter("actor")? {
        audit = audit.actor(actor);
    }
    let audit = paged(audit, &mut query)?;
    query.finish()?;
    match owners {
        OwnerScope::All => entries(&caller, audit).await,
        OwnerScope::One(owner) => entries(&caller, audit.owner(owner)).await,
        OwnerScope::Nobody => Ok(HttpResponse::Ok().json(json!({"entries": [], "next": null}))),
    }
}

/// Takes the span and the page of the audit log.
fn paged(mut audit: AuditRequest, query: &mut Members) -> Result<AuditRequest, ApiError> {
    let (from, to) = (query::time(query, "from")?, query::time(query, "to")?);
    if from.is_some() || to.is_some() {
        let from = from.unwrap_or(Timestamp::MIN);
        let to = to.unwrap_or(Timestamp::MAX);
        if from >= to {
            return Err(wrong_order());
        }
        audit = audit.between(from, to);
    }
    if let Some(limit) = query.number("limit", MAX_PAGE)? {
        audit = audit.page_size(limit);
    }
    Ok(audit.before(query.parameter("before")?))
}

/// Answers with what the caller may read of a page.
async fn entries(caller: &Caller, audit: AuditRequest) -> Result<HttpResponse, ApiError> {
    let mut page = audit.await?;
    redact(&caller.person, &mut page.entries);
    Ok(HttpResponse::Ok().json(json!({"entries": page.entries, "next": page.next})))
}

/// Answers with the guarded handlers of the program.
#[cfg(feature = "routes")]
pub(super) async fn routes(caller: Caller) -> Result<HttpResponse, ApiError> {
    caller.admin_only()?;
    let routes: Value = json!(apikey_runtime::routes());
    Ok(HttpResponse::Ok().json(json!({ "routes": routes })))
}

/// Answers with the health of the manager.
pub(super) async fn health(caller: Caller) -> Result<HttpResponse, ApiError> {
    caller.admin_only()?;
    let health = caller.manager().health();
    let (ready, mut body) = (health.is_ready(), json!(health));
    if let Value::Object(members) = &mut body {
        members.insert("ready".to_owned(), ready.into());
    }
    Ok(HttpResponse::Ok().json(body))
}
