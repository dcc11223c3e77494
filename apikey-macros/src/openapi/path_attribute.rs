//! `#[utoipa::path(..)]`: finding it, also in `cfg_attr`, and adding to its arguments.
//!
//! Its arguments stay tokens, so that one that is half written reaches utoipa as it is.

use proc_macro2::{Delimiter, Group, Punct, Spacing, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::Meta;

use super::{is_word, security::Security};
use crate::attributes::{CfgAttr, is_utoipa_path};

/// Returns whether an attribute is `#[utoipa::path]` itself, and makes the type `__path_name`. One in
/// a `cfg_attr` may be absent.
pub(super) fn makes_type(meta: &Meta) -> bool {
    is_utoipa_path(meta.path()) && argument(&arguments(meta), "impl_for").is_none()
}

/// An attribute, split at its `utoipa::path`.
pub(super) struct Split {
    /// The attribute with nothing but `utoipa::path`, if it has it.
    pub(super) path: Option<TokenStream>,
    /// The attribute without it, if something is left.
    pub(super) rest: Option<TokenStream>,
}

/// Returns whether the application wrote a `security` into the `utoipa::path` of an attribute.
pub(super) fn has_security(meta: &Meta) -> bool {
    if is_utoipa_path(meta.path()) {
        return argument(&arguments(meta), "security").is_some();
    }
    let conditional = CfgAttr::of(meta);
    let mut parts = conditional
        .iter()
        .flat_map(|conditional| &conditional.attributes);
    parts.any(has_security)
}

/// Splits an attribute, and adds `security` to its `utoipa::path`.
pub(super) fn split(meta: &Meta, security: &Security) -> Split {
    if is_utoipa_path(meta.path()) {
        return Split {
            path: Some(completed(meta, security)),
            rest: None,
        };
    }
    let Some(conditional) = CfgAttr::of(meta) else {
        return Split {
            path: None,
            rest: Some(meta.to_token_stream()),
        };
    };
    let condition = &conditional.condition;
    let parts = conditional.attributes.iter();
    let parts: Vec<_> = parts.map(|part| split(part, security)).collect();
    let joined = |tokens: Vec<&TokenStream>| {
        (!tokens.is_empty()).then(|| quote!(cfg_attr(#condition, #(#tokens),*)))
    };
    Split {
        path: joined(parts.iter().filter_map(|part| part.path.as_ref()).collect()),
        rest: joined(parts.iter().filter_map(|part| part.rest.as_ref()).collect()),
    }
}

fn arguments(meta: &Meta) -> Vec<TokenTree> {
    match meta {
        Meta::List(list) => list.tokens.clone().into_iter().collect(),
        _ => Vec::new(),
    }
}

/// Returns the attribute with the guards' security and responses, unless the application wrote its
/// own.
fn completed(meta: &Meta, security: &Security) -> TokenStream {
    let path = meta.path();
    let mut tokens = arguments(meta);
    let has_security = argument(&tokens, "security").is_some();
    // First, so that responses of the application for the same statuses replace these.
    let responses = &security.responses;
    add(
        &mut tokens,
        "responses",
        &quote!(#responses,),
        &TokenStream::new(),
    );
    if !has_security {
        if let Some(requirements) = &security.requirements {
            append(&mut tokens, quote!(security(#requirements)));
        }
        if let Some(extensions) = &security.extensions {
            add(&mut tokens, "extensions", &TokenStream::new(), extensions);
        }
    }
    // With its own parentheses, on which utoipa reports errors.
    let parentheses = match meta {
        Meta::List(list) => list.delimiter.span().join(),
        _ => Span::call_site(),
    };
    let mut group = Group::new(Delimiter::Parenthesis, tokens.into_iter().collect());
    group.set_span(parentheses);
    quote!(#path #group)
}

/// Adds to the group of an argument, or adds the argument. One that does not have a group is left to
/// utoipa, which rejects it.
fn add(tokens: &mut Vec<TokenTree>, name: &str, first: &TokenStream, last: &TokenStream) {
    let Some(at) = argument(tokens, name) else {
        let name = quote::format_ident!("{name}");
        append(tokens, quote!(#name(#first #last)));
        return;
    };
    if let Some(TokenTree::Group(group)) = tokens.get_mut(at + 1) {
        let comma = needs_comma(group.stream()).then(|| quote!(,));
        let comma = (!last.is_empty()).then_some(comma).flatten();
        let own = group.stream();
        let mut completed = Group::new(Delimiter::Parenthesis, quote!(#first #own #comma #last));
        completed.set_span(group.span());
        *group = completed;
    }
}

fn append(tokens: &mut Vec<TokenTree>, argument: TokenStream) {
    if needs_comma(tokens.iter().cloned().collect()) {
        let mut comma = Punct::new(',', Spacing::Alone);
        // An error of utoipa at the end of the arguments is then reported there.
        if let Some(last) = tokens.last() {
            comma.set_span(last.span());
        }
        tokens.push(comma.into());
    }
    tokens.extend(argument);
}

/// Returns whether a list needs a comma before another item.
fn needs_comma(tokens: TokenStream) -> bool {
    let last = tokens.into_iter().last();
    last.is_some_and(|last| !matches!(last, TokenTree::Punct(punct) if punct.as_char() == ','))
}

/// Returns where an argument starts: its name, after the start or a comma.
fn argument(tokens: &[TokenTree], name: &str) -> Option<usize> {
    let is_comma =
        |token: &TokenTree| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ',');
    (0..tokens.len())
        .find(|at| is_word(&tokens[*at], name) && (*at == 0 || is_comma(&tokens[at - 1])))
}
