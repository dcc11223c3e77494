//! Rotating, revoking, enabling and disabling a key.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use apikey_runtime::KeyRecord;
use serde_json::json;

use super::answer;
use super::body::{Members, SentBody};
use super::caller::Caller;
use super::problem::ApiError;
use super::version::{Precondition, etag};
use crate::may::{Action, may};
use crate::path_part::PathPart;

/// A key that is to be changed by a caller who may do it.
struct Target {
    record: KeyRecord,
    precondition: Precondition,
}

impl Target {
    async fn of(
        caller: &Caller,
        request: &HttpRequest,
        id: &str,
        action: &Action<'_>,
    ) -> Result<Self, ApiError> {
        let record = caller.key(id).await?;
        may(&caller.person, action, &record)?;
        if *action == Action::Prolong {
            caller.check_gift(&record)?;
        }
        let precondition = Precondition::of(request, &record)?;
        Ok(Self {
            record,
            precondition,
        })
    }
}

/// Gives a key a new secret, and answers with it.
pub(super) async fn rotate(
    caller: Caller,
    request: HttpRequest,
    id: web::Path<PathPart>,
    body: SentBody,
) -> Result<HttpResponse, ApiError> {
    let target = Target::of(&caller, &request, &id, &Action::Prolong).await?;
    let mut members = body.read()?;
    let grace: Option<u64> = members.value("grace", "a whole number of seconds")?;
    members.finish()?;
    let Some(grace) = grace else {
        return Err(ApiError::unusable(
            "`grace` is missing; write for how many seconds the old secret still works, 0 if it leaked.",
        ));
    };
    // The scopes were judged for this version.
    let mut call = caller
        .manager()
        .rotate(target.record.id)
        .grace(Duration::from_secs(grace))
        .if_version(target.record.version);
    if let Some(owner) = caller.owner_of(&target.record) {
        call = call.owned_by(owner);
    }
    if let Some(held) = caller.held() {
        call = call.granted_by(held);
    }
    match call.origin(caller.origin.clone()).await {
        Ok(new) => Ok(answer::secret(&caller, StatusCode::OK, &new)),
        Err(error) => Err(target.precondition.failed(error)),
    }
}

/// Makes a disabled key work again.
pub(super) async fn enable(
    caller: Caller,
    request: HttpRequest,
    id: web::Path<PathPart>,
    body: SentBody,
) -> Result<HttpResponse, ApiError> {
    let target = Target::of(&caller, &request, &id, &Action::Prolong).await?;
    let mut members = body.read()?;
    let origin = noted(&caller, &mut members)?;
    members.finish()?;
    let mut call = caller
        .manager()
        .enable(target.record.id)
        .if_version(target.record.version);
    if let Some(owner) = caller.owner_of(&target.record) {
        call = call.owned_by(owner);
    }
    if let Some(held) = caller.held() {
        call = call.granted_by(held);
    }
    match call.origin(origin).await {
        Ok(()) => again(&caller, &target).await,
        Err(error) => Err(target.precondition.failed(error)),
    }
}

/// Denies a key until it is enabled.
pub(super) async fn disable(
    caller: Caller,
    request: HttpRequest,
    id: web::Path<PathPart>,
    body: SentBody,
) -> Result<HttpResponse, ApiError> {
    let target = Target::of(&caller, &request, &id, &Action::End).await?;
    let mut members = body.read()?;
    let origin = noted(&caller, &mut members)?;
    members.finish()?;
    let mut call = caller.manager().disable(target.record.id);
    if let Some(owner) = caller.owner_of(&target.record) {
        call = call.owned_by(owner);
    }
    if target.precondition == Precondition::Met {
        call = call.if_version(target.record.version);
    }
    match call.origin(origin).await {
        Ok(()) => again(&caller, &target).await,
        Err(error) => Err(target.precondition.failed(error)),
    }
}

/// Revokes a key.
pub(super) async fn revoke(
    caller: Caller,
    request: HttpRequest,
    id: web::Path<PathPart>,
    body: SentBody,
) -> Result<HttpResponse, ApiError> {
    let target = Target::of(&caller, &request, &id, &Action::End).await?;
    let mut members = body.read()?;
    let reason = members.text("reason")?;
    let origin = noted(&caller, &mut members)?;
    let confirmed = members.flag("confirmed")?;
    members.finish()?;
    let mut call = caller.manager().revoke(target.record.id).origin(origin);
    if let Some(reason) = reason {
        call = call.reason(reason);
    }
    if let Some(owner) = caller.owner_of(&target.record) {
        call = call.owned_by(owner);
    }
    if target.precondition == Precondition::Met {
        call = call.if_version(target.record.version);
    }
    let outcome = match confirmed {
        true => call
            .confirmed()
            .await
            .map(|done| (done.value, Some(done.propagation))),
        false => call.await.map(|newly| (newly, None)),
    };
    let (newly, propagation) = outcome.map_err(|error| target.precondition.failed(error))?;
    let record = caller.key(target.record.id.as_str()).await?;
    Ok(HttpResponse::Ok()
        .insert_header((header::ETAG, etag(record.version)))
        .json(json!({
            "key": answer::shown(&caller, &record).await?,
            "newly_revoked": newly,
            "confirmation": answer::confirmation(propagation.as_ref()),
        })))
}

/// Answers with the key after a change, if it was not given away meanwhile.
async fn again(caller: &Caller, target: &Target) -> Result<HttpResponse, ApiError> {
    let record = caller.key(target.record.id.as_str()).await?;
    answer::key(caller, &record).await
}

/// Returns the origin of a change, with the note of the body as its reason in the audit log.
pub(super) fn noted(
    caller: &Caller,
    members: &mut Members,
) -> Result<apikey_runtime::audit::ChangeOrigin, ApiError> {
    let mut origin = caller.origin.clone();
    origin.reason = members.text("note")?;
    Ok(origin)
}
