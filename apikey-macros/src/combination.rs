//! Validates what the options and the handler must have in common.

use std::ops::Deref;

use proc_macro2::Span;
use quote::ToTokens;
use syn::{PathArguments, Type, TypePath};

use crate::{
    diagnostics::Errors, handler::Handler, route, surroundings::Surroundings, validate::Policy,
};

/// Rejects options that do not fit the handler, its routes, or the place where it stands. The
/// surroundings are read only if there are options.
pub(crate) fn check(
    policy: &Policy,
    handler: &Handler,
    surroundings: &impl Deref<Target = Surroundings>,
    errors: &mut Errors,
) {
    if policy.is_default() {
        return;
    }
    if surroundings.in_impl {
        let problem = "options do not work in an `impl` or a `trait`, since they add a type beside the handler";
        let remedy = "move the handler out of it, as in `async fn list(..)` in a module";
        errors.at(Span::call_site(), format!("{problem}; {remedy}"));
    }
    // The topmost guard decides last, and so what `ApiKey` is. Of one below it, the key is checked already.
    if policy.optional {
        let arguments = handler.arguments.iter();
        arguments.for_each(|argument| check_optional(&argument.extractor, policy, errors));
    }
    let (above, scopes) = (&surroundings.above, &surroundings.scopes);
    let routes = route::Routes::of(above, &handler.attributes, scopes);
    routes.check_templates(policy.scopes.as_ref(), errors);
}

/// Rejects `ApiKey`, also in a tuple, on a route that allows requests without a key.
fn check_optional(extractor: &Type, policy: &Policy, errors: &mut Errors) {
    match extractor {
        Type::Group(group) => check_optional(&group.elem, policy, errors),
        Type::Paren(paren) => check_optional(&paren.elem, policy, errors),
        Type::Tuple(tuple) => {
            let elements = tuple.elems.iter();
            elements.for_each(|element| check_optional(element, policy, errors));
        }
        Type::Path(path) if is_api_key(path, policy) => {
            let written = path.to_token_stream().to_string().replace(' ', "");
            let problem = format!(
                "`optional` allows requests without a key, for which `{written}` is an error"
            );
            let own = match path.path.get_ident() {
                Some(_) => ", or, if it is a type of your own, its path, as in `self::ApiKey`",
                None => "",
            };
            errors.on(path, format!("{problem}; write `Option<{written}>`{own}"));
        }
        _ => {}
    }
}

/// Returns whether a type is the runtime's `ApiKey`: the name alone, or in the runtime's crate. A
/// type of that name in another module is the application's own.
fn is_api_key(path: &TypePath, policy: &Policy) -> bool {
    let segments = &path.path.segments;
    let is_named = segments.last().is_some_and(|last| {
        last.ident == "ApiKey" && matches!(last.arguments, PathArguments::None)
    });
    let module = segments.iter().take(segments.len().saturating_sub(1));
    let module: Vec<_> = module.map(|segment| segment.ident.to_string()).collect();
    let module = module.join("::");
    let runtime = policy.krate.to_string().replace(' ', "");
    let of_runtime = ["", "apikey_runtime", runtime.trim_start_matches("::")];
    path.qself.is_none() && is_named && of_runtime.contains(&module.as_str())
}
