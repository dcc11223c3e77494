//! The registration of a handler for `apikey_runtime::routes()`.

use quote::{quote, quote_spanned};
use syn::ext::IdentExt;

use crate::{
    expand, handler::Handler, route::Routes, surroundings::Surroundings, validate::Policy,
};

/// Puts the registration of a guard at the start of its handler's body, where an `impl` allows an
/// item too.
pub(crate) fn add(
    policy: &Policy,
    handler: &mut Handler,
    fingerprint: u64,
    surroundings: &Surroundings,
) {
    let krate = &policy.krate;
    let policy = expand::policy_path(policy, handler, fingerprint);
    let name = handler.name.unraw().to_string();
    // `line!` is the line of its own tokens, or of the macro call that they come from.
    let span = handler.name.span();
    let place = quote_spanned!(span=> ::core::file!(), ::core::line!(), ::core::column!());
    // Larger for each guard further up, also if the attribute was imported under another name.
    let below = handler.attributes.len();
    let (above, scopes) = (&surroundings.above, &surroundings.scopes);
    let routes = Routes::of(above, &handler.attributes, scopes);
    let pairs = routes
        .pairs()
        .into_iter()
        .map(|(method, pattern)| quote!((#method, #pattern)));
    let rest = &handler.body.rest;
    handler.body.rest = quote! {
        #krate::__private::inventory::submit! {
            #krate::__private::RouteRegistration {
                module: ::core::module_path!(),
                name: #name,
                place: (#place),
                attributes_below: #below,
                policy: <#policy as #krate::__private::RoutePolicy>::POLICY,
                routes: &[#(#pairs),*],
            }
        }
        #rest
    };
}
