//! Moves `#[utoipa::path]` above the guard that stands above it.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::{Attribute, Meta};

use super::{
    Author, Documented, is_other,
    path_attribute::{self, Split},
    path_type,
    security::Security,
};
use crate::{
    args,
    attributes::{self, CfgAttr},
    diagnostics::Errors,
    expand,
    handler::Handler,
    validate::{self, Policy},
};

/// Returns the handler with `#[utoipa::path]` above its guards; `None` if it does not have one.
///
/// Only `#[utoipa::path]` moves, with copies of the `cfg`s that it stood below. So the guards, and
/// those among them that were imported under another name, keep their order.
pub(crate) fn hoist(
    arguments: &TokenStream,
    item: TokenStream,
    policy: &Policy,
    handler: &Handler,
) -> Option<TokenStream> {
    let is_path = |attribute: &Attribute| {
        let paths = attributes::paths(&attribute.meta);
        paths.iter().any(attributes::is_utoipa_path)
    };
    let last = handler.attributes.iter().rposition(is_path)?;
    let below: Vec<_> = handler.attributes.iter().map(guard).collect();
    let guards = [policy].into_iter().chain(below.iter().flatten());
    let mut security = Security::of(&guards.collect::<Vec<_>>());
    let mut attributes = handler.attributes.iter();
    let has_type = attributes.any(|attribute| path_attribute::makes_type(&attribute.meta));
    let has_security = handler
        .attributes
        .iter()
        .any(|attribute| path_attribute::has_security(&attribute.meta));
    let is_alone = has_type && !has_security && is_alone(policy, handler);
    let named = is_alone.then(|| expand::fingerprint(arguments, handler.attributes.len()));
    if let Some(fingerprint) = named {
        let (krate, path_type) = (&policy.krate, path_type(handler));
        let policy = expand::policy_path(policy, handler, fingerprint);
        security.responses = quote!(#krate::__private::GuardResponses<#policy, #path_type>);
    }
    let parts = handler.attributes.iter();
    let parts: Vec<_> = parts
        .map(|attribute| path_attribute::split(&attribute.meta, &security))
        .collect();
    let documented = Documented {
        author: Some(if has_security {
            Author::Application
        } else {
            Author::Attribute
        }),
        has_type,
        named,
    };
    let cfgs = attributes::cfgs(&handler.attributes[..last]);
    let paths = handler.attributes.iter().zip(&parts);
    let paths = paths.filter_map(|(attribute, part)| Some(with(attribute, part.path.as_ref()?)));
    let rest = handler.attributes.iter().zip(&parts).zip(&below);
    let rest = rest.map(|((attribute, part), guard)| match guard {
        Some(_) => marked(attribute, documented),
        None => kept(attribute, part),
    });
    let function = without_attributes(item, handler.attributes.len());
    let krate = &policy.krate;
    let mark = documented.mark();
    Some(quote! {
        #(#cfgs)*
        #(#paths)*
        #[#krate::__private::api_key_required(#mark #arguments)]
        #(#rest)*
        #function
    })
}

/// Returns whether a guard is the only one of its handler, and does not need a scheme of its own, which a
/// document may need before it has operations.
fn is_alone(policy: &Policy, handler: &Handler) -> bool {
    policy.locations.is_empty()
        && handler.attributes.iter().all(|attribute| {
            let is_known = is_other(attribute) || attributes::is_utoipa_path(attribute.path());
            is_known && !attributes::is_guard(attribute.path())
        })
}

/// Returns the function of an item. Each of its attributes is a `#` and a group.
fn without_attributes(item: TokenStream, attributes: usize) -> TokenStream {
    let mut tokens: Vec<_> = item.into_iter().collect();
    // What a macro received as `$item:item`.
    while let [TokenTree::Group(group)] = tokens.as_slice()
        && group.delimiter() == Delimiter::None
    {
        tokens = group.stream().into_iter().collect();
    }
    tokens.into_iter().skip(2 * attributes).collect()
}

/// Returns an attribute without its `utoipa::path`.
fn kept(attribute: &Attribute, part: &Split) -> TokenStream {
    match (&part.path, &part.rest) {
        (None, _) => quote!(#attribute),
        (Some(_), Some(rest)) => with(attribute, rest),
        (Some(_), None) => TokenStream::new(),
    }
}

/// Returns an attribute with another content, on its own span.
fn with(attribute: &Attribute, content: &TokenStream) -> TokenStream {
    let mut tokens = attribute.pound_token.to_token_stream();
    let brackets = &attribute.bracket_token;
    brackets.surround(&mut tokens, |inside| inside.extend(content.clone()));
    tokens
}

/// Returns the policy of a guard below, if it is one, and is valid. One in a `cfg_attr` may be
/// absent, and is found at run time, as are those with another name.
fn guard(attribute: &Attribute) -> Option<Policy> {
    if !attributes::is_guard(attribute.meta.path()) || CfgAttr::of(&attribute.meta).is_some() {
        return None;
    }
    let mut errors = Errors::default();
    let options = args::parse(arguments(attribute), &mut errors);
    let policy = validate::check(options, &mut errors);
    errors.is_empty().then_some(policy)
}

fn arguments(attribute: &Attribute) -> TokenStream {
    match &attribute.meta {
        Meta::List(list) => list.tokens.clone(),
        _ => TokenStream::new(),
    }
}

fn marked(attribute: &Attribute, documented: Documented) -> TokenStream {
    let path = attribute.meta.path();
    let mark = documented.mark();
    let arguments = arguments(attribute);
    with(attribute, &quote!(#path(#mark #arguments)))
}
