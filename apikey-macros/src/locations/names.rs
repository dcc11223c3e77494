//! The names in locations: HTTP tokens and parameter names.

use syn::LitStr;

use super::LocationSpec;
use crate::diagnostics::Errors;

/// The maximum length of a parameter name, in bytes, as in the runtime's configuration.
const MAX_PARAMETER_BYTES: usize = 64;

/// Returns the text of `literal` if it is an HTTP token (RFC 9110 section 5.6.2).
///
/// Field names and authentication schemes are tokens.
pub(super) fn token(literal: &LitStr, what: &str, errors: &mut Errors) -> Option<String> {
    let text = literal.value();
    let wrong = text.chars().find(|letter| !is_token_letter(*letter));
    match wrong {
        None if text.is_empty() => errors.on(literal, format!("the {what} is empty; write one")),
        None => return Some(text),
        Some(wrong) => {
            let allowed = "use letters, digits and `-` (RFC 9110 allows a few more characters)";
            let wrong = wrong.escape_debug();
            errors.on(
                literal,
                format!("a {what} cannot contain `{wrong}`; {allowed}"),
            );
        }
    }
    None
}

fn is_token_letter(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(letter)
}

/// Returns the text of `literal` if it is a valid parameter name.
///
/// A valid name needs no encoding as a query parameter, a cookie, a JSON member or a form field.
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
            "the name of `{location}` is {length} bytes long; shorten it to {MAX_PARAMETER_BYTES}"
        ));
    }
    let wrong = name.chars().find(|letter| !is_parameter_letter(*letter))?;
    Some(format!(
        "the name of `{location}` cannot contain `{}`; use ASCII letters, digits, `_`, `.` and `-`",
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
