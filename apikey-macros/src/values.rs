//! Parsers for the values of options: after `=`, in parentheses, or absent.

use syn::{
    Expr, ExprPath, Ident, LitStr, Path, Token,
    ext::IdentExt,
    parenthesized,
    parse::{ParseStream, discouraged::Speculative},
    token,
};

use crate::diagnostics::Errors;

/// An option's name where it was written, and how it is to be written.
pub(crate) struct WrittenOption<'a> {
    /// The name, as written.
    pub(crate) key: &'a Ident,
    /// The usage that error messages show.
    pub(crate) usage: &'static str,
    /// Whether a word is the name of an option.
    pub(crate) is_option: fn(&Ident) -> bool,
}

/// Parses `= value`.
///
/// # Errors
///
/// Returns an error if `=` or the value is missing, or if `parse` rejects the value.
pub(crate) fn after_equals<T>(
    written: &WrittenOption<'_>,
    input: ParseStream<'_>,
    parse: fn(&WrittenOption<'_>, ParseStream<'_>) -> syn::Result<T>,
) -> syn::Result<T> {
    let WrittenOption { key, usage, .. } = written;
    if input.peek(token::Paren) {
        let problem = format!("`{key}` takes its value after `=`; write `{}`", usage);
        return Err(input.error(problem));
    }
    if !input.peek(Token![=]) {
        return Err(missing(written));
    }
    input.parse::<Token![=]>()?;
    if at_end_of_option(input) {
        return Err(missing(written));
    }
    let start = input.fork();
    parse(written, input).inspect_err(|_| skip_expression(input, &start))
}

