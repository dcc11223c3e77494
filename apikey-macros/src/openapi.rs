//! The feature `openapi`: guards write themselves into `#[utoipa::path]`, or register themselves so
//! that `ApiKeySecurity` finds them.
//!
//! `#[utoipa::path]` has to see a handler's own arguments, and so it has to run before the guard. A
//! guard above it therefore moves it up, with the guard's security and responses in it, and stays
//! below it. The order of the guards does not change. A guard below `#[utoipa::path]` comes too late
//! to write anything, and is found at run time.

mod hoist;
mod path_attribute;
mod security;

use proc_macro2::{Ident, Literal, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote};
use syn::Attribute;

pub(crate) use self::hoist::hoist;
use crate::{
    Features, attributes, expand, handler::Handler, surroundings::Surroundings, validate::Policy,
};

/// The option that a guard adds to itself, and to the guards below it, when it writes them into
/// `#[utoipa::path]`.
const MARK: &str = "__documented";

/// Attributes of actix-web that do not document a handler.
const ROUTING: [&str; 11] = [
    "get", "post", "put", "delete", "head", "connect", "options", "trace", "patch", "route",
    "routes",
];

/// Other attributes that do not document a handler.
const OTHERS: [&str; 10] = [
    "doc",
    "cfg",
    "allow",
    "expect",
    "warn",
    "deny",
    "forbid",
    "inline",
    "must_use",
    "deprecated",
];

/// What a guard knows about the `#[utoipa::path]` of its handler.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Documented {
    /// Whether the guard was written into it, and by whom.
    author: Option<Author>,
    /// Whether it made the type `__path_name` beside the handler.
    has_type: bool,
    /// The fingerprint of the guard's policy, if `#[utoipa::path]` names the policy. The guard is known
    /// from its operation then, and does not register itself.
    named: Option<u64>,
}

/// Who wrote the security of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Author {
    Attribute,
    Application,
}

impl Documented {
    /// Returns the mark at the start of an attribute's arguments, and the arguments without it.
    pub(crate) fn take(arguments: TokenStream, features: Features) -> (Option<Self>, TokenStream) {
        if !features.openapi {
            return (None, arguments);
        }
        let mut tokens = arguments.clone().into_iter();
        let is_marked = matches!(tokens.next(), Some(TokenTree::Ident(word)) if word == MARK);
        let mark = tokens.next().filter(|_| is_marked);
        let documented = mark.and_then(|mark| Self::of_mark(&mark));
        // Whatever follows without a comma is not dropped: the mark is an unknown option then.
        let is_end = match tokens.next() {
            Some(TokenTree::Punct(comma)) => comma.as_char() == ',',
            other => other.is_none(),
        };
        match documented.filter(|_| is_end) {
            Some(documented) => (Some(documented), tokens.collect()),
            None => (None, arguments),
        }
    }

    /// Reads a mark exactly as [`mark`](Self::mark) writes it.
    fn of_mark(mark: &TokenTree) -> Option<Self> {
        let TokenTree::Group(mark) = mark else {
            return None;
        };
        let words = mark.stream().into_iter().map(|word| word.to_string());
        let words: Vec<_> = words.collect();
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let (author, has_type, named) = match words.as_slice() {
            ["attribute"] => (Author::Attribute, false, None),
            ["attribute", "typed"] => (Author::Attribute, true, None),
            ["attribute", "typed", named] => (Author::Attribute, true, Some(named.parse().ok()?)),
            ["application"] => (Author::Application, false, None),
            ["application", "typed"] => (Author::Application, true, None),
            _ => return None,
        };
        Some(Self {
            author: Some(author),
            has_type,
            named,
        })
    }

    /// Returns what the attributes above a guard say; `None` if `#[utoipa::path]` is neither among
    /// them nor among those below. An attribute that is not known may add it, or be it under another
    /// name.
    pub(crate) fn around(surroundings: &Surroundings, below: &[Attribute]) -> Option<Self> {
        let above = &surroundings.above;
        // A guard above has moved `#[utoipa::path]` up, and did not mark this one if it has another name.
        let is_hidden = |attribute: &Attribute| {
            surroundings.is_renamed && attributes::is_guard(attribute.path())
        };
        if surroundings.is_complete
            && above.iter().chain(below).all(is_other)
            && !above.iter().any(is_hidden)
        {
            return None;
        }
        Some(Self {
            author: None,
            has_type: above
                .iter()
                .any(|attribute| path_attribute::makes_type(&attribute.meta)),
            named: None,
        })
    }

    /// Returns the fingerprint of the guard's policy, if `#[utoipa::path]` names the policy.
    pub(crate) fn named(self) -> Option<u64> {
        self.named
    }

    /// Returns the mark with a comma.
    fn mark(self) -> TokenStream {
        let mark = format_ident!("{MARK}");
        let author = match self.author {
            Some(Author::Application) => quote!(application),
            _ => quote!(attribute),
        };
        let typed = self.has_type.then(|| quote!(typed));
        let named = self.named.map(Literal::u64_unsuffixed);
        quote!(#mark(#author #typed #named),)
    }
}

/// Puts the registration of a guard at the start of its handler's body, where an `impl` allows an
/// item too.
pub(crate) fn register(
    policy: &Policy,
    handler: &mut Handler,
    fingerprint: u64,
    documented: Documented,
) {
    let krate = &policy.krate;
    let policy = expand::policy_path(policy, handler, fingerprint);
    // As `#[utoipa::path]` makes the operation's id.
    let function = handler.name.to_string();
    // Larger for each guard further up, also if the attribute was imported under another name.
    let below = handler.attributes.len();
    let author = match documented.author {
        None => quote!(Missing),
        Some(Author::Attribute) => quote!(Attribute),
        Some(Author::Application) => quote!(Application),
    };
    let path = if documented.has_type {
        let name = path_type(handler);
        quote!(Some(#krate::__private::DocumentedPath::of::<#name>))
    } else {
        quote!(None)
    };
    let rest = &handler.body.rest;
    handler.body.rest = quote! {
        #krate::__private::inventory::submit! {
            #krate::__private::GuardEntry::of::<#policy>(
                ::core::module_path!(),
                #function,
                #below,
                #krate::__private::Author::#author,
                #krate::__private::Option::#path,
            )
        }
        #rest
    };
}

/// Returns the name of the type that `#[utoipa::path]` makes beside a handler.
fn path_type(handler: &Handler) -> Ident {
    format_ident!("__path_{}", handler.name)
}

/// Returns whether an attribute is known, and does not document a handler.
fn is_other(attribute: &Attribute) -> bool {
    let path = attribute.path();
    let has = |names: &[&str]| {
        let last = path.segments.last();
        last.is_some_and(|last| names.iter().any(|name| last.ident == name))
    };
    let is_single = path.segments.len() == 1;
    let is_of_actix = path
        .segments
        .first()
        .is_some_and(|first| first.ident == "actix_web");
    (is_single || is_of_actix) && has(&ROUTING)
        || is_single && has(&OTHERS)
        || attributes::is_guard(path)
}

fn is_word(token: &TokenTree, word: &str) -> bool {
    matches!(token, TokenTree::Ident(ident) if ident == word)
}

fn text(tokens: impl ToTokens) -> String {
    tokens.to_token_stream().to_string()
}
