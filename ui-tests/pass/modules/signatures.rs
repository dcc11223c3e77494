//! All supported signatures.

use std::{
    future::{Future, Ready, ready},
    pin::Pin,
};

use actix_web::{
    App, Error, FromRequest, HttpRequest, HttpResponse, Responder, Result,
    error::ErrorBadRequest,
    web::{self, Bytes, Data, Form, Header, Json, Payload, Query},
};
use apikey_runtime::{ApiKey, api_key_required};

type Pairs = Vec<(String, String)>;

#[api_key_required]
async fn no_arguments() -> HttpResponse {
    HttpResponse::Ok().finish()
}

#[api_key_required(fresh)]
async fn patterns(
    Json(Order { item, count: _ }): Json<Order>,
    Form(mut form): Form<Pairs>,
    mut bytes: Bytes,
    _: HttpRequest,
    whole @ (_, _): (Query<Pairs>, Option<ApiKey>),
    (key, Query(query)): (ApiKey, Query<Pairs>),
) -> String {
    form.clear();
    let first = bytes.split_to(0);
    let _ = (key, first, query.len(), whole.0.len());
    format!("{item} {form:?}")
}

#[derive(serde::Deserialize)]
struct Order {
    item: String,
    count: u32,
}

#[api_key_required(fresh)]
async fn sixteen(
    _1: HttpRequest,
    _2: HttpRequest,
    _3: HttpRequest,
    _4: HttpRequest,
    _5: HttpRequest,
    _6: HttpRequest,
    _7: HttpRequest,
    _8: HttpRequest,
    _9: HttpRequest,
    _10: HttpRequest,
    _11: HttpRequest,
    _12: HttpRequest,
    _13: HttpRequest,
    _14: HttpRequest,
    _15: HttpRequest,
    _16: HttpRequest,
) -> HttpResponse {
    HttpResponse::Ok().finish()
}

trait Load: 'static {
    const NAME: &'static str;
}

struct Loader;

impl Load for Loader {
    const NAME: &'static str = "loader";
}

#[api_key_required(fresh)]
async fn generic<T, R: FromRequest, const N: usize>(loader: Data<T>, _rest: R) -> impl Responder
where
    T: Load,
    R::Error: Into<Error>,
{
    let _ = loader;
    format!("{} {N}", T::NAME)
}

// actix cannot infer its type, so it is only called directly.
#[allow(dead_code)]
#[api_key_required(fresh)]
async fn impl_argument(extractor: impl FromRequest + Into<String>) -> String {
    extractor.into()
}

#[api_key_required]
async fn result(query: Result<Query<Pairs>>, form: Option<Form<Pairs>>) -> Result<String> {
    if form.is_some() {
        return Err(ErrorBadRequest("no form"));
    }
    let Query(pairs) = query?;
    Ok(pairs.len().to_string())
}

#[api_key_required(fresh)]
async fn impl_responder_in_result(body: String) -> Result<impl Responder, Error> {
    let number: u32 = body.parse().map_err(ErrorBadRequest)?;
    Ok(Json(number))
}

#[api_key_required]
async fn lifetime_in_output<'a>() -> &'a str {
    "static"
}

#[api_key_required]
async fn precise<T: FromRequest>(_: T) -> impl Responder + use<T> {
    "precise"
}

#[api_key_required(optional)]
fn returns_impl_future(key: Option<ApiKey>) -> impl Future<Output = HttpResponse> {
    let known = key.is_some();
    async move { HttpResponse::Ok().body(known.to_string()) }
}

#[api_key_required(optional)]
fn returns_box(mut body: Bytes) -> Pin<Box<dyn Future<Output = Bytes>>> {
    Box::pin(async move { body.split_to(0) })
}

#[api_key_required(optional)]
fn returns_ready() -> Ready<&'static str> {
    ready("ready")
}

type Answer = Ready<String>;

#[api_key_required(optional)]
fn returns_alias(body: String) -> Answer {
    ready(body)
}

#[api_key_required(fresh)]
async fn r#type(r#match: String, Header(r#ref): Header<actix_web::http::header::Accept>) -> String {
    let _ = r#ref;
    r#match
}

#[api_key_required(fresh)]
async fn número(größe: String) -> String {
    größe
}

#[rustfmt::skip]
#[api_key_required(fresh,)]
async fn trailing_commas(_a: Bytes, _b: String,) -> String { _b }

#[api_key_required(fresh)]
async fn diverges(_payload: Payload) -> HttpResponse {
    if true {
        return HttpResponse::Ok().finish();
    }
    unreachable!()
}

#[api_key_required(fresh)]
async fn inner_attributes(body: String) -> String {
    #![allow(unused_mut)]
    let mut unused = body;
    unused
}

#[api_key_required(fresh)]
#[inline]
#[must_use]
#[doc(alias = "answer")]
async fn other_attributes() -> String {
    String::new()
}

/// A handler with an example.
///
/// ```
/// assert_eq!(1 + 1, 2);
/// ```
#[api_key_required(fresh)]
pub async fn documented() -> String {
    String::new()
}

pub(super) fn main() {
    let _ = App::new()
        .route("/1", web::get().to(no_arguments))
        .route("/2", web::get().to(patterns))
        .route("/3", web::get().to(sixteen))
        .route("/4", web::get().to(generic::<Loader, String, 4>))
        .route("/6", web::get().to(result))
        .route("/7", web::get().to(impl_responder_in_result))
        .route("/8", web::get().to(lifetime_in_output))
        .route("/9", web::get().to(precise::<String>))
        .route("/10", web::get().to(returns_impl_future))
        .route("/11", web::get().to(returns_box))
        .route("/12", web::get().to(returns_ready))
        .route("/13", web::get().to(returns_alias))
        .route("/14", web::get().to(r#type))
        .route("/15", web::get().to(número))
        .route("/16", web::get().to(trailing_commas))
        .route("/17", web::get().to(diverges))
        .route("/18", web::get().to(inner_attributes))
        .route("/19", web::get().to(other_attributes))
        .route("/20", web::get().to(documented));
}
