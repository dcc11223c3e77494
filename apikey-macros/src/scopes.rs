//! The options `scope` and `scopes`: their syntax and the grammar of a scope.

use proc_macro2::Span;
use syn::{
    ExprPath, Ident, LitStr, Token, ext::IdentExt, parenthesized, parse::ParseStream, token,
};

use crate::{
    diagnostics::{Errors, unknown},
    values::{self, WrittenOption},
};

/// The maximum length of a scope, in bytes; the same bound applies to the scopes of keys.
const MAX_SCOPE_BYTES: usize = 128;

/// The operators that combine scopes.
const OPERATORS: [&str; 3] = ["all", "any", "not"];

/// A scope expression as written, not yet validated.
pub(crate) enum ScopeSyntax {
    /// `"orders:read"`
    Text(LitStr),
    /// `permissions::READ`
    Const(ExprPath),
    /// `all(..)`; the operator may be unknown.
    Call {
        operator: Ident,
        arguments: Vec<ScopeSyntax>,
    },
}

/// A validated scope expression.
pub(crate) enum ScopeExpr {
    /// A scope that matches the grammar.
    Text(ScopeText),
    /// A const; the runtime checks its grammar in const evaluation.
    Const(ExprPath),
    /// All of the expressions; at least one.
    All(Vec<ScopeExpr>),
    /// Any of the expressions; at least one.
    Any(Vec<ScopeExpr>),
    /// The negation of an expression.
    Not(Box<ScopeExpr>),
}

impl ScopeExpr {
    /// Returns whether rustc must evaluate a const to validate the expression.
    pub(crate) fn has_const(&self) -> bool {
        match self {
            Self::Text(_) => false,
            Self::Const(_) => true,
            Self::All(scopes) | Self::Any(scopes) => scopes.iter().any(Self::has_const),
            Self::Not(scope) => scope.has_const(),
        }
    }

    /// Collects the names of the templates in texts, with the spans of the texts.
    pub(crate) fn templates(&self, into: &mut Vec<(String, Span)>) {
        match self {
            Self::Text(scope) => {
                into.extend(scope.templates().map(|name| (name.to_owned(), scope.span)));
            }
            Self::Const(_) => {}
            Self::All(scopes) | Self::Any(scopes) => {
                scopes.iter().for_each(|scope| scope.templates(into));
            }
            Self::Not(scope) => scope.templates(into),
        }
    }
}

/// The text of a scope that matches the grammar.
pub(crate) struct ScopeText {
    text: String,
    span: Span,
}

impl ScopeText {
    /// Returns the scope, with templates as written.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the names of the templates.
    fn templates(&self) -> impl Iterator<Item = &str> {
        let segments = self.text.split(':');
        segments.filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
    }
}

