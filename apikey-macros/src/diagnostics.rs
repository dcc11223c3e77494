//! Compile errors: all errors of an attribute are reported together, each on its smallest span.

use std::fmt::Display;

use proc_macro2::{Span, TokenStream};
use quote::ToTokens;

/// Collects the errors of one attribute.
///
/// A parser returns its first error only, but a user with three invalid options needs all three
/// errors at once.
#[derive(Debug, Default)]
pub(crate) struct Errors {
    combined: Option<syn::Error>,
}

impl Errors {
    /// Adds an error that syn returned.
    pub(crate) fn push(&mut self, error: syn::Error) {
        match &mut self.combined {
            Some(combined) => combined.combine(error),
            None => self.combined = Some(error),
        }
    }

    /// Adds an error with `message` on the span of `tokens`.
    pub(crate) fn on(&mut self, tokens: impl ToTokens, message: impl Display) {
        self.push(syn::Error::new_spanned(tokens, message));
    }

    /// Adds an error with `message` on `span`.
    pub(crate) fn at(&mut self, span: Span, message: impl Display) {
        self.push(syn::Error::new(span, message));
    }

    /// Returns the value of a result, or records its error.
    pub(crate) fn keep<T>(&mut self, result: syn::Result<T>) -> Option<T> {
        result.map_err(|error| self.push(error)).ok()
    }

    /// Returns whether no error was recorded.
    pub(crate) fn is_empty(&self) -> bool {
        self.combined.is_none()
    }

    /// Combines all errors into one `syn::Error`.
    ///
    /// # Errors
    ///
    /// Returns the combined error if any error was recorded.
    pub(crate) fn into_result(self) -> syn::Result<()> {
        self.combined.map_or(Ok(()), Err)
    }

    /// Returns a `compile_error!` for each error, in the order in which they were added.
    pub(crate) fn into_compile_errors(self) -> TokenStream {
        self.combined
            .map(syn::Error::into_compile_error)
            .unwrap_or_default()
    }

    /// Returns the messages, for tests.
    #[cfg(test)]
    pub(crate) fn messages(self) -> Vec<String> {
        self.combined
            .map(|combined| {
                combined
                    .into_iter()
                    .map(|error| error.to_string())
                    .collect()
            })
            .unwrap_or_default()
    }
}

/// Formats "unknown `kind` `word`" with the most similar word of `known`, or with all of `known` if
/// none is similar.
pub(crate) fn unknown(
    kind: &str,
    word: impl Display,
    known: impl Iterator<Item = &'static str> + Clone,
) -> String {
    let word = word.to_string();
    match nearest(&word, known.clone()) {
        Some(near) => format!("unknown {kind} `{word}`; did you mean `{near}`?"),
        None => format!("unknown {kind} `{word}`; known {kind}s: {}", listed(known)),
    }
}

/// Returns the word of `known` that `word` most likely misspells.
fn nearest(word: &str, known: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let word = word.trim_start_matches("r#").to_lowercase();
    known
        .map(|candidate| (strsim::damerau_levenshtein(&word, candidate), candidate))
        .min_by_key(|(distance, _)| *distance)
        // One typo per three letters: `scop` matches `scope`, but `roles` does not match `scopes`.
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).max(1))
        .map(|(_, candidate)| candidate)
}

/// Formats words as "`a`, `b`, `c`".
pub(crate) fn listed<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words
        .map(|word| format!("`{word}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 4] = ["scope", "scopes", "optional", "not"];

    #[test]
    fn a_slip_is_recognised_and_another_word_is_not() {
        let nearest = |word| nearest(word, KNOWN.into_iter());
        assert_eq!(nearest("scop"), Some("scope"));
        assert_eq!(nearest("Scopes"), Some("scopes"));
        assert_eq!(nearest("optoinal"), Some("optional"));
        assert_eq!(nearest("nto"), Some("not"));
        assert_eq!(nearest("r#scope"), Some("scope"));
        assert_eq!(nearest("roles"), None);
        assert_eq!(nearest(""), None);
    }

    #[test]
    fn an_unknown_word_near_none_gets_the_list() {
        assert_eq!(
            unknown("operator", "xyzzy", ["all", "any"].into_iter()),
            "unknown operator `xyzzy`; known operators: `all`, `any`"
        );
    }

    #[test]
    fn errors_keep_their_order() {
        let mut errors = Errors::default();
        assert!(errors.is_empty());
        errors.at(Span::call_site(), "first");
        errors.at(Span::call_site(), "second");
        assert_eq!(errors.messages(), ["first", "second"]);
    }
}
