//! Lint attributes of the function and its arguments stay in effect: each `expect` is met.

#![deny(warnings)]

use actix_web::{App, web};
use apikey_runtime::api_key_required;

#[api_key_required(fresh)]
#[expect(unused_variables)]
async fn on_the_function(body: String) -> &'static str {
    "ok"
}

#[expect(unused_variables)]
#[api_key_required(fresh)]
async fn above_the_attribute(body: String) -> &'static str {
    "ok"
}

#[expect(non_snake_case)]
#[api_key_required(fresh)]
async fn Named(Body: String) -> String {
    Body
}

#[expect(dead_code)]
#[api_key_required(fresh)]
async fn never_used() -> &'static str {
    "ok"
}

#[allow(clippy::unused_async)]
#[api_key_required(fresh)]
async fn of_a_tool(body: String) -> String {
    body
}

#[api_key_required(fresh)]
async fn on_arguments(
    #[expect(unused_variables)] body: String,
    used: web::Data<String>,
    #[expect(unused_mut)]
    #[allow(non_snake_case)]
    mut Bytes: web::Bytes,
    #[cfg_attr(all(), allow(unused_variables))] web::Query(query): web::Query<
        Vec<(String, String)>,
    >,
    #[warn(unused)]
    #[deny(unused)]
    last: String,
) -> String {
    #![allow(clippy::all)]
    format!("{used:?} {Bytes:?} {last}")
}

#[api_key_required(fresh)]
async fn the_last_expression_may_borrow_an_argument(
    #[allow(unused)] lock: web::Data<std::sync::Mutex<String>>,
) -> String {
    lock.lock().unwrap().clone()
}

pub(super) fn main() {
    let _ = App::new()
        .route("/1", web::get().to(on_the_function))
        .route("/2", web::get().to(above_the_attribute))
        .route("/3", web::get().to(Named))
        .route("/4", web::get().to(on_arguments))
        .route("/5", web::get().to(of_a_tool))
        .route(
            "/6",
            web::get().to(the_last_expression_may_borrow_an_argument),
        );
}