/// Parses the value of `scope`: one scope.
///
/// # Errors
///
/// Returns an error if the value is neither a string nor a path. Operators belong in `scopes`.
pub(crate) fn parse_one(
    written: &WrittenOption<'_>,
    input: ParseStream<'_>,
) -> syn::Result<ScopeSyntax> {
    if input.peek(Ident::peek_any) && input.peek2(token::Paren) {
        let problem = "`scope` takes one scope; write an expression as";
        return Err(input.error(format!(r#"{problem} `scopes = all("a", "b")`"#)));
    }
    if input.peek(token::Bracket) {
        return Err(input.error(list_problem()));
    }
    let scope = leaf(input)
        .map_err(|error| values::expected(written, "a string or the path of a `const`", error))?;
    reject_macro(input).map(|()| scope)
}

/// Parses the value of `scopes`.
///
/// # Errors
///
/// Returns an error if the value is not an expression of strings, paths and operators.
pub(crate) fn parse(
    written: &WrittenOption<'_>,
    input: ParseStream<'_>,
) -> syn::Result<ScopeSyntax> {
    if input.peek(token::Bracket) {
        return Err(input.error(list_problem()));
    }
    if !(input.peek(Ident::peek_any) && input.peek2(token::Paren)) {
        let scope =
            leaf(input).map_err(|error| values::expected(written, "a scope expression", error))?;
        return reject_macro(input).map(|()| scope);
    }
    let operator = input.call(Ident::parse_any)?;
    let content;
    parenthesized!(content in input);
    Ok(ScopeSyntax::Call {
        operator,
        arguments: values::list(&content, |input| parse(written, input))?,
    })
}

fn leaf(input: ParseStream<'_>) -> syn::Result<ScopeSyntax> {
    if input.peek(LitStr) {
        return input.parse().map(ScopeSyntax::Text);
    }
    input.parse().map(ScopeSyntax::Const)
}

/// Rejects a macro such as `concat!(..)` after a path, because its expansion is not known here.
fn reject_macro(input: ParseStream<'_>) -> syn::Result<()> {
    if input.peek(Token![!]) {
        let remedy = "move it into a `const` and write the path of that `const`";
        return Err(input.error(format!("a macro is not supported here; {remedy}")));
    }
    Ok(())
}

fn list_problem() -> &'static str {
    r#"a list does not state whether all or any of its scopes are required; write `scopes = all("a", "b")` or `scopes = any("a", "b")`"#
}

/// Validates the operators, the number of their operands, and each scope.
pub(crate) fn check(syntax: ScopeSyntax, errors: &mut Errors) -> Option<ScopeExpr> {
    match syntax {
        ScopeSyntax::Const(path) => Some(ScopeExpr::Const(path)),
        ScopeSyntax::Text(literal) => check_text(&literal, errors).map(ScopeExpr::Text),
        ScopeSyntax::Call {
            operator,
            arguments,
        } => check_call(&operator, arguments, errors),
    }
}

fn check_call(
    operator: &Ident,
    arguments: Vec<ScopeSyntax>,
    errors: &mut Errors,
) -> Option<ScopeExpr> {
    let written = arguments.len();
    // Checks all operands before it returns `None`, so that every error is reported.
    let checked: Vec<_> = arguments
        .into_iter()
        .map(|argument| check(argument, errors))
        .collect();
    let checked = checked.into_iter().collect::<Option<Vec<_>>>();
    let word = operator.to_string();
    match word.as_str() {
        "all" | "any" if written == 0 => {
            let remedy = format!(r#"write at least one scope, as in `{word}("orders:read")`"#);
            errors.on(operator, format!("`{word}` is empty; {remedy}"));
            None
        }
        "not" if written != 1 => {
            let remedy = r#"write `not("a")`, or for several `not(any("a", "b"))`"#;
            errors.on(operator, format!("`not` takes one scope; {remedy}"));
            None
        }
        "all" => checked.map(ScopeExpr::All),
        "any" => checked.map(ScopeExpr::Any),
        "not" => checked?.pop().map(Box::new).map(ScopeExpr::Not),
        _ => {
            errors.on(operator, unknown("operator", &word, OPERATORS.into_iter()));
            None
        }
    }
}

fn check_text(literal: &LitStr, errors: &mut Errors) -> Option<ScopeText> {
    let text = literal.value();
    match problem(&text) {
        None => Some(ScopeText {
            text,
            span: literal.span(),
        }),
        Some(problem) => {
            errors.on(literal, problem);
            None
        }
    }
}

/// Returns the problem with `scope` as the attribute writes it, if there is one.
///
/// A scope is 1 to 128 bytes long and consists of segments separated by `:`. A segment is either
/// one or more ASCII letters, digits, `.`, `_` and `-`, or exactly one template `{name}`. The
/// scopes of keys have the same grammar without templates.
fn problem(scope: &str) -> Option<String> {
    if scope.is_empty() {
        return Some(
            r#"the scope is empty; write at least one segment, as in `"orders:read"`"#.to_owned(),
        );
    }
    if scope.len() > MAX_SCOPE_BYTES {
        let length = scope.len();
        return Some(format!(
            "the scope is {length} bytes long; shorten it to {MAX_SCOPE_BYTES}"
        ));
    }
    scope.split(':').find_map(segment_problem)
}

fn segment_problem(segment: &str) -> Option<String> {
    if segment.is_empty() {
        return Some(
            "the scope has an empty segment; write text on both sides of `:`, as in `orders:read`"
                .to_owned(),
        );
    }
    if segment.contains(['{', '}']) {
        return template_problem(segment);
    }
    let wrong = segment.chars().find(|letter| !is_scope_letter(*letter))?;
    Some(match wrong {
        '*' => {
            "a scope cannot contain the wildcard `*`; write each scope, or use `any(..)`".to_owned()
        }
        ' ' | ',' => {
            r#"a scope cannot contain spaces or commas; write `scopes = all("a", "b")`"#.to_owned()
        }
        _ => format!(
            "a scope cannot contain `{}`; use ASCII letters, digits, `.`, `_`, `-` and `:`",
            wrong.escape_debug()
        ),
    })
}

fn is_scope_letter(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-')
}

fn template_problem(segment: &str) -> Option<String> {
    let name = segment
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'))
        .filter(|name| !name.contains(['{', '}']));
    let Some(name) = name else {
        return Some(
            "a template `{name}` must be a whole segment; write it as in `project:{id}:read`"
                .to_owned(),
        );
    };
    let mut letters = name.chars();
    let starts = letters
        .next()
        .is_some_and(|letter| letter.is_ascii_alphabetic() || letter == '_');
    let continues = letters.all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
    (!starts || !continues).then(|| {
        format!(
            "`{{{}}}` is not the name of a path parameter; write it as in `{{project_id}}`",
            name.escape_debug()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k_01_scopes_that_follow_the_grammar() {
        let longest = "a".repeat(128);
        for scope in [
            "read",
            "orders:read",
            "a:b:c.d_e-f:0",
            "project:{project_id}:read",
            "{_}",
            "{a}:{b}",
            &longest,
        ] {
            assert_eq!(problem(scope), None, "{scope}");
        }
    }

    #[test]
    fn k_01_scopes_that_do_not() {
        let too_long = "a".repeat(129);
        for scope in [
            "", ":", "a:", ":a", "a::b", "*", "orders:*", "a b", "a,b", "ä", "a\n", "a\0", "a/b",
            "{}", "{1a}", "{a-b}", "x{a}", "{a}x", "{a", "a}", "{{a}}", "{a}{b}", "}{", "{a:b}",
            &too_long,
        ] {
            assert!(problem(scope).is_some(), "{scope:?}");
        }
    }
}
