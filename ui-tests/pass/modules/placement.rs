//! The attribute above and below every routing attribute, in modules and function bodies, and with
//! `web::get().to()`.

use actix_web::{
    App, HttpResponse, Responder, delete, get,
    middleware::{Compress, DefaultHeaders},
    post, route, routes, scope, web,
};
use apikey_runtime::api_key_required;

#[get("/below")]
#[api_key_required]
async fn below() -> impl Responder {
    "below"
}

#[api_key_required(fresh)]
#[get("/above/{id}")]
async fn above(id: web::Path<u32>) -> impl Responder {
    id.to_string()
}

#[post(
    "/wrapped",
    name = "wrapped",
    wrap = "DefaultHeaders::new()",
    wrap = "Compress::default()"
)]
#[api_key_required(scope = "orders:write")]
pub async fn wrapped(body: String) -> HttpResponse {
    HttpResponse::Ok().body(body)
}

#[api_key_required(scope = "orders:write")]
#[delete("/wrapped-above", wrap = "DefaultHeaders::new()")]
pub(crate) async fn wrapped_above(body: String) -> HttpResponse {
    HttpResponse::Ok().body(body)
}

#[route("/route", method = "GET", method = "HEAD", method = "PURGE")]
#[api_key_required(optional)]
async fn by_route() -> &'static str {
    "route"
}

#[routes]
#[get("/a")]
#[post("/b")]
#[api_key_required(optional)]
async fn by_routes() -> &'static str {
    "routes"
}

#[api_key_required(optional)]
#[routes]
#[get("/c")]
#[post("/d")]
async fn above_routes() -> &'static str {
    "routes"
}

#[scope("/api")]
mod api {
    use super::*;

    #[get("/orders")]
    #[api_key_required(scope = "orders:read")]
    pub async fn orders() -> impl Responder {
        "orders"
    }

    #[api_key_required(scope = "orders:read")]
    #[get("/more")]
    pub async fn more() -> impl Responder {
        "more"
    }

    pub mod deeper {
        use super::*;

        #[get("/deeper")]
        #[api_key_required(scope = "orders:read")]
        pub(in super::super) async fn orders() -> impl Responder {
            "orders"
        }

        #[api_key_required(scope = "orders:read")]
        pub(super) async fn plain() -> impl Responder {
            "plain"
        }
    }

    pub(super) async fn calls(guarded: web::Data<()>) -> impl Responder {
        let _ = (guarded, deeper::plain);
        "calls"
    }
}

#[api_key_required(environment = "live")]
async fn plain(query: web::Query<Vec<(String, String)>>) -> String {
    query.len().to_string()
}

#[get("/qualified")]
#[apikey_runtime::api_key_required(prefix = "adm")]
async fn qualified() -> &'static str {
    "qualified"
}

fn configure(config: &mut web::ServiceConfig) {
    #[get("/inside")]
    #[api_key_required(fresh)]
    async fn inside() -> &'static str {
        "inside"
    }

    #[api_key_required(fresh)]
    async fn unrouted() -> &'static str {
        "unrouted"
    }

    config
        .service(inside)
        .route("/unrouted", web::get().to(unrouted))
        .route("/plain", web::get().to(plain))
        .service(web::resource("/both").get(plain).post(unrouted));
}

pub(super) fn main() {
    let _ = App::new()
        .service(below)
        .service(above)
        .service(wrapped)
        .service(wrapped_above)
        .service(by_route)
        .service(by_routes)
        .service(above_routes)
        .service(api::orders)
        .service(api::more)
        .service(api::deeper::orders)
        .service(qualified)
        .route("/calls", web::get().to(api::calls))
        .configure(configure);
}
