//! Two guards on one handler, in every order and under other names: M-12.

use actix_web::{App, get, web};
use apikey_runtime::{api_key_required, api_key_required as admin, api_key_required as user};

#[api_key_required(scope = "a")]
#[api_key_required(scope = "b")]
async fn stacked(_body: String) -> &'static str {
    "stacked"
}

#[api_key_required(rate_limit = "100/hour")]
#[get("/rates")]
#[api_key_required(rate_limit = "10/minute")]
async fn rates() -> &'static str {
    "rates"
}

#[api_key_required]
#[api_key_required]
async fn plain() -> &'static str {
    "plain"
}

#[api_key_required(scope = "a")]
#[get("/between")]
#[api_key_required(scope = "b")]
async fn between(_body: String) -> &'static str {
    "between"
}

#[api_key_required(fresh)]
#[get("/same")]
#[api_key_required(fresh)]
async fn same_options(_body: String) -> &'static str {
    "same"
}

#[admin(scope = "admin")]
#[get("/aliases")]
#[user(scope = "user")]
async fn aliases(_body: String) -> &'static str {
    "aliases"
}

#[admin(fresh)]
#[user(fresh)]
async fn stacked_aliases() -> &'static str {
    "aliases"
}

#[admin(scope = "admin")]
#[cfg_attr(all(), get("/conditional"), user(scope = "admin"))]
async fn conditional() -> &'static str {
    "conditional"
}

#[get("/three")]
#[admin(scope = "a")]
#[user(scope = "b")]
#[api_key_required(scope = "a")]
async fn three() -> &'static str {
    "three"
}

pub(super) fn main() {
    let _ = App::new()
        .route("/stacked", web::get().to(stacked))
        .route("/plain", web::get().to(plain))
        .service(between)
        .service(rates)
        .service(same_options)
        .service(aliases)
        .route("/aliases", web::get().to(stacked_aliases))
        .service(conditional)
        .service(three);
}
