//! `/revoke`: the holder of a token ends it (RFC 7009).

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use apikey_runtime::manager::PresentedRevocation;

use super::caller;
use super::form::{self, TokenError};
use super::state::GatewayState;

/// The largest body, in bytes.
const MAX_FORM: usize = 4 * 1024;

/// Adds the route.
pub(super) fn routes(app: &mut web::ServiceConfig) {
    app.service(form::resource("/revoke", MAX_FORM, web::post().to(revoke)));
}

/// Revokes the key that is presented, whatever its restrictions: the whole key is the proof, and the caller needs no other.
/// A secret that a rotation superseded ends its grace alone. The answer to an unknown token is the same (RFC 7009 section
/// 2.2), and a failed attempt of the caller.
async fn revoke(
    request: HttpRequest,
    state: web::Data<GatewayState>,
    body: web::Payload,
) -> HttpResponse {
    let token = match form::token(&request, &state.manager, body).await {
        Ok(token) => token,
        Err(error) => return error.response(),
    };
    let origin = caller::origin(&request);
    let call = state
        .manager
        .revoke_presented(&token)
        .counted_for(origin.address)
        .reason("revoked by its holder")
        .origin(origin);
    match call.await {
        Ok(PresentedRevocation::Blocked { retry_after }) => blocked(retry_after).response(),
        Ok(_) => form::answer(HttpResponse::Ok()).finish(),
        Err(error) => TokenError::unavailable(&error).response(),
    }
}

fn blocked(retry_after: Duration) -> TokenError {
    let seconds = retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0);
    TokenError::later(
        StatusCode::TOO_MANY_REQUESTS,
        "Too many requests with invalid API keys came from this address. Wait as long as `Retry-After` says.",
        seconds.max(1),
    )
}
