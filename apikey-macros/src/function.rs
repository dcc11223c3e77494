//! Parses the annotated function. Its signature is parsed; its body stays tokens.

use proc_macro2::TokenStream;
use syn::{
    Attribute, Ident, LitStr, Signature, Token, Visibility, braced,
    ext::IdentExt,
    parse::{Parse, ParseStream, Parser},
    token,
};

/// The keywords that may precede `fn`.
const QUALIFIERS: [&str; 6] = ["const", "async", "unsafe", "safe", "extern", "default"];

/// The syntax of a function.
///
/// The body is never parsed, so an unfinished body still expands, and rustc or the editor reports
/// the errors in it.
pub(crate) struct FunctionSyntax {
    /// The attributes that remain on the function.
    pub(crate) attributes: Vec<Attribute>,
    /// The visibility.
    pub(crate) visibility: Visibility,
    /// The signature.
    pub(crate) signature: Signature,
    /// The body.
    pub(crate) body: FunctionBody,
}

/// A function body: `{ #![inner] rest }`.
pub(crate) struct FunctionBody {
    /// The braces.
    pub(crate) braces: token::Brace,
    /// The inner attributes at its start.
    pub(crate) inner_attributes: Vec<Attribute>,
    /// The remaining tokens.
    pub(crate) rest: TokenStream,
}

/// Parses the function that the attribute annotates.
///
/// # Errors
///
/// Returns an error if the item is not a function, has no body, or is not valid Rust.
pub(crate) fn parse(item: TokenStream) -> syn::Result<FunctionSyntax> {
    FunctionSyntax::parse.parse2(item)
}

impl Parse for FunctionSyntax {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let attributes = input.call(Attribute::parse_outer)?;
        let visibility = input.parse()?;
        reject_other_items(input)?;
        let signature = input.parse()?;
        if input.peek(Token![;]) {
            return Err(input.error("a handler must have a body; write `{ .. }`"));
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

impl Parse for FunctionBody {
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

/// Rejects items that are not functions, with a message that names the kind of item.
fn reject_other_items(input: ParseStream<'_>) -> syn::Result<()> {
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
        let problem = format!("`#[api_key_required]` guards a handler, and `{word}` is not one");
        syn::Error::new(word.span(), format!("{problem}; {remedy}"))
    });
    Err(found.unwrap_or_else(|error| {
        let problem = "`#[api_key_required]` guards a handler; write it above an `async fn`";
        syn::Error::new(error.span(), problem)
    }))
}

/// Skips a keyword that may precede `fn`, or an ABI, and returns whether one was there.
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
