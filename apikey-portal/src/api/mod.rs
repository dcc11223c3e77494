//! The API for programs: JSON under `/v1`, and its OpenAPI document.

mod actions;
mod answer;
mod body;
mod bulk;
mod caller;
mod change;
mod fields;
mod keys;
mod own;
mod problem;
mod query;
mod reports;
mod restrictions;
mod version;

use actix_web::dev::ServiceRequest;
use actix_web::http::header::{self, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpResponse, Resource, ResponseError as _, Route, guard, web};

use crate::error::PageError;
use crate::path_part;
use problem::ApiError;

/// The description of the API, which `tests/portal` compares with its answers.
const DOCUMENT: &str = include_str!("../../openapi.json");

/// A path of the API, relative to `/v1`, and what it answers.
struct ApiPath {
    path: &'static str,
    routes: Vec<(Method, Route)>,
}

impl ApiPath {
    fn new(path: &'static str) -> Self {
        let routes = Vec::new();
        Self { path, routes }
    }

    fn on(mut self, method: Method, route: Route) -> Self {
        self.routes.push((method, route));
        self
    }

    fn get(self, route: Route) -> Self {
        self.on(Method::GET, route)
    }

    fn post(self, route: Route) -> Self {
        self.on(Method::POST, route)
    }

    /// Returns the resource. Another method is answered with 405 and the methods that there are.
    fn resource(self) -> Resource {
        let mut allowed: Vec<&str> = Vec::new();
        let mut resource = web::resource(path_part::named(self.path));
        for (method, _) in &self.routes {
            allowed.push(method.as_str());
            allowed.extend((*method == Method::GET).then_some("HEAD"));
        }
        let allowed = allowed.join(", ");
        for (method, route) in self.routes {
            resource = resource.route(match method {
                Method::GET => route.guard(guard::Any(guard::Get()).or(guard::Head())),
                method => route.method(method),
            });
        }
        resource.default_service(web::to(move || {
            let error = method_not_allowed(&allowed);
            async move { error.error_response() }
        }))
    }
}

/// Returns all paths of the API.
fn paths() -> Vec<ApiPath> {
    vec![
        ApiPath::new("/keys")
            .get(web::to(keys::list))
            .post(web::to(keys::create)),
        ApiPath::new("/keys:revoke").post(web::to(bulk::revoke)),
        ApiPath::new("/keys/{id}")
            .get(web::to(keys::show))
            .on(Method::PATCH, web::to(change::patch)),
        ApiPath::new("/keys/{id}/rotate").post(web::to(actions::rotate)),
        ApiPath::new("/keys/{id}/revoke").post(web::to(actions::revoke)),
        ApiPath::new("/keys/{id}/enable").post(web::to(actions::enable)),
        ApiPath::new("/keys/{id}/disable").post(web::to(actions::disable)),
        ApiPath::new("/keys/{id}/usage").get(web::to(reports::usage)),
        ApiPath::new("/keys/{id}/audit").get(web::to(reports::key_audit)),
        ApiPath::new("/owners/{owner}/suspend").post(web::to(bulk::suspend)),
        ApiPath::new("/owners/{owner}/resume").post(web::to(bulk::resume)),
        ApiPath::new("/audit").get(web::to(reports::audit)),
        #[cfg(feature = "routes")]
        ApiPath::new("/routes").get(web::to(reports::routes)),
        ApiPath::new("/health").get(web::to(reports::health)),
        ApiPath::new("/self").get(web::to(own::show)),
        ApiPath::new("/self/revoke").post(web::to(own::revoke)),
    ]
}

/// Adds the routes of the API.
pub(crate) fn routes(app: &mut web::ServiceConfig) {
    let mut scope = web::scope("/v1").app_data(web::PayloadConfig::new(body::MAX_BODY));
    for path in paths() {
        scope = scope.service(path.resource());
    }
    app.service(scope.default_service(web::to(async || ApiError::not_found().error_response())))
        .service(
            ApiPath::new("/openapi.json")
                .get(web::to(document))
                .resource(),
        );
}

/// Answers with the OpenAPI document. Its server is relative to the document's own URL.
async fn document() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("application/json")
        .body(DOCUMENT)
}

fn method_not_allowed(allowed: &str) -> ApiError {
    let error = ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method-not-allowed",
        "Method not allowed",
        "`Allow` names the methods that there are.",
    );
    match HeaderValue::from_str(allowed) {
        Ok(allowed) => error.with_header(header::ALLOW, allowed),
        Err(_not_a_value) => error,
    }
}

/// Returns whether a request is to the API, and not to a page.
pub(crate) fn is_called(request: &ServiceRequest) -> bool {
    let path = request.match_info().unprocessed();
    path == "/openapi.json" || path == "/v1" || path.starts_with("/v1/")
}

/// Returns the answer of the API to a request that the portal itself refuses.
pub(crate) fn refusal(error: &PageError) -> HttpResponse {
    ApiError::from(error).error_response()
}

/// Logs an answer of the API that is a failure, with the id of its request.
pub(crate) fn log(request_id: &str, status: StatusCode) {
    if status.is_server_error() {
        tracing::warn!(
            request_id,
            status = status.as_u16(),
            "a request to the portal's API failed"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    #[test]
    fn the_document_has_the_paths_that_are_served() {
        let document: Value = serde_json::from_str(super::DOCUMENT).unwrap();
        let documented = document["paths"].as_object().unwrap().iter();
        let documented = documented.flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().keys();
            methods.map(move |method| format!("{} {path}", method.to_uppercase()))
        });
        let served = super::paths().into_iter().flat_map(|one| {
            let methods = one.routes.into_iter().map(|(method, _)| method);
            methods.map(move |method| format!("{method} {}", one.path))
        });
        let mut documented: BTreeSet<String> = documented.collect();
        if cfg!(not(feature = "routes")) {
            documented.remove("GET /routes");
        }
        assert_eq!(documented, served.collect());
    }
}
