//! Templates of scopes whose parameters the routes have, or cannot be seen to lack.

use actix_web::{App, get, post, routes, web};
use apikey_runtime::api_key_required;

/// The parameter is in a scope around the route, so its template is in a `const`.
const TENANT: &str = "tenant:{tenant}:read";

#[get("/items/{id}")]
#[api_key_required(scopes = all(TENANT, "item:{id}"))]
async fn of_a_scope() -> &'static str {
    "ok"
}

#[api_key_required(scope = "item:{id}:{tail}")]
#[post("/items/{id:\\d{2}}/{tail}*")]
async fn below() -> &'static str {
    "ok"
}

#[routes]
#[get("/items/{id}")]
#[get("/things/{id}")]
#[api_key_required(scope = "item:{id}")]
async fn in_both() -> &'static str {
    "ok"
}

const PATH: &str = "/elsewhere";

mod routing {
    pub(crate) use apikey_runtime::api_key_required as get;
}

/// Not a routing attribute of actix-web, and without a pattern.
#[routing::get(fresh)]
#[api_key_required(scope = "item:{id}")]
async fn without_a_pattern() -> &'static str {
    PATH
}

mod tracing_of_another_crate {
    pub(crate) use apikey_runtime::api_key_required as trace;
}

/// A path of another crate is not a route, whatever its last name.
#[tracing_of_another_crate::trace(prefix = "adm")]
#[api_key_required(scope = "item:{id}")]
async fn traced() -> &'static str {
    "ok"
}

#[actix_web::scope("/projects/{project_id}")]
mod projects {
    use actix_web::{get, post};
    use apikey_runtime::api_key_required;

    #[get("/items/{id}")]
    #[api_key_required(scope = "project:{project_id}:{id}")]
    async fn above() -> &'static str {
        "ok"
    }

    #[api_key_required(scope = "project:{project_id}:{id}")]
    #[post("/items/{id}")]
    async fn below() -> &'static str {
        "ok"
    }
}

pub(super) fn main() {
    let _ = App::new()
        .service(projects::above)
        .service(projects::below)
        .route("/traced/{id}", web::get().to(traced))
        .service(web::scope("/{tenant}").service(of_a_scope))
        .service(below)
        .service(in_both)
        .route("/{id}", web::get().to(without_a_pattern));
}
