//! Tests of the whole attribute: its expansions, its errors, and that it never panics.

mod expansion;
mod garbage;
mod item;
mod openapi;
mod registration;

use proc_macro2::TokenStream;

use crate::{Features, diagnostics::Errors, surroundings::Surroundings};

fn tokens(text: &str) -> TokenStream {
    text.parse().unwrap()
}

fn guard(arguments: TokenStream, item: TokenStream) -> TokenStream {
    crate::guard(arguments, item, Surroundings::default, Features::default())
}

fn try_guard(arguments: TokenStream, item: TokenStream) -> Result<TokenStream, Errors> {
    crate::try_guard(arguments, item, Surroundings::default, Features::default())
}

/// Returns the expansion, formatted.
fn expand(arguments: &str, item: &str) -> String {
    let expansion = try_guard(tokens(arguments), tokens(item))
        .map_err(|errors| errors.messages())
        .unwrap();
    prettyplease::unparse(&syn::parse2(expansion).unwrap())
}

/// Returns the messages of the errors on `item`.
fn errors(arguments: &str, item: &str) -> Vec<String> {
    try_guard(tokens(arguments), tokens(item))
        .map(|_| ())
        .expect_err("an error")
        .messages()
}
