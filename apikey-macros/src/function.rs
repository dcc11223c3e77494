//! The function under the attribute: its signature parsed, its body kept as tokens.

use proc_macro2::TokenStream;
use syn::{
    Attribute, Ident, LitStr, Signature, Token, Visibility, braced,
    ext::IdentExt,
    parse::{Parse, ParseStream, Parser},
    token,
};

/// The words that may stand before `fn`.
const QUALIFIERS: [&str; 6] = ["const", "async", "unsafe", "safe", "extern", "default"];

/// A function as written.
///
/// The body is never parsed: one that is half typed expands like any other, and rustc or the editor
/// speaks of it where it stands.
pub(crate) struct FunctionSyntax {
    /// The attributes above it and still to be expanded.
    pub(crate) attributes: Vec<Attribute>,
    /// Its visibility.
    pub(crate) visibility: Visibility,
    /// Its signature.
    pub(crate) signature: Signature,
    /// Its body.
    pub(crate) body: Body,
}

/// A body: `{ #![inner] rest }`.
pub(crate) struct Body {
    /// Its braces.
    pub(crate) braces: token::Brace,
    /// The attributes that it starts with.
    pub(crate) inner_attributes: Vec<Attribute>,
    /// All that follows.
    pub(crate) rest: TokenStream,
}

/// Reads the function that the attribute stands on.
///
/// # Errors
///
/// It is no function, it has no body, or rustc would not parse it either.
pub(crate) fn parse(item: TokenStream) -> syn::Result<FunctionSyntax> {
    FunctionSyntax::parse.parse2(item)
}

impl Parse for FunctionSyntax {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let attributes = input.call(Attribute::parse_outer)?;
        let visibility = input.parse()?;
        refuse_other_items(input)?;
        let signature = input.parse()?;
        if input.peek(Token![;]) {
            return Err(input.error("a handler has a body; write `{ .. }`"));
        }
        let body = input.parse()?;
        Ok(Self {
            attributes,
            visibility,
            signature,
            body,
        })
    }
}

impl Parse for Body {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let content;
        let braces = braced!(content in input);
        Ok(Self {
            braces,
            inner_attributes: content.call(Attribute::parse_inner)?,
            rest: content.parse()?,
        })
    }
}

/// Refuses what is no function, in words about what it is.
fn refuse_other_items(input: ParseStream<'_>) -> syn::Result<()> {
    let ahead = input.fork();
    while skip_qualifier(&ahead) {}
    if ahead.peek(Token![fn]) {
        return Ok(());
    }
    let found = input.call(Ident::parse_any).map(|word| {
        let remedy = match word.to_string().as_str() {
            "mod" | "impl" | "trait" => "write it above each handler inside",
            _ => "write it above an `async fn`",
        };
        let problem = format!("`#[api_key_required]` guards a handler, and `{word}` is none");
        syn::Error::new(word.span(), format!("{problem}; {remedy}"))
    });
    Err(found.unwrap_or_else(|error| {
        let problem = "`#[api_key_required]` guards a handler; write it above an `async fn`";
        syn::Error::new(error.span(), problem)
    }))
}

/// Skips a word that may stand before `fn`, or the ABI of an `extern`; whether there was one.
fn skip_qualifier(input: ParseStream<'_>) -> bool {
    if input.peek(LitStr) {
        return input.parse::<LitStr>().is_ok();
    }
    match input.fork().call(Ident::parse_any) {
        Ok(word) if QUALIFIERS.iter().any(|qualifier| word == qualifier) => {
            input.call(Ident::parse_any).is_ok()
        }
        _ => false,
    }
}
