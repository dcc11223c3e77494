//! Templates of scopes that a route of the handler does not have.

use actix_web::{get, post, route, routes};
use apikey_runtime::api_key_required;

#[get("/orders/{id}")]
#[api_key_required(scope = "order:{order_id}")]
async fn above() -> &'static str {
    "ok"
}

#[api_key_required(scopes = all("a", not("order:{ids}:{id}")))]
#[post("/orders/{id:[0-9]{2}}/{tail}*")]
async fn below() -> &'static str {
    "ok"
}

#[routes]
#[get("/orders/{id}")]
#[get("/order")]
#[api_key_required(scope = "order:{id}")]
async fn in_one_of_two() -> &'static str {
    "ok"
}

#[api_key_required(scope = "order:{id}")]
#[route("/orders/{ID}", method = "GET", method = "POST")]
async fn other_case() -> &'static str {
    "ok"
}

mod inner {
    use actix_web::get;

    /// Docs.
    #[allow(unused)]
    #[get(r"/orders/{id}")]
    #[apikey_runtime::api_key_required(
        fresh,
        scope = "order:{order}",
    )]
    async fn indented() -> &'static str {
        "ok"
    }
}

#[actix_web::scope("/orgs/{id}")]
mod around {
    use actix_web::get;

    #[apikey_runtime::api_key_required(scope = "user:{id}")]
    #[get("/users/{id}")]
    async fn twice() -> &'static str {
        "ok"
    }

    #[get("/teams/{team}")]
    #[apikey_runtime::api_key_required(scope = "org:{id}:{team}")]
    async fn once() -> &'static str {
        "ok"
    }

    #[apikey_runtime::api_key_required(scope = "org:{id}:{name}")]
    #[get("/names/{name}")]
    async fn once_below() -> &'static str {
        "ok"
    }
}

fn main() {}
