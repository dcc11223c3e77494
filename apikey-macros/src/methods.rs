//! The option `methods`: its syntax and the methods that it accepts.

use syn::{Ident, LitStr, Token, ext::IdentExt, parse::ParseStream};

use crate::{diagnostics::Errors, values};

/// The maximum length of a method, in bytes.
const MAX_METHOD_BYTES: usize = 32;

/// The methods of RFC 9110 section 9.1 and PATCH (RFC 5789).
const STANDARD: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
];

/// A method as written, not yet validated.
pub(crate) enum MethodSyntax {
    /// `POST`
    Word(Ident),
    /// `"POST"`
    Text(LitStr),
}

impl MethodSyntax {
    fn value(&self) -> String {
        match self {
            Self::Word(word) => word.unraw().to_string(),
            Self::Text(literal) => literal.value(),
        }
    }
}

/// Parses one method.
///
/// # Errors
///
/// Returns an error if the method is neither an identifier nor a string, or if `-` or `::` follows
/// an identifier.
pub(crate) fn parse(input: ParseStream<'_>) -> syn::Result<MethodSyntax> {
    if input.peek(LitStr) {
        return input.parse().map(MethodSyntax::Text);
    }
    let no_method = r#"expected a method; write `POST` or `"POST"`"#;
    let word = values::word(input).map_err(|error| syn::Error::new(error.span(), no_method))?;
    if input.peek(Token![::]) {
        return Err(syn::Error::new(word.span(), no_method));
    }
    if input.peek(Token![-]) {
        let problem = r#"a method that contains `-` must be a string; write it as in `"M-SEARCH"`"#;
        return Err(syn::Error::new(word.span(), problem));
    }
    Ok(MethodSyntax::Word(word))
}

/// Validates every method and rejects duplicates.
pub(crate) fn check(written: &[MethodSyntax], errors: &mut Errors) -> Vec<String> {
    let mut methods = Vec::new();
    for syntax in written {
        let method = syntax.value();
        let wrong = match syntax {
            MethodSyntax::Word(_) => misspelt(&method).or_else(|| problem(&method)),
            // A string is not checked for typos, so every method can be written.
            MethodSyntax::Text(_) => problem(&method),
        };
        let twice = || {
            let twice = methods.contains(&method);
            twice.then(|| format!("duplicate method `{method}`; remove one of them"))
        };
        match (wrong.or_else(twice), syntax) {
            (None, _) => methods.push(method),
            (Some(problem), MethodSyntax::Word(word)) => errors.on(word, problem),
            (Some(problem), MethodSyntax::Text(literal)) => errors.on(literal, problem),
        }
    }
    methods
}

/// Returns the problem with a word that is one typo away from a standard method.
fn misspelt(word: &str) -> Option<String> {
    let capitals = word.to_ascii_uppercase();
    if STANDARD.contains(&capitals.as_str()) {
        return None;
    }
    let meant = STANDARD
        .into_iter()
        .find(|method| strsim::damerau_levenshtein(&capitals, method) == 1)?;
    let unknown = format!("unknown method `{word}`; did you mean `{meant}`?");
    Some(match problem(&capitals) {
        None => format!("{unknown} (if not, write the string `\"{capitals}\"`)"),
        Some(_) => unknown,
    })
}

/// Returns the problem with `method`, if there is one.
///
/// RFC 9110 section 9.1 allows any token. Methods are case-sensitive, and every registered method
/// that a client can send consists of uppercase letters and `-`. Any other method is a typo, with
/// which every request would be denied.
fn problem(method: &str) -> Option<String> {
    let length = method.len();
    if length == 0 {
        return Some(r#"the method is empty; write one, as in `"POST"`"#.to_owned());
    }
    if length > MAX_METHOD_BYTES {
        return Some(format!(
            "the method is {length} bytes long; shorten it to {MAX_METHOD_BYTES}"
        ));
    }
    let wrong = |letter: &char| !(letter.is_ascii_alphabetic() || *letter == '-');
    if let Some(wrong) = method.chars().find(wrong) {
        let wrong = wrong.escape_debug();
        return Some(format!(
            "a method cannot contain `{wrong}`; use uppercase letters and `-`"
        ));
    }
    let capitals = method.to_ascii_uppercase();
    (capitals != method)
        .then(|| format!("the method `{method}` is not in upper case; write `{capitals}`"))
}

#[cfg(test)]
mod tests {
    use syn::parse::Parser;

    use super::*;

    fn read_and_check(text: &str) -> (Vec<String>, Vec<String>) {
        let written = (|input: ParseStream<'_>| values::list(input, parse))
            .parse_str(text)
            .unwrap();
        let mut errors = Errors::default();
        let methods = check(&written, &mut errors);
        (methods, errors.messages())
    }

    #[test]
    fn methods() {
        let (longest, too_long) = ("A".repeat(32), "A".repeat(33));
        for method in STANDARD
            .into_iter()
            .chain(["PROPFIND", "M-SEARCH", "X", "-", &longest])
        {
            assert_eq!(problem(method), None, "{method}");
        }
        for method in [
            "", "post", "Post", "P0ST", "PO ST", "PO_ST", "*", "GET,", "PÖST", "A\0", "A\n",
            &too_long,
        ] {
            assert!(problem(method).is_some(), "{method:?}");
        }
    }

    #[test]
    fn words_and_strings_are_the_same_methods() {
        let (methods, errors) =
            read_and_check(r#"POST, "PUT", PROPFIND, r#TRACE, "VERSION-CONTROL","#);
        assert_eq!(errors, [""; 0]);
        assert_eq!(
            methods,
            ["POST", "PUT", "PROPFIND", "TRACE", "VERSION-CONTROL"]
        );
        let (methods, errors) = read_and_check(r#"POST, "POST""#);
        assert_eq!(methods, ["POST"]);
        assert_eq!(errors, ["duplicate method `POST`; remove one of them"]);
    }

    #[test]
    fn a_slip_is_recognised_in_a_word_and_a_string_is_taken_as_it_is() {
        for (slip, meant) in [
            ("PSOT", "POST"),
            ("GETS", "GET"),
            ("DELET", "DELETE"),
            ("pur", "PUT"),
        ] {
            let problem = misspelt(slip).unwrap();
            assert!(
                problem.contains(&format!("did you mean `{meant}`?")),
                "{problem}"
            );
        }
        let (methods, errors) = read_and_check(r#""PSOT""#);
        assert_eq!(errors, [""; 0]);
        assert_eq!(methods, ["PSOT"]);
    }

    /// The methods of the IANA registry other than the standard ones.
    #[test]
    fn no_registered_method_is_taken_for_a_slip() {
        for method in [
            "ACL",
            "BASELINE-CONTROL",
            "BIND",
            "CHECKIN",
            "CHECKOUT",
            "COPY",
            "LABEL",
            "LINK",
            "LOCK",
            "MERGE",
            "MKACTIVITY",
            "MKCALENDAR",
            "MKCOL",
            "MKREDIRECTREF",
            "MKWORKSPACE",
            "MOVE",
            "ORDERPATCH",
            "PRI",
            "PROPFIND",
            "PROPPATCH",
            "QUERY",
            "REBIND",
            "REPORT",
            "SEARCH",
            "UNBIND",
            "UNCHECKOUT",
            "UNLINK",
            "UNLOCK",
            "UPDATE",
            "UPDATEREDIRECTREF",
            "VERSION-CONTROL",
        ] {
            assert_eq!(misspelt(method), None, "{method}");
        }
        for method in STANDARD {
            assert_eq!(misspelt(method), None, "{method}");
        }
    }
}
