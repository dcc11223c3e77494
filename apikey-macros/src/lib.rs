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
mod openapi;
mod options;
mod registration;
mod route;
mod scopes;
mod surroundings;
#[cfg(test)]
mod tests;
mod validate;
mod values;

use std::cell::LazyCell;

use proc_macro2::TokenStream;
use quote::quote;

use crate::{diagnostics::Errors, openapi::Documented, surroundings::Surroundings};

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
/// are errors. With the runtime's feature `openapi`, `#[utoipa::path]` works above and below it, and
/// documents what the guard demands.
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
    guard(
        arguments.into(),
        item.into(),
        surroundings,
        Features::OF_BUILD,
    )
    .into()
}

/// What the runtime's features add to an expansion.
#[derive(Clone, Copy, Default)]
struct Features {
    /// Whether handlers register themselves for `routes()`.
    routes: bool,
    /// Whether guards write themselves into `#[utoipa::path]`, or register themselves for documents.
    openapi: bool,
}

impl Features {
    const OF_BUILD: Self = Self {
        routes: cfg!(feature = "routes"),
        openapi: cfg!(feature = "openapi"),
    };
}

/// Returns the guarded item, or the unchanged item and all errors so that editors keep working.
fn guard(
    arguments: TokenStream,
    item: TokenStream,
    surroundings: impl FnOnce() -> Surroundings,
    features: Features,
) -> TokenStream {
    try_guard(arguments, item.clone(), surroundings, features).unwrap_or_else(|errors| {
        let errors = errors.into_compile_errors();
        quote!(#item #errors)
    })
}

fn try_guard(
    arguments: TokenStream,
    item: TokenStream,
    surroundings: impl FnOnce() -> Surroundings,
    features: Features,
) -> Result<TokenStream, Errors> {
    let surroundings = LazyCell::new(surroundings);
    let mut errors = Errors::default();
    let (documented, arguments) = Documented::take(arguments, features);
    let options = args::parse(arguments.clone(), &mut errors);
    let policy = validate::check(options, &mut errors);
    let handler = errors
        .keep(function::parse(item.clone()))
        .and_then(|function| handler::check(function, features, &mut errors));
    if let Some(handler) = &handler {
        combination::check(&policy, handler, &surroundings, &mut errors);
    }
    match handler {
        Some(mut handler) if errors.is_empty() => {
            if features.openapi
                && let Some(hoisted) = openapi::hoist(&arguments, item, &policy, &handler)
            {
                return Ok(hoisted);
            }
            let named = documented.and_then(Documented::named);
            let fingerprint =
                named.unwrap_or_else(|| expand::fingerprint(&arguments, handler.attributes.len()));
            if features.routes {
                registration::add(&policy, &mut handler, fingerprint, &surroundings);
            }
            if features.openapi
                && named.is_none()
                && let Some(documented) =
                    documented.or_else(|| Documented::around(&surroundings, &handler.attributes))
            {
                openapi::register(&policy, &mut handler, fingerprint, documented);
            }
            Ok(expand::expand(&policy, &handler, fingerprint))
        }
        _ => Err(errors),
    }
}
