//! How the value of an option is read: behind `=`, in parentheses, as a string, a path, or not at all.

use syn::{
    Expr, ExprPath, Ident, LitStr, Path, Token,
    ext::IdentExt,
    parenthesized,
    parse::{ParseStream, discouraged::Speculative},
    token,
};

use crate::{
    diagnostics::Errors,
    options::{self, Written},
};

/// Reads `= value`.
///
/// # Errors
///
/// The `=` or the value is missing, or `read` refuses the value.
pub(crate) fn after_equals<T>(
    written: &Written<'_>,
    input: ParseStream<'_>,
    read: fn(&Written<'_>, ParseStream<'_>) -> syn::Result<T>,
) -> syn::Result<T> {
    let Written { key, spec } = written;
    if input.peek(token::Paren) {
        let problem = format!("`{key}` takes its value after `=`; write `{}`", spec.usage);
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
    read(written, input).inspect_err(|_| skip_expression(input, &start))
}

/// Reads `(value, value)`, at least one.
///
/// # Errors
///
/// The values are missing or stand elsewhere, or `read` refuses one.
pub(crate) fn in_parentheses<T>(
    written: &Written<'_>,
    input: ParseStream<'_>,
    read: fn(ParseStream<'_>) -> syn::Result<T>,
) -> syn::Result<Vec<T>> {
    let Written { key, spec } = written;
    if at_end_of_option(input) {
        return Err(missing(written));
    }
    if !input.peek(token::Paren) {
        let problem = "takes its values in parentheses and without `=`";
        let problem = input.error(format!("`{key}` {problem}; write `{}`", spec.usage));
        skip_values(input);
        return Err(problem);
    }
    let content;
    let parentheses = parenthesized!(content in input);
    if content.is_empty() {
        let problem = format!(
            "`{key}` is empty; write at least one, as in `{}`",
            spec.usage
        );
        return Err(syn::Error::new(parentheses.span.join(), problem));
    }
    list(&content, read)
}

/// Skips `= POST, PUT`: the later ones are no options, and are not to be called unknown ones.
fn skip_values(input: ParseStream<'_>) {
    skip_option(input);
    loop {
        let ahead = input.fork();
        let comma = ahead.parse::<Token![,]>().is_ok();
        let value = ahead.peek(LitStr)
            || word(&ahead.fork()).is_ok_and(|word| options::names().all(|name| word != name));
        let alone = ahead.parse::<proc_macro2::TokenTree>().is_ok() && at_end_of_option(&ahead);
        if !(comma && value && alone) {
            return;
        }
        input.advance_to(&ahead);
    }
}

/// Skips a wrong value that is an expression: its commas, as in `|a, b| c`, separate no options.
fn skip_expression(input: ParseStream<'_>, start: ParseStream<'_>) {
    if start.parse::<Expr>().is_ok() {
        input.advance_to(start);
    }
}

fn missing(Written { key, spec }: &Written<'_>) -> syn::Error {
    let problem = format!("`{key}` needs a value; write `{}`", spec.usage);
    syn::Error::new(key.span(), problem)
}

/// Reads an option that is only its name.
///
/// # Errors
///
/// A value follows.
pub(crate) fn flag(Written { key, .. }: &Written<'_>, input: ParseStream<'_>) -> syn::Result<bool> {
    let written_off = input.peek(Token![=]) && {
        let ahead = input.fork();
        ahead.parse::<Token![=]>().is_ok()
            && ahead
                .parse::<syn::LitBool>()
                .is_ok_and(|value| !value.value)
    };
    if written_off {
        return Err(input.error(format!(
            "`{key}` takes no value; leave it out to have it off"
        )));
    }
    if input.peek(Token![=]) || is_group(input) {
        return Err(input.error(format!("`{key}` takes no value; write `{key}`")));
    }
    Ok(true)
}

/// Reads a string literal.
///
/// # Errors
///
/// Anything else stands there.
pub(crate) fn string(written: &Written<'_>, input: ParseStream<'_>) -> syn::Result<LitStr> {
    input
        .parse()
        .map_err(|error| expected(written, "a string", error))
}

/// Reads a path to a function or a const.
///
/// # Errors
///
/// Anything else stands there.
pub(crate) fn path(written: &Written<'_>, input: ParseStream<'_>) -> syn::Result<ExprPath> {
    let not_a_path = |error| expected(written, "the path of a function", error);
    let path: ExprPath = input.parse().map_err(not_a_path)?;
    if is_group(input) {
        let problem = format!(
            "`{}` takes a function's path and calls it itself",
            written.key
        );
        return Err(input.error(format!("{problem}; leave the call out")));
    }
    Ok(path)
}

/// Reads the path of a module or crate.
///
/// # Errors
///
/// Anything else stands there, a path with generic arguments too.
pub(crate) fn module(written: &Written<'_>, input: ParseStream<'_>) -> syn::Result<Path> {
    input
        .call(Path::parse_mod_style)
        .map_err(|error| expected(written, "the path of a crate", error))
}

/// The error for a value of the wrong kind, where syn found it.
pub(crate) fn expected(
    Written { key, spec }: &Written<'_>,
    what: &str,
    found: syn::Error,
) -> syn::Error {
    let problem = format!("`{key}` takes {what}; write `{}`", spec.usage);
    syn::Error::new(found.span(), problem)
}

/// Whether an option ends here: at its comma, or where the attribute ends.
pub(crate) fn at_end_of_option(input: ParseStream<'_>) -> bool {
    input.is_empty() || input.peek(Token![,])
}

/// Whether a group in any delimiter follows.
pub(crate) fn is_group(input: ParseStream<'_>) -> bool {
    input.peek(token::Paren) || input.peek(token::Bracket) || input.peek(token::Brace)
}

/// Skips to the next comma that is not inside a group.
pub(crate) fn skip_option(input: ParseStream<'_>) {
    while !at_end_of_option(input) {
        // Every token tree parses as one; the loop could not end if it did not.
        if input.parse::<proc_macro2::TokenTree>().is_err() {
            return;
        }
    }
}

/// Reads any word, keywords such as `crate` too.
///
/// # Errors
///
/// No word stands there.
pub(crate) fn word(input: ParseStream<'_>) -> syn::Result<Ident> {
    input.call(Ident::parse_any)
}

/// Reads items with commas between them, up to the end of the group that `input` is.
///
/// # Errors
///
/// An item cannot be read, or no comma follows it; all such errors of the group together.
pub(crate) fn list<T>(
    input: ParseStream<'_>,
    mut read: impl FnMut(ParseStream<'_>) -> syn::Result<T>,
) -> syn::Result<Vec<T>> {
    let mut items = Vec::new();
    let mut errors = Errors::default();
    while !input.is_empty() {
        let item = read(input);
        if item.is_ok() && !at_end_of_option(input) {
            errors.push(input.error("expected `,`"));
        }
        items.extend(errors.keep(item));
        // To the end in any case: syn reports what a group has left over as an error of its own.
        skip_option(input);
        // Stands there unless the group ends.
        let _: Option<Token![,]> = input.parse().ok();
    }
    errors.into_result().map(|()| items)
}
