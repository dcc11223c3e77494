//! The attributes of a handler and of its arguments, including those inside `cfg_attr`.

use proc_macro2::{TokenStream, TokenTree};
use quote::quote;
use syn::{
    Attribute, Meta, Path, Token,
    parse::{ParseStream, Parser},
    punctuated::Punctuated,
};

/// The attributes that set the level of a lint.
const LINTS: [&str; 5] = ["allow", "expect", "warn", "deny", "forbid"];

/// The effect of an attribute on an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ArgumentAttribute {
    /// Sets the level of a lint.
    Lint,
    /// Removes the argument in some builds.
    Cfg,
    /// Documents the argument.
    Doc,
    /// Belongs to another macro.
    Other,
}

impl ArgumentAttribute {
    /// Classifies `attribute`; for a `cfg_attr`, the least supported of its attributes.
    pub(crate) fn of(attribute: &Attribute) -> Self {
        let kinds: Vec<_> = paths(&attribute.meta).iter().map(Self::named).collect();
        [Self::Cfg, Self::Other, Self::Doc]
            .into_iter()
            .find(|kind| kinds.contains(kind))
            .unwrap_or(Self::Lint)
    }

    fn named(path: &Path) -> Self {
        match path.get_ident().map(ToString::to_string).as_deref() {
            Some("cfg") => Self::Cfg,
            Some("doc") => Self::Doc,
            Some(word) if LINTS.contains(&word) => Self::Lint,
            // Lint attributes have one-segment paths; `tool::lint` occurs only inside them.
            _ => Self::Other,
        }
    }
}

/// Returns the paths that `meta` can expand to: its own, or those inside its `cfg_attr`.
pub(crate) fn paths(meta: &Meta) -> Vec<Path> {
    match CfgAttr::of(meta) {
        Some(conditional) => conditional.attributes.iter().flat_map(paths).collect(),
        None => vec![meta.path().clone()],
    }
}

/// Returns whether a path is that of this attribute.
pub(crate) fn is_guard(path: &Path) -> bool {
    let last = path.segments.last();
    last.is_some_and(|last| last.ident == "api_key_required")
}

/// Returns whether a path is that of utoipa's attribute.
pub(crate) fn is_utoipa_path(path: &Path) -> bool {
    let mut segments = path.segments.iter().rev().map(|segment| &segment.ident);
    let last = segments.next().is_some_and(|last| last == "path");
    last && segments.next().is_some_and(|before| before == "utoipa")
}

/// Returns the `cfg`s among `attributes`, for a generated item that must exist exactly when the
/// annotated one does.
pub(crate) fn cfgs(attributes: &[Attribute]) -> Vec<TokenStream> {
    attributes
        .iter()
        .filter_map(|attribute| cfg_only(&attribute.meta))
        .map(|meta| quote!(#[#meta]))
        .collect()
}

fn cfg_only(meta: &Meta) -> Option<TokenStream> {
    if meta.path().is_ident("cfg") {
        return Some(quote!(#meta));
    }
    let CfgAttr {
        condition,
        attributes,
    } = CfgAttr::of(meta)?;
    let kept: Vec<_> = attributes.iter().filter_map(cfg_only).collect();
    (!kept.is_empty()).then(|| quote!(cfg_attr(#condition, #(#kept),*)))
}

/// A parsed `cfg_attr(condition, attributes)`.
pub(crate) struct CfgAttr {
    /// The condition.
    pub(crate) condition: TokenStream,
    /// The attributes under it.
    pub(crate) attributes: Punctuated<Meta, Token![,]>,
}

impl CfgAttr {
    /// Returns the parts of `meta` if it is a well-formed `cfg_attr`.
    pub(crate) fn of(meta: &Meta) -> Option<Self> {
        let Meta::List(list) = meta else { return None };
        if !list.path.is_ident("cfg_attr") {
            return None;
        }
        Self::parse.parse2(list.tokens.clone()).ok()
    }

    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut condition = TokenStream::new();
        // Kept as tokens, because the condition `true` is not a `Meta`.
        while !input.peek(Token![,]) {
            condition.extend([input.parse::<TokenTree>()?]);
        }
        input.parse::<Token![,]>()?;
        let attributes = Punctuated::parse_terminated(input)?;
        Ok(Self {
            condition,
            attributes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(text: &str) -> Vec<Attribute> {
        Attribute::parse_outer.parse_str(text).unwrap()
    }

    fn kind(text: &str) -> ArgumentAttribute {
        ArgumentAttribute::of(&attributes(text)[0])
    }

    #[test]
    fn attributes_of_arguments_are_told_apart() {
        assert_eq!(kind("#[allow(unused)]"), ArgumentAttribute::Lint);
        assert_eq!(
            kind("#[cfg_attr(a, expect(unused))]"),
            ArgumentAttribute::Lint
        );
        assert_eq!(kind("#[cfg(a)]"), ArgumentAttribute::Cfg);
        assert_eq!(
            kind("#[cfg_attr(a, allow(b), cfg(c))]"),
            ArgumentAttribute::Cfg
        );
        assert_eq!(kind("/// Docs."), ArgumentAttribute::Doc);
        assert_eq!(kind("#[arg]"), ArgumentAttribute::Other);
        assert_eq!(kind("#[tool::allow(x)]"), ArgumentAttribute::Other);
        assert_eq!(kind("#[cfg_attr(a)]"), ArgumentAttribute::Other);
    }

    #[test]
    fn only_cfgs_are_taken_along() {
        let found = cfgs(&attributes(
            "#[doc = \"x\"] #[cfg(a)] #[cfg_attr(true, inline, cfg_attr(b, cfg(c), cold))]",
        ));
        let found: Vec<_> = found.iter().map(ToString::to_string).collect();
        let wanted: [TokenStream; 2] = [
            quote!(#[cfg(a)]),
            quote!(#[cfg_attr(true, cfg_attr(b, cfg(c)))]),
        ];
        assert_eq!(found, wanted.map(|tokens| tokens.to_string()));
    }
}
