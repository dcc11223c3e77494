//! The attributes that stand on a handler and its arguments, seen through `cfg_attr`.

use proc_macro2::{TokenStream, TokenTree};
use quote::quote;
use syn::{
    Attribute, Meta, Path, Token,
    parse::{ParseStream, Parser},
    punctuated::Punctuated,
};

/// The attributes that set the level of a lint.
const LINTS: [&str; 5] = ["allow", "expect", "warn", "deny", "forbid"];

/// What an attribute on an argument does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ArgumentAttribute {
    /// It sets the level of a lint.
    Lint,
    /// It takes the argument away in some builds.
    Cfg,
    /// It is a doc comment.
    Doc,
    /// It is for some other macro.
    Other,
}

impl ArgumentAttribute {
    /// What `attribute` does; with several in a `cfg_attr`, the one hardest to keep.
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
            // Lint attributes are words of the language; `tool::lint` is inside of them.
            _ => Self::Other,
        }
    }
}

/// The paths of the attributes that `meta` can turn into: its own, or those in its `cfg_attr`.
pub(crate) fn paths(meta: &Meta) -> Vec<Path> {
    match ConditionalAttributes::of(meta) {
        Some(conditional) => conditional.attributes.iter().flat_map(paths).collect(),
        None => vec![meta.path().clone()],
    }
}

/// The `cfg`s among `attributes`, for an item that has to come and go with the one they stand on.
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
    let ConditionalAttributes {
        condition,
        attributes,
    } = ConditionalAttributes::of(meta)?;
    let kept: Vec<_> = attributes.iter().filter_map(cfg_only).collect();
    (!kept.is_empty()).then(|| quote!(cfg_attr(#condition, #(#kept),*)))
}

/// `cfg_attr(condition, attributes)`
struct ConditionalAttributes {
    condition: TokenStream,
    attributes: Punctuated<Meta, Token![,]>,
}

impl ConditionalAttributes {
    /// The parts of `meta` if it is a well-formed `cfg_attr`.
    fn of(meta: &Meta) -> Option<Self> {
        let Meta::List(list) = meta else { return None };
        if !list.path.is_ident("cfg_attr") {
            return None;
        }
        Self::read.parse2(list.tokens.clone()).ok()
    }

    fn read(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut condition = TokenStream::new();
        // Kept as tokens: `true` is a condition and no path.
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
