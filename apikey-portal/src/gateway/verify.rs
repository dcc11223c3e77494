//! `/verify` and `/verify-rule`: whether the key of a request that reached a gateway is accepted.

use actix_web::{HttpRequest, HttpResponse, web};
use apikey_runtime::Policy;
use apikey_runtime::manager::RequestFacts;

use super::answer;
use super::state::GatewayState;

/// Adds the routes. A gateway calls with any method.
pub(super) fn routes(app: &mut web::ServiceConfig) {
    app.service(web::resource("/verify").to(verify))
        // Patterns for the rest of the path would take longer than the check.
        .service(web::scope("/verify-rule").default_service(web::to(verify_rule)));
}

/// Checks a request by the demands in the query.
async fn verify(request: HttpRequest, state: web::Data<GatewayState>) -> HttpResponse {
    let demands = match state.demands.get(request.query_string()) {
        Ok(demands) => demands,
        Err(fault) => {
            if state.faults.is_due(fault) {
                tracing::error!("the gateway's call of `/verify` is wrong: {fault}");
            }
            return answer::misconfigured(&request);
        }
    };
    let policy = Policy::new().cost(demands.cost);
    let facts = facts(&request, &state)
        .with_route(&state.verify_label)
        .with_required_scopes(&demands.scopes);
    let response = check(&request, &state, &policy, &facts).await;
    match demands.for_nginx && !response.status().is_success() {
        true => answer::fold_for_nginx(response, &state.manager, &policy),
        false => response,
    }
}

/// Checks a request by a rule. The rest of the path and the query are the client's, and are not considered.
async fn verify_rule(request: HttpRequest, state: web::Data<GatewayState>) -> HttpResponse {
    let path = request.match_info().unprocessed();
    let name = path
        .strip_prefix('/')
        .and_then(|path| path.split('/').next());
    let Some(named) = state.rules.iter().find(|one| Some(&*one.name) == name) else {
        const FAULT: &str = "the gateway's call of `/verify-rule` names a rule that there is not; \
             write `Gateway::rule` with its name, or correct the gateway's configuration";
        if state.faults.is_due(FAULT) {
            tracing::error!("{FAULT}");
        }
        return answer::misconfigured(&request);
    };
    let mut facts = facts(&request, &state).with_route(&named.label);
    // An unknown client: whoever calls is not known to be a gateway.
    if named.rule.own_method && facts.address().is_some() {
        facts = facts.with_method(request.method().as_str());
    }
    check(&request, &state, &named.rule.policy, &facts).await
}

/// Returns the facts of the original request.
fn facts<'a>(request: &'a HttpRequest, state: &GatewayState) -> RequestFacts<'a> {
    let facts = RequestFacts::of_original(request);
    if facts.address().is_none() {
        state.unknown_clients.call_once(|| {
            tracing::warn!(
                peer = ?request.peer_addr(),
                "a gateway does not say who its client is, so keys and rules that depend on the request are denied, \
                 and the failed attempts of one client block all; \
                 write the gateway's address in `trusted_proxies`, and let it write the header `forwarded_header`"
            );
        });
    }
    facts
}

async fn check(
    request: &HttpRequest,
    state: &GatewayState,
    policy: &Policy,
    facts: &RequestFacts<'_>,
) -> HttpResponse {
    let manager = &state.manager;
    match manager
        .check_headers(request.headers(), policy, facts)
        .await
    {
        Ok(checked) => answer::accepted(&checked),
        Err(denied) => answer::denied(request, &denied, manager, policy),
    }
}
