//! The `#[api_key_required]` attribute for actix-web.
//!
//! Use it through `apikey-runtime`, which re-exports it and contains everything that the generated
//! code refers to.

#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        reason = "a test that cannot continue has failed"
    )
)]

mod args;
mod attributes;
mod combination;
mod diagnostics;
mod expand;
mod function;
mod handler;
mod limits;
mod locations;
mod methods;
mod options;
mod route;
mod scopes;
mod surroundings;
#[cfg(test)]
mod tests;
mod validate;
mod values;

use proc_macro2::TokenStream;
use quote::quote;

use crate::{diagnostics::Errors, surroundings::Surroundings};

/// Guards a handler, so that it runs only for a key that is known, active and allowed.
///
/// The key is checked before any other part of the request is processed. If the request is denied,
/// no extractor of the handler runs and the body is not read. The only exceptions are routes with
/// a `json` or `form` location, which may read the body to find the key.
///
/// ```text
/// use actix_web::{Responder, get, web};
/// use apikey_runtime::{ApiKey, api_key_required};
///
/// #[get("/orders")]
/// #[api_key_required(scope = "orders:read")]
/// async fn list(key: ApiKey, page: web::Query<Page>) -> impl Responder {
///     // ..
/// }
/// ```
///
/// # Placement
///
/// Place the attribute last, directly above `async fn`. Attributes above it see the handler's own
/// arguments, and arguments that they add are guarded too. Routing attributes (`#[get]`,
/// `#[route]`, `#[routes]`) work above and below it. `#[protect]` and `#[utoipa::path]` below it
/// are errors.
///
/// The attribute works on functions in modules (including those under `#[actix_web::scope]`), in
/// function bodies and in macros. In an `impl` it works on functions without `self`, and without
/// options other than `crate`: options add a type beside the function, and an `impl` cannot contain
/// one.
///
/// # Several on one handler
///
/// All of them are enforced, from the lowest to the topmost. `ApiKey` yields the key that the
/// topmost attribute allowed, because that one is checked last.
///
#[doc = include_str!("../OPTIONS.md")]
///
/// # Expansion
///
/// ```text
/// async fn list(
///     Guarded((key, page,), ..): Guarded<ThePolicy, (ApiKey, web::Query<Page>,)>,
/// ) -> impl Responder {
///     // ..
/// }
/// ```
///
/// `Guarded` is the only argument that actix sees. It starts the extractors of the tuple after the
/// check. Names, docs, generics, `where` clauses, lint attributes and the body stay as written. An
/// argument that has its own lint attribute is destructured by a `let` before the body. A test
/// calls the handler as `list(Guarded::for_test((key, page))).await`.
#[proc_macro_attribute]
pub fn api_key_required(
    arguments: proc_macro::TokenStream,
    item: proc_macro::TokenStream,
) -> proc_macro::TokenStream {
    let surroundings = || Surroundings::of(proc_macro::Span::call_site());
    guard(arguments.into(), item.into(), surroundings).into()
}

/// Returns the guarded item, or the unchanged item and all errors so that editors keep working.
fn guard(
    arguments: TokenStream,
    item: TokenStream,
    surroundings: impl FnOnce() -> Surroundings,
) -> TokenStream {
    try_guard(arguments, item.clone(), surroundings).unwrap_or_else(|errors| {
        let errors = errors.into_compile_errors();
        quote!(#item #errors)
    })
}

fn try_guard(
    arguments: TokenStream,
    item: TokenStream,
    surroundings: impl FnOnce() -> Surroundings,
) -> Result<TokenStream, Errors> {
    let mut errors = Errors::default();
    let options = args::parse(arguments.clone(), &mut errors);
    let policy = validate::check(options, &mut errors);
    let handler = errors
        .keep(function::parse(item))
        .and_then(|function| handler::check(function, &mut errors));
    if let Some(handler) = &handler {
        combination::check(&policy, handler, surroundings, &mut errors);
    }
    match handler {
        Some(handler) if errors.is_empty() => {
            let fingerprint = expand::fingerprint(&arguments, handler.attributes.len());
            Ok(expand::expand(&policy, &handler, fingerprint))
        }
        _ => Err(errors),
    }
}
