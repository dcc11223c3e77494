//! Parses the tokens of the attribute into options, driven by the table of options.

use proc_macro2::TokenStream;
use syn::{
    LitStr, Token,
    parse::{ParseStream, Parser},
};

use crate::{
    diagnostics::{Errors, unknown},
    options::{self, OptionSpec, OptionsSyntax, TABLE},
    values::{self, WrittenOption},
};

/// Parses all options. An invalid option is reported, and the options after it are still parsed.
pub(crate) fn parse(tokens: TokenStream, errors: &mut Errors) -> OptionsSyntax {
    let mut options = OptionsSyntax::default();
    let parsed = Parser::parse2(
        |input: ParseStream<'_>| {
            parse_options(input, &mut options, errors);
            Ok(())
        },
        tokens,
    );
    errors.keep(parsed);
    options
}

fn parse_options(input: ParseStream<'_>, options: &mut OptionsSyntax, errors: &mut Errors) {
    while !input.is_empty() {
        let parsed = parse_option(input, options, errors);
        let clean = errors.keep(parsed).is_some();
        if clean && !values::at_end_of_option(input) {
            errors.push(input.error("expected `,` before the next option"));
        }
        values::skip_option(input);
        // Absent only at the end of the attribute.
        let _: Option<Token![,]> = input.parse().ok();
    }
}

fn parse_option(
    input: ParseStream<'_>,
    options: &mut OptionsSyntax,
    errors: &mut Errors,
) -> syn::Result<()> {
    if input.peek(LitStr) {
        let problem = "expected an option, found a string; write a scope as";
        return Err(input.error(format!(r#"{problem} `scope = "orders:read"`"#)));
    }
    let key = values::word(input).map_err(|error| {
        let problem = r#"expected an option, such as `scope = "orders:read"`"#;
        syn::Error::new(error.span(), problem)
    })?;
    let Some(spec) = spec_of(&key) else {
        return Err(syn::Error::new(
            key.span(),
            unknown("option", &key, options::names()),
        ));
    };
    if options.given.contains(&key) {
        errors.on(
            &key,
            format!("duplicate option `{key}`; remove one of them"),
        );
    }
    options.given.push(key.clone());
    let written = WrittenOption {
        key: &key,
        usage: spec.usage,
        is_option: |word| spec_of(word).is_some(),
    };
    (spec.parse)(options, &written, input)
}

fn spec_of(key: &syn::Ident) -> Option<&'static OptionSpec> {
    TABLE.iter().find(|spec| key == spec.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(tokens: &str) -> (OptionsSyntax, Vec<String>) {
        let mut errors = Errors::default();
        let options = parse(tokens.parse().unwrap(), &mut errors);
        (options, errors.messages())
    }

    #[test]
    fn nothing_is_no_option() {
        let (options, errors) = read("");
        assert!(options.given.is_empty());
        assert!(errors.is_empty());
    }

    #[test]
    fn every_usage_is_read() {
        for spec in TABLE {
            let (options, errors) = read(spec.usage);
            assert_eq!(errors, [""; 0], "{}", spec.usage);
            assert_eq!(options.given.len(), 1);
        }
    }

    #[test]
    fn a_path_may_hold_commas() {
        let (options, errors) = read("manager = tenant::<Vec<u8>, Box<str>>, fresh,");
        assert_eq!(errors, [""; 0]);
        assert!(options.manager.is_some());
        assert!(options.fresh);
    }

    #[test]
    fn one_wrong_option_hides_none_after_it() {
        let (options, errors) = read("scop = 1, optional = true, prefix, , fresh");
        assert!(options.fresh);
        assert_eq!(
            errors,
            [
                "unknown option `scop`; did you mean `scope`?",
                "`optional` takes no value; write `optional`",
                "`prefix` needs a value; write `prefix = \"adm\"`",
                "expected an option, such as `scope = \"orders:read\"`",
            ]
        );
    }

    #[test]
    fn methods_behind_an_equals_sign_are_one_error() {
        for written in [
            "methods = POST",
            "methods = POST, PUT",
            "methods = \"POST\", \"PUT\", fresh",
            "methods = [POST, PUT], fresh",
            "methods POST, PUT, fresh",
            "methods[POST], fresh",
        ] {
            let (options, errors) = read(written);
            let problem = "`methods` takes its values in parentheses and without `=`";
            assert_eq!(errors, [format!("{problem}; write `methods(POST, PUT)`")]);
            assert_eq!(options.fresh, written.ends_with("fresh"), "{written}");
        }
        let (_, errors) = read("methods = POST, PUT, scop = 1, DELETE");
        assert_eq!(errors.len(), 3, "{errors:?}");
    }

    #[test]
    fn a_missing_comma_is_one_error() {
        let (options, errors) = read("optional fresh");
        assert!(options.optional);
        assert_eq!(errors, ["expected `,` before the next option"]);
    }
}
