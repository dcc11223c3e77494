//! What the holder of a key may know of it, and do with it.

use actix_web::HttpResponse;
use apikey_runtime::manager::PresentedRevocation;
use serde_json::json;

use super::answer::confirmation;
use super::body::SentBody;
use super::caller::Holder;
use super::problem::ApiError;

/// Answers with what the holder may know.
pub(super) async fn show(holder: Holder) -> Result<HttpResponse, ApiError> {
    let introspection = holder.state.manager.introspect(&holder.key).await?;
    let Some(facts) = introspection.key else {
        return Err(holder.ended().await);
    };
    Ok(HttpResponse::Ok().json(json!({
        "id": facts.id,
        "label": facts.label,
        "owner": facts.owner,
        "scopes": facts.scopes,
        "environment": facts.environment,
        "created_at": facts.created,
        "not_before": facts.not_before,
        "expires_at": facts.expires,
        "superseded_until": facts.superseded_until,
    })))
}

/// Revokes the key that is presented. A secret that a rotation superseded ends its grace alone.
pub(super) async fn revoke(holder: Holder, body: SentBody) -> Result<HttpResponse, ApiError> {
    let mut members = body.read()?;
    let reason = members.text("reason")?;
    let confirmed = members.flag("confirmed")?;
    members.finish()?;
    let mut call = holder.state.manager.revoke_presented(&holder.key);
    call = call.origin(holder.origin.clone());
    if let Some(reason) = reason {
        call = call.reason(reason);
    }
    let (outcome, propagation) = match confirmed {
        true => {
            let done = call.confirmed().await?;
            (done.value, Some(done.propagation))
        }
        false => (call.await?, None),
    };
    let outcome = match outcome {
        PresentedRevocation::Revoked(_) => "revoked",
        PresentedRevocation::GraceEnded(_) => "grace_ended",
        PresentedRevocation::AlreadyRevoked(_) => "already_revoked",
        _ => return Err(holder.ended().await),
    };
    Ok(HttpResponse::Ok().json(json!({
        "outcome": outcome,
        "confirmation": confirmation(propagation.as_ref()),
    })))
}
