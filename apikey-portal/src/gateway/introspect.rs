//! `/introspect`: what a resource server may know of a token (RFC 7662).

use actix_web::http::header::{self, HeaderMap};
use actix_web::{HttpRequest, HttpResponse, web};
use apikey_runtime::manager::{CheckedKey, KeyFacts};
use apikey_runtime::{Denied, DenyReason, KeyLocation, Policy, ScopeExpr, Timestamp};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value, json};

use super::answer;
use super::caller;
use super::form::{self, TokenError};
use super::state::GatewayState;

/// What a caller's own key needs. The challenges of a denial name both schemes.
const CALLER: Policy = Policy::new()
    .scopes(ScopeExpr::One("apikeys:introspect"))
    .locations(&[KeyLocation::BEARER, KeyLocation::Basic]);

/// The largest body, in bytes: a gateway introspects what its client sent in a header, of whatever length.
const MAX_FORM: usize = 64 * 1024;

/// Adds the route.
pub(super) fn routes(app: &mut web::ServiceConfig) {
    app.service(form::resource(
        "/introspect",
        MAX_FORM,
        web::post().to(introspect),
    ));
}

/// Tells a caller who may introspect whether a token is a key that is active. The token's failures count against nothing:
/// the caller is known, and not the one who sent the token.
async fn introspect(
    request: HttpRequest,
    state: web::Data<GatewayState>,
    body: web::Payload,
) -> HttpResponse {
    // First, so that nothing of others is read.
    let caller = match check_caller(&request, &state).await {
        Ok(caller) => caller,
        Err(denied) => return answer::denied(&request, &denied, &state.manager, &CALLER),
    };
    let token = match form::token(&request, &state.manager, body).await {
        Ok(token) => token,
        Err(error) => return error.response(),
    };
    let mut response = match state.manager.introspect(&token).await {
        Ok(introspection) => form::answer(HttpResponse::Ok()).json(claims(introspection.key)),
        Err(error) => TokenError::unavailable(&error).response(),
    };
    for (name, value) in caller.headers() {
        response.headers_mut().insert(name, value);
    }
    response
}

/// Checks the caller's own key: Bearer, or the password of Basic (RFC 6749 section 2.3.1). It may be limited to a network.
async fn check_caller(request: &HttpRequest, state: &GatewayState) -> Result<CheckedKey, Denied> {
    let pattern = request.match_pattern().unwrap_or_default();
    let facts = caller::facts(request).with_route(&pattern);
    let manager = &state.manager;
    if request.headers().get_all(header::AUTHORIZATION).count() > 1 {
        return Err(Denied::from(DenyReason::MultipleKeys));
    }
    match basic_password(request.headers()) {
        Some(password) => manager.check(&password, &CALLER, &facts).await,
        None => {
            const BEARER: Policy = CALLER.locations(&[KeyLocation::BEARER]);
            let headers = request.headers();
            manager.check_headers(headers, &BEARER, &facts).await
        }
    }
}

/// Returns the password of `Authorization: Basic`; empty if it cannot be read, and `None` for another scheme.
fn basic_password(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, rest) = value.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let decoded = BASE64_STANDARD.decode(rest.trim_ascii()).ok();
    let pair = decoded.and_then(|decoded| String::from_utf8(decoded).ok());
    let password = pair.and_then(|pair| {
        pair.split_once(':')
            .map(|(_, password)| password.to_owned())
    });
    Some(password.unwrap_or_default())
}

/// Returns the members of the answer (RFC 7662 section 2.2).
///
/// A key with networks or methods is not active: the request that it came with is not known, so it would be accepted from
/// everywhere.
fn claims(key: Option<KeyFacts>) -> Value {
    let Some(key) = key.filter(|key| key.networks.is_empty() && key.methods.is_empty()) else {
        return json!({ "active": false });
    };
    let seconds = |time: Timestamp| time.as_millis().div_euclid(1_000);
    // The secret ends with its grace.
    let end = [key.expires, key.superseded_until]
        .into_iter()
        .flatten()
        .min();
    let members = [
        ("active", Some(json!(true))),
        ("scope", Some(json!(key.scopes.to_string()))),
        ("client_id", Some(json!(key.id))),
        ("sub", key.owner.map(Value::from)),
        ("exp", end.map(|end| json!(seconds(end)))),
        ("iat", Some(json!(seconds(key.created)))),
        ("nbf", key.not_before.map(|time| json!(seconds(time)))),
        ("jti", Some(json!(key.id))),
        ("token_type", Some(json!("Bearer"))),
    ];
    let known = members
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(known.collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn password(value: &str) -> Option<String> {
        let request = TestRequest::default().insert_header(("Authorization", value));
        basic_password(request.to_http_request().headers())
    }

    #[test]
    fn a_basic_password_is_read_and_other_schemes_are_not() {
        let basic = |pair: &str| format!("bAsIc {}", BASE64_STANDARD.encode(pair));
        assert_eq!(password(&basic("apisix:key:1")).as_deref(), Some("key:1"));
        assert_eq!(password(&basic("apisix:")).as_deref(), Some(""));
        assert_eq!(password(&basic("key")).as_deref(), Some(""));
        assert_eq!(password("Basic ???").as_deref(), Some(""));
        assert_eq!(password("Basic /w==").as_deref(), Some(""));
        assert_eq!(password("Bearer key"), None);
        assert_eq!(password("Basic"), None);
    }
}