/// Parses `(value, value)`, with at least one value.
///
/// # Errors
///
/// Returns an error if the values are missing or not in parentheses, or if `parse` rejects one.
pub(crate) fn in_parentheses<T>(
    written: &WrittenOption<'_>,
    input: ParseStream<'_>,
    parse: fn(ParseStream<'_>) -> syn::Result<T>,
) -> syn::Result<Vec<T>> {
    let WrittenOption { key, usage, .. } = written;
    if at_end_of_option(input) {
        return Err(missing(written));
    }
    if !input.peek(token::Paren) {
        let problem = "takes its values in parentheses and without `=`";
        let problem = input.error(format!("`{key}` {problem}; write `{}`", usage));
        skip_values(written, input);
        return Err(problem);
    }
    let content;
    let parentheses = parenthesized!(content in input);
    if content.is_empty() {
        let problem = format!(
            "`{key}` is empty; write at least one value, as in `{}`",
            usage
        );
        return Err(syn::Error::new(parentheses.span.join(), problem));
    }
    list(&content, parse)
}

/// Skips `= POST, PUT`, so that `PUT` is not reported as an unknown option.
fn skip_values(written: &WrittenOption<'_>, input: ParseStream<'_>) {
    skip_option(input);
    loop {
        let ahead = input.fork();
        let comma = ahead.parse::<Token![,]>().is_ok();
        let value =
            ahead.peek(LitStr) || word(&ahead.fork()).is_ok_and(|word| !(written.is_option)(&word));
        let alone = ahead.parse::<proc_macro2::TokenTree>().is_ok() && at_end_of_option(&ahead);
        if !(comma && value && alone) {
            return;
        }
        input.advance_to(&ahead);
    }
}

/// Skips an invalid value that is an expression, because its commas (as in `|a, b| c`) do not
/// separate options.
fn skip_expression(input: ParseStream<'_>, start: ParseStream<'_>) {
    if start.parse::<Expr>().is_ok() {
        input.advance_to(start);
    }
}

fn missing(WrittenOption { key, usage, .. }: &WrittenOption<'_>) -> syn::Error {
    let problem = format!("`{key}` needs a value; write `{}`", usage);
    syn::Error::new(key.span(), problem)
}

/// Parses an option that consists of its name only.
///
/// # Errors
///
/// Returns an error if a value follows.
pub(crate) fn flag(
    WrittenOption { key, .. }: &WrittenOption<'_>,
    input: ParseStream<'_>,
) -> syn::Result<bool> {
    let is_false = input.peek(Token![=]) && {
        let ahead = input.fork();
        ahead.parse::<Token![=]>().is_ok()
            && ahead
                .parse::<syn::LitBool>()
                .is_ok_and(|value| !value.value)
    };
    if is_false {
        return Err(input.error(format!(
            "`{key}` takes no value; remove the option to disable it"
        )));
    }
    if input.peek(Token![=]) || is_group(input) {
        return Err(input.error(format!("`{key}` takes no value; write `{key}`")));
    }
    Ok(true)
}

/// Parses a string literal.
///
/// # Errors
///
/// Returns an error if the value is anything else.
pub(crate) fn string(written: &WrittenOption<'_>, input: ParseStream<'_>) -> syn::Result<LitStr> {
    input
        .parse()
        .map_err(|error| expected(written, "a string", error))
}

/// Parses the path of a function.
///
/// # Errors
///
/// Returns an error if the value is anything else, including a call of the function.
pub(crate) fn path(written: &WrittenOption<'_>, input: ParseStream<'_>) -> syn::Result<ExprPath> {
    let not_a_path = |error| expected(written, "the path of a function", error);
    let path: ExprPath = input.parse().map_err(not_a_path)?;
    if is_group(input) {
        let problem = format!("`{}` takes the path of a function, not a call", written.key);
        return Err(input.error(format!("{problem}; write `{}`", written.usage)));
    }
    Ok(path)
}

/// Parses the path of a module or crate.
///
/// # Errors
///
/// Returns an error if the value is anything else, including a path with generic arguments.
pub(crate) fn module(written: &WrittenOption<'_>, input: ParseStream<'_>) -> syn::Result<Path> {
    input
        .call(Path::parse_mod_style)
        .map_err(|error| expected(written, "the path of a crate", error))
}

/// Returns the error for a value of the wrong kind, on the span of syn's error.
pub(crate) fn expected(
    WrittenOption { key, usage, .. }: &WrittenOption<'_>,
    what: &str,
    found: syn::Error,
) -> syn::Error {
    let problem = format!("`{key}` takes {what}; write `{}`", usage);
    syn::Error::new(found.span(), problem)
}

/// Returns whether the option ends here, at a comma or at the end of the attribute.
pub(crate) fn at_end_of_option(input: ParseStream<'_>) -> bool {
    input.is_empty() || input.peek(Token![,])
}

/// Skips to the next comma outside of groups.
pub(crate) fn skip_option(input: ParseStream<'_>) {
    while !at_end_of_option(input) {
        // Every token parses as a tree; the return guarantees that the loop ends.
        if input.parse::<proc_macro2::TokenTree>().is_err() {
            return;
        }
    }
}

/// Returns whether a group with any delimiter follows.
pub(crate) fn is_group(input: ParseStream<'_>) -> bool {
    input.peek(token::Paren) || input.peek(token::Bracket) || input.peek(token::Brace)
}

/// Parses an identifier or a keyword such as `crate`.
///
/// # Errors
///
/// Returns an error if the next token is neither.
pub(crate) fn word(input: ParseStream<'_>) -> syn::Result<Ident> {
    input.call(Ident::parse_any)
}

/// Parses items separated by commas, up to the end of the group in `input`.
///
/// # Errors
///
/// Returns the errors of all invalid items and missing commas of the group, combined.
pub(crate) fn list<T>(
    input: ParseStream<'_>,
    mut parse: impl FnMut(ParseStream<'_>) -> syn::Result<T>,
) -> syn::Result<Vec<T>> {
    let mut items = Vec::new();
    let mut errors = Errors::default();
    while !input.is_empty() {
        let item = parse(input);
        if item.is_ok() && !at_end_of_option(input) {
            errors.push(input.error("expected `,`"));
        }
        items.extend(errors.keep(item));
        // Skipped even after an error, because syn reports unparsed tokens of a group as an error.
        skip_option(input);
        // Absent only at the end of the group.
        let _: Option<Token![,]> = input.parse().ok();
    }
    errors.into_result().map(|()| items)
}
