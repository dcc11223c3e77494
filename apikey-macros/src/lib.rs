//! The `#[api_key_required]` attribute for actix-web. Use it through `apikey-runtime`, which re-exports
//! it and holds all that the generated code needs.

#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        reason = "a test that cannot go on has failed"
    )
)]

mod args;
mod attributes;
mod diagnostics;
mod expand;
mod function;
mod handler;
mod limits;
mod locations;
mod methods;
mod options;
mod scopes;
#[cfg(test)]
mod tests;
mod validate;
mod values;

use proc_macro2::TokenStream;
use quote::quote;

use crate::diagnostics::Errors;

/// Guards a handler: it runs only for a key that is known, live and allowed.
///
/// The key is checked before anything else of the request is touched: no extractor of the handler runs for
/// a request that is refused, and no byte of its body is read. Only where the key itself may stand in the
/// body (`json`, `form`) is that read first.
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
/// # Where it stands
///
/// Last, right above `async fn`. Attributes above it see the handler's own arguments, and what they add
/// is guarded too. Routing attributes (`#[get]`, `#[route]`, `#[routes]`) may stand above or below it;
/// `#[protect]` and `#[utoipa::path]` below it are an error.
///
/// It works on functions inside modules (under `#[actix_web::scope]` too), function bodies and macros. In
/// an `impl` only the plain attribute works, on a function without `self`: with options it adds a type
/// next to the function, and an `impl` cannot hold one.
///
/// # Two on one handler
///
/// Both are enforced, from the lowest to the topmost. The key that `ApiKey` yields is the one that the
/// topmost let through, which is checked last.
///
#[doc = include_str!("../OPTIONS.md")]
///
/// # What it expands to
///
/// ```text
/// async fn list(
///     Guarded((key, page,), ..): Guarded<ThePolicy, (ApiKey, web::Query<Page>,)>,
/// ) -> impl Responder {
///     // ..
/// }
/// ```
///
/// `Guarded` is the only argument that actix sees; it starts the extractors of the tuple after the check.
/// Names, docs, generics, where clauses, lint attributes and the body stay as written. An argument with a
/// lint attribute of its own is taken apart by a `let` in front of the body. A test calls such a handler
/// as `list(Guarded::for_test((key, page))).await`.
#[proc_macro_attribute]
pub fn api_key_required(
    arguments: proc_macro::TokenStream,
    item: proc_macro::TokenStream,
) -> proc_macro::TokenStream {
    guard(arguments.into(), item.into()).into()
}

/// The guarded item; or all errors, with the item as it was so that an editor keeps working.
fn guard(arguments: TokenStream, item: TokenStream) -> TokenStream {
    try_guard(arguments, item.clone()).unwrap_or_else(|errors| {
        let errors = errors.into_compile_errors();
        quote!(#item #errors)
    })
}

fn try_guard(arguments: TokenStream, item: TokenStream) -> Result<TokenStream, Errors> {
    let mut errors = Errors::default();
    let options = args::parse(arguments.clone(), &mut errors);
    let policy = validate::check(options, &mut errors);
    let handler = errors
        .keep(function::parse(item))
        .and_then(|function| handler::check(function, &mut errors));
    match handler {
        Some(handler) if errors.is_empty() => {
            let fingerprint = expand::fingerprint(&arguments, handler.attributes.len());
            Ok(expand::expand(&policy, &handler, fingerprint))
        }
        _ => Err(errors),
    }
}
