//! The options of the attribute and the table that drives their parser.

use syn::{ExprPath, Ident, LitStr, Path, parse::ParseStream};

use crate::{
    limits::{self, LimitsSyntax},
    locations::{self, LocationSyntax},
    methods::{self, MethodSyntax},
    scopes::{self, ScopeSyntax},
    values::{self, WrittenOption},
};

/// The options as written: parsed, but not yet validated.
#[derive(Default)]
pub(crate) struct OptionsSyntax {
    /// The names of the known options, in the order in which they were written.
    pub(crate) given: Vec<Ident>,
    /// `scope = ..` and `scopes = ..`; more than one is an error.
    pub(crate) scopes: Vec<ScopeSyntax>,
    /// `location = ..` or `locations = [..]`; empty if neither was written.
    pub(crate) locations: Vec<LocationSyntax>,
    /// `methods(..)`; empty if it was not written.
    pub(crate) methods: Vec<MethodSyntax>,
    /// `optional`.
    pub(crate) optional: bool,
    /// `fresh`.
    pub(crate) fresh: bool,
    /// `require_https`.
    pub(crate) require_https: bool,
    /// `prefix = ".."`.
    pub(crate) prefix: Option<LitStr>,
    /// `environment = ".."`.
    pub(crate) environment: Option<LitStr>,
    /// `rate_limit = ..`, `burst = ..`, `cost = ..` and `on_limiter_down = ".."`.
    pub(crate) limits: LimitsSyntax,
    /// `manager = path`.
    pub(crate) manager: Option<ExprPath>,
    /// `on_error = path`.
    pub(crate) on_error: Option<ExprPath>,
    /// `crate = path`.
    pub(crate) krate: Option<Path>,
}

/// A row of the table of options.
pub(crate) struct OptionSpec {
    /// The name of the option.
    pub(crate) name: &'static str,
    /// An example of the option, which errors show.
    pub(crate) usage: &'static str,
    /// Parses the tokens after the name into the options.
    pub(crate) parse:
        fn(&mut OptionsSyntax, &WrittenOption<'_>, ParseStream<'_>) -> syn::Result<()>,
}

