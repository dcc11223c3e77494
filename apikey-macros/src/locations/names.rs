//! The names that a location can have: tokens of HTTP, and names of parameters.

use syn::LitStr;

use super::LocationSpec;
use crate::diagnostics::Errors;

/// Longest name of a parameter, in bytes; the runtime's configuration has the same bound.
const MAX_PARAMETER_BYTES: usize = 64;

/// The text of `literal` if it is a token of HTTP (RFC 9110, 5.6.2), as field names and
/// authentication schemes are.
pub(super) fn token(literal: &LitStr, what: &str, errors: &mut Errors) -> Option<String> {
    let text = literal.value();
    let wrong = text.chars().find(|letter| !is_token_letter(*letter));
    match wrong {
        None if text.is_empty() => errors.on(literal, format!("the {what} is empty; write one")),
        None => return Some(text),
        Some(wrong) => {
            let allowed = "write letters, digits and `-` (RFC 9110 allows a few signs more)";
            let wrong = wrong.escape_debug();
            errors.on(
                literal,
                format!("a {what} cannot hold `{wrong}`; {allowed}"),
            );
        }
    }
    None
}

fn is_token_letter(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(letter)
}

/// The text of `literal` if it names a parameter, a cookie, a member or a field and needs no encoding
/// in any of them.
pub(super) fn parameter(
    spec: &LocationSpec,
    literal: &LitStr,
    errors: &mut Errors,
) -> Option<String> {
    let text = literal.value();
    match parameter_problem(spec, &text) {
        None => Some(text),
        Some(problem) => {
            errors.on(literal, problem);
            None
        }
    }
}

fn parameter_problem(spec: &LocationSpec, name: &str) -> Option<String> {
    let LocationSpec {
        name: location,
        usage,
        ..
    } = spec;
    let length = name.len();
    if length == 0 {
        return Some(format!(
            "the name of `{location}` is empty; write one, as in `{usage}`"
        ));
    }
    if length > MAX_PARAMETER_BYTES {
        return Some(format!(
            "the name of `{location}` is {length} bytes long; {MAX_PARAMETER_BYTES} are the most"
        ));
    }
    let wrong = name.chars().find(|letter| !is_parameter_letter(*letter))?;
    Some(format!(
        "the name of `{location}` cannot hold `{}`; it is of ASCII letters, digits, `_`, `.` and `-`",
        wrong.escape_debug()
    ))
}

fn is_parameter_letter(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "_.-".contains(letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUERY: &LocationSpec = &LocationSpec {
        name: "query",
        usage: r#"query("api_key")"#,
        check: |_, _, _| None,
    };

    #[test]
    fn names_of_parameters() {
        let (longest, too_long) = ("a".repeat(64), "a".repeat(65));
        for name in ["k", "api_key", "api-key", "X.1", "_", "-", "7", &longest] {
            assert_eq!(parameter_problem(QUERY, name), None, "{name}");
        }
        for name in [
            "", "a b", "a=b", "a&b", "a;b", "a[]", "a%20", "a+b", "\"", "ä", "a\n", "a\0",
            &too_long,
        ] {
            assert!(parameter_problem(QUERY, name).is_some(), "{name:?}");
        }
    }
}
