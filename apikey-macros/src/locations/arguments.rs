//! The arguments in the parentheses of a location.

use syn::{Ident, LitStr, Token, ext::IdentExt, parse::ParseStream};

use super::{LocationSpec, LocationSyntax};
use crate::{
    diagnostics::{Errors, unknown},
    values,
};

/// The arguments of a location, as in `"X-API-Key", scheme = "ApiKey"`.
#[derive(Default)]
pub(super) struct LocationArguments {
    positional: Vec<LitStr>,
    named: Vec<(Ident, LitStr)>,
}

impl LocationArguments {
    /// Parses the tokens between the parentheses.
    ///
    /// # Errors
    ///
    /// Returns an error for anything other than strings and `name = ".."`.
    pub(super) fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut arguments = Self::default();
        values::list(input, |input| {
            if input.peek(Ident::peek_any) && input.peek2(Token![=]) {
                let name = values::word(input)?;
                input.parse::<Token![=]>()?;
                arguments.named.push((name, Self::string(input)?));
            } else {
                arguments.positional.push(Self::string(input)?);
            }
            Ok(())
        })?;
        Ok(arguments)
    }

    fn string(input: ParseStream<'_>) -> syn::Result<LitStr> {
        let problem =
            r#"a location takes strings, as in `header("Authorization", scheme = "ApiKey")`"#;
        input
            .parse()
            .map_err(|error| syn::Error::new(error.span(), problem))
    }
}

/// Returns the only positional argument of a location that takes exactly one.
pub(super) fn only_positional<'a>(
    spec: &LocationSpec,
    syntax: &'a LocationSyntax,
    errors: &mut Errors,
) -> Option<&'a LitStr> {
    let positional = syntax
        .arguments
        .as_ref()
        .map(|arguments| arguments.positional.as_slice())
        .unwrap_or_default();
    match positional {
        [name] => Some(name),
        [] => {
            let problem = format!("`{}` needs a name; write `{}`", spec.name, spec.usage);
            errors.at(syntax.span(), problem);
            None
        }
        [_, second, ..] => {
            let remedy = format!("write a location for each name, as in `{}`", spec.usage);
            errors.on(second, format!("`{}` takes one name; {remedy}", spec.name));
            None
        }
    }
}

/// Returns the named argument `known` if it was written, or `Err` after adding an error.
pub(super) fn named<'a>(
    syntax: &'a LocationSyntax,
    known: &'static str,
    errors: &mut Errors,
) -> Result<Option<&'a LitStr>, ()> {
    let mut found = Ok(None);
    for (name, value) in syntax
        .arguments
        .iter()
        .flat_map(|arguments| &arguments.named)
    {
        let problem = if name != known {
            unknown("argument", name, [known].into_iter())
        } else if !matches!(found, Ok(None)) {
            format!("duplicate argument `{known}`; remove one of them")
        } else {
            found = Ok(Some(value));
            continue;
        };
        errors.on(name, problem);
        found = Err(());
    }
    found
}

/// Returns whether a location that takes no named arguments has none.
pub(super) fn none_named(
    spec: &LocationSpec,
    syntax: &LocationSyntax,
    errors: &mut Errors,
) -> bool {
    let named = syntax
        .arguments
        .as_ref()
        .map(|arguments| arguments.named.as_slice())
        .unwrap_or_default();
    for (name, _) in named {
        let LocationSpec {
            name: location,
            usage,
            ..
        } = spec;
        errors.on(
            name,
            format!("`{location}` takes only a name; write `{usage}`"),
        );
    }
    named.is_empty()
}