/// All options. `OPTIONS.md` documents the same ones; a test compares the two.
pub(crate) const TABLE: &[OptionSpec] = &[
    OptionSpec {
        name: "scope",
        usage: r#"scope = "orders:read""#,
        parse: |options, written, input| {
            let scope = values::after_equals(written, input, scopes::parse_one)?;
            options.scopes.push(scope);
            Ok(())
        },
    },
    OptionSpec {
        name: "scopes",
        usage: r#"scopes = all("orders:read", "orders:write")"#,
        parse: |options, written, input| {
            let expression = values::after_equals(written, input, scopes::parse)?;
            options.scopes.push(expression);
            Ok(())
        },
    },
    OptionSpec {
        name: "location",
        usage: r#"location = header("X-API-Key")"#,
        parse: |options, written, input| {
            let location = values::after_equals(written, input, locations::parse)?;
            options.locations.push(location);
            Ok(())
        },
    },
    OptionSpec {
        name: "locations",
        usage: r#"locations = [bearer, header("X-API-Key")]"#,
        parse: |options, written, input| {
            let list = values::after_equals(written, input, locations::parse_list)?;
            options.locations.extend(list);
            Ok(())
        },
    },
    OptionSpec {
        name: "methods",
        usage: "methods(POST, PUT)",
        parse: |options, written, input| {
            let methods = values::in_parentheses(written, input, methods::parse)?;
            options.methods.extend(methods);
            Ok(())
        },
    },
    OptionSpec {
        name: "optional",
        usage: "optional",
        parse: |options, written, input| {
            options.optional = values::flag(written, input)?;
            Ok(())
        },
    },
    OptionSpec {
        name: "fresh",
        usage: "fresh",
        parse: |options, written, input| {
            options.fresh = values::flag(written, input)?;
            Ok(())
        },
    },
    OptionSpec {
        name: "require_https",
        usage: "require_https",
        parse: |options, written, input| {
            options.require_https = values::flag(written, input)?;
            Ok(())
        },
    },
    OptionSpec {
        name: "rate_limit",
        usage: r#"rate_limit = "100/minute""#,
        parse: |options, written, input| {
            let rate = values::after_equals(written, input, limits::parse_rate)?;
            options.limits.rate = Some(rate);
            Ok(())
        },
    },
    OptionSpec {
        name: "burst",
        usage: "burst = 20",
        parse: |options, written, input| {
            let burst = values::after_equals(written, input, limits::parse_number)?;
            options.limits.burst = Some(burst);
            Ok(())
        },
    },
    OptionSpec {
        name: "cost",
        usage: "cost = 5",
        parse: |options, written, input| {
            let cost = values::after_equals(written, input, limits::parse_number)?;
            options.limits.cost = Some(cost);
            Ok(())
        },
    },
    OptionSpec {
        name: "on_limiter_down",
        usage: r#"on_limiter_down = "local""#,
        parse: |options, written, input| {
            options.limits.on_limiter_down =
                Some(values::after_equals(written, input, values::string)?);
            Ok(())
        },
    },
    OptionSpec {
        name: "prefix",
        usage: r#"prefix = "adm""#,
        parse: |options, written, input| {
            options.prefix = Some(values::after_equals(written, input, values::string)?);
            Ok(())
        },
    },
    OptionSpec {
        name: "environment",
        usage: r#"environment = "live""#,
        parse: |options, written, input| {
            options.environment = Some(values::after_equals(written, input, values::string)?);
            Ok(())
        },
    },
    OptionSpec {
        name: "manager",
        usage: "manager = path::to::function",
        parse: |options, written, input| {
            options.manager = Some(values::after_equals(written, input, values::path)?);
            Ok(())
        },
    },
    OptionSpec {
        name: "on_error",
        usage: "on_error = path::to::function",
        parse: |options, written, input| {
            options.on_error = Some(values::after_equals(written, input, values::path)?);
            Ok(())
        },
    },
    OptionSpec {
        name: "crate",
        usage: "crate = ::path::to::apikey_runtime",
        parse: |options, written, input| {
            options.krate = Some(values::after_equals(written, input, values::module)?);
            Ok(())
        },
    },
];

/// Pairs of options that conflict, and the remedy.
pub(crate) const CONFLICTS: &[(&str, &str, &str)] = &[
    (
        "scope",
        "scopes",
        r#"merge them, as in `scopes = all("a", "b")`"#,
    ),
    (
        "location",
        "locations",
        r#"merge them, as in `locations = [bearer, header("X-API-Key")]`"#,
    ),
];

/// Returns the names of all options, in the order of the table.
pub(crate) fn names() -> impl Iterator<Item = &'static str> + Clone {
    TABLE.iter().map(|spec| spec.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the option of a row ``| `name = ..` | .. |``, or `None` for the table's other lines.
    fn documented(line: &'static str) -> Option<&'static str> {
        let cell = line.strip_prefix("| `")?;
        cell.split(|letter: char| !(letter.is_ascii_lowercase() || letter == '_'))
            .next()
    }

    #[test]
    fn the_documented_options_are_those_of_the_parser() {
        let mut documented: Vec<_> = include_str!("../OPTIONS.md")
            .lines()
            .filter_map(documented)
            .collect();
        let mut parsed: Vec<_> = names().collect();
        documented.sort_unstable();
        parsed.sort_unstable();
        assert_eq!(documented, parsed);
    }

    #[test]
    fn every_usage_starts_with_its_option() {
        for spec in TABLE {
            let word = spec.usage.split([' ', '(']).next();
            assert_eq!(word, Some(spec.name));
        }
    }

    #[test]
    fn every_conflict_is_between_known_options() {
        for (one, other, _) in CONFLICTS {
            assert!(names().any(|name| name == *one), "{one}");
            assert!(names().any(|name| name == *other), "{other}");
        }
    }
}
