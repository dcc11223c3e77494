//! Scopes: how an expression of them is written, and the grammar of one.

use syn::{
    ExprPath, Ident, LitStr, Token, ext::IdentExt, parenthesized, parse::ParseStream, token,
};

use crate::{
    diagnostics::{Errors, unknown},
    options::Written,
    values,
};

/// Longest scope, in bytes; the runtime holds keys to the same bound when it issues them.
const MAX_SCOPE_BYTES: usize = 128;

/// The words that combine scopes.
const OPERATORS: [&str; 3] = ["all", "any", "not"];

/// An expression of scopes as written.
pub(crate) enum ScopeSyntax {
    /// `"orders:read"`
    Text(LitStr),
    /// `permissions::READ`
    Const(ExprPath),
    /// `all(..)`, or with a word that is no operator.
    Call {
        operator: Ident,
        arguments: Vec<ScopeSyntax>,
    },
}

/// An expression of scopes that is well formed.
pub(crate) enum ScopeExpr {
    /// A scope that follows the grammar.
    Text(ScopeText),
    /// A const; the runtime holds it to the grammar when it is compiled.
    Const(ExprPath),
    /// Each of them; there is at least one.
    All(Vec<ScopeExpr>),
    /// One of them; there is at least one.
    Any(Vec<ScopeExpr>),
    /// Not this one.
    Not(Box<ScopeExpr>),
}

impl ScopeExpr {
    /// Whether only the compiler can judge all of it.
    pub(crate) fn has_const(&self) -> bool {
        match self {
            Self::Text(_) => false,
            Self::Const(_) => true,
            Self::All(scopes) | Self::Any(scopes) => scopes.iter().any(Self::has_const),
            Self::Not(scope) => scope.has_const(),
        }
    }
}

/// The text of a scope that follows the grammar.
pub(crate) struct ScopeText(String);

impl ScopeText {
    /// The scope, templates as written.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Reads what stands behind `scope =`: one scope.
///
/// # Errors
///
/// It is no string and no path, or it is an operator, which belongs behind `scopes =`.
pub(crate) fn read_one(written: &Written<'_>, input: ParseStream<'_>) -> syn::Result<ScopeSyntax> {
    if input.peek(Ident::peek_any) && input.peek2(token::Paren) {
        let problem = "`scope` takes one scope; write an expression of them as";
        return Err(input.error(format!(r#"{problem} `scopes = all("a", "b")`"#)));
    }
    if input.peek(token::Bracket) {
        return Err(input.error(list_problem()));
    }
    let scope = leaf(input)
        .map_err(|error| values::expected(written, "a string or the path of a `const`", error))?;
    refuse_macro(input).map(|()| scope)
}

/// Reads what stands behind `scopes =`.
///
/// # Errors
///
/// It is no expression of strings, paths and operators.
pub(crate) fn read(written: &Written<'_>, input: ParseStream<'_>) -> syn::Result<ScopeSyntax> {
    if input.peek(token::Bracket) {
        return Err(input.error(list_problem()));
    }
    if !(input.peek(Ident::peek_any) && input.peek2(token::Paren)) {
        let scope = leaf(input)
            .map_err(|error| values::expected(written, "an expression of scopes", error))?;
        return refuse_macro(input).map(|()| scope);
    }
    let operator = input.call(Ident::parse_any)?;
    let content;
    parenthesized!(content in input);
    Ok(ScopeSyntax::Call {
        operator,
        arguments: values::list(&content, |input| read(written, input))?,
    })
}

fn leaf(input: ParseStream<'_>) -> syn::Result<ScopeSyntax> {
    if input.peek(LitStr) {
        return input.parse().map(ScopeSyntax::Text);
    }
    input.parse().map(ScopeSyntax::Const)
}

/// Refuses `concat!(..)` where a path was read: what it expands to is not known here.
fn refuse_macro(input: ParseStream<'_>) -> syn::Result<()> {
    if input.peek(Token![!]) {
        let problem = "a macro cannot stand here; put it into a `const` and write its path";
        return Err(input.error(problem));
    }
    Ok(())
}

fn list_problem() -> &'static str {
    r#"a list does not say whether all or any of its scopes are needed; write `scopes = all("a", "b")` or `scopes = any("a", "b")`"#
}

/// Judges an expression: its operators, what they take, and each scope.
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
    // All of them, not up to the first wrong one: every error is to be shown.
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
        None => Some(ScopeText(text)),
        Some(problem) => {
            errors.on(literal, problem);
            None
        }
    }
}

/// What is wrong with `scope` as the attribute writes it, or nothing.
///
/// One to 128 bytes in segments separated by `:`, each one or more of ASCII letters, digits, `.`, `_`
/// and `-`, or exactly one template `{name}`. The runtime holds a key's scopes to the same grammar
/// without templates.
fn problem(scope: &str) -> Option<String> {
    if scope.is_empty() {
        return Some(
            r#"the scope is empty; write at least one segment, as in `"orders:read"`"#.to_owned(),
        );
    }
    if scope.len() > MAX_SCOPE_BYTES {
        let length = scope.len();
        return Some(format!(
            "the scope is {length} bytes long; {MAX_SCOPE_BYTES} are the most"
        ));
    }
    scope.split(':').find_map(segment_problem)
}

fn segment_problem(segment: &str) -> Option<String> {
    if segment.is_empty() {
        return Some(
            "the scope has an empty segment; `:` stands between segments, as in `orders:read`"
                .to_owned(),
        );
    }
    if segment.contains(['{', '}']) {
        return template_problem(segment);
    }
    let wrong = segment.chars().find(|letter| !is_scope_letter(*letter))?;
    Some(match wrong {
        '*' => "a scope has no wildcard `*`; name each scope, or write `any(..)`".to_owned(),
        ' ' | ',' => r#"a scope is one word; write several as `scopes = all("a", "b")`"#.to_owned(),
        _ => format!(
            "a scope cannot hold `{}`; its segments are of ASCII letters, digits, `.`, `_` and `-`",
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
            "a template `{name}` is a whole segment of its scope; write it as in `project:{id}:read`"
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
            "`{{{}}}` is no name of a path segment; write the one of the route, as in `{{project_id}}`",
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
