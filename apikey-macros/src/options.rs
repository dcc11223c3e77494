//! The options of the attribute, as written: one table of names, and what each reads.

use syn::{ExprPath, Ident, LitStr, Path, parse::ParseStream};

use crate::{
    limits::{self, LimitsSyntax},
    locations::{self, LocationSyntax},
    methods::{self, MethodSyntax},
    scopes::{self, ScopeSyntax},
    values,
};

/// What an attribute says, its shapes read and its values not yet judged.
#[derive(Default)]
pub(crate) struct Options {
    /// The names of the options in the order they were written, the unknown left out.
    pub(crate) given: Vec<Ident>,
    /// `scope = ..` and `scopes = ..`: one of them, or more with an error.
    pub(crate) scopes: Vec<ScopeSyntax>,
    /// `location = ..` or `locations = [..]`; empty where none was written.
    pub(crate) locations: Vec<LocationSyntax>,
    /// `methods(..)`; empty where it was not written.
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

/// One row of the table: an option's name, how it is written, and how it is read.
pub(crate) struct OptionSpec {
    /// The word that the option starts with.
    pub(crate) name: &'static str,
    /// How it is written; errors show it.
    pub(crate) usage: &'static str,
    /// Reads what follows the name into the options.
    pub(crate) read: fn(&mut Options, &Written<'_>, ParseStream<'_>) -> syn::Result<()>,
}

/// An option's name where it stands, with its row.
pub(crate) struct Written<'a> {
    /// The name, as written.
    pub(crate) key: &'a Ident,
    /// Its row.
    pub(crate) spec: &'static OptionSpec,
}

/// Every option there is. `OPTIONS.md` describes the same ones; a test holds them together.
pub(crate) const TABLE: &[OptionSpec] = &[
    OptionSpec {
        name: "scope",
        usage: r#"scope = "orders:read""#,
        read: |options, written, input| {
            let scope = values::after_equals(written, input, scopes::read_one)?;
            options.scopes.push(scope);
            Ok(())
        },
    },
    OptionSpec {
        name: "scopes",
        usage: r#"scopes = all("orders:read", "orders:write")"#,
        read: |options, written, input| {
            let expression = values::after_equals(written, input, scopes::read)?;
            options.scopes.push(expression);
            Ok(())
        },
    },
    OptionSpec {
        name: "location",
        usage: r#"location = header("X-API-Key")"#,
        read: |options, written, input| {
            let location = values::after_equals(written, input, locations::read)?;
            options.locations.push(location);
            Ok(())
        },
    },
    OptionSpec {
        name: "locations",
        usage: r#"locations = [bearer, header("X-API-Key")]"#,
        read: |options, written, input| {
            let list = values::after_equals(written, input, locations::read_list)?;
            options.locations.extend(list);
            Ok(())
        },
    },
    OptionSpec {
        name: "methods",
        usage: "methods(POST, PUT)",
        read: |options, written, input| {
            let methods = values::in_parentheses(written, input, methods::read)?;
            options.methods.extend(methods);
            Ok(())
        },
    },
    OptionSpec {
        name: "optional",
        usage: "optional",
        read: |options, written, input| {
            options.optional = values::flag(written, input)?;
            Ok(())
        },
    },
    OptionSpec {
        name: "fresh",
        usage: "fresh",
        read: |options, written, input| {
            options.fresh = values::flag(written, input)?;
            Ok(())
        },
    },
    OptionSpec {
        name: "require_https",
        usage: "require_https",
        read: |options, written, input| {
            options.require_https = values::flag(written, input)?;
            Ok(())
        },
    },
    OptionSpec {
        name: "rate_limit",
        usage: r#"rate_limit = "100/minute""#,
        read: |options, written, input| {
            let rate = values::after_equals(written, input, limits::read_rate)?;
            options.limits.rate = Some(rate);
            Ok(())
        },
    },
    OptionSpec {
        name: "burst",
        usage: "burst = 20",
        read: |options, written, input| {
            let burst = values::after_equals(written, input, limits::read_number)?;
            options.limits.burst = Some(burst);
            Ok(())
        },
    },
    OptionSpec {
        name: "cost",
        usage: "cost = 5",
        read: |options, written, input| {
            let cost = values::after_equals(written, input, limits::read_number)?;
            options.limits.cost = Some(cost);
            Ok(())
        },
    },
    OptionSpec {
        name: "on_limiter_down",
        usage: r#"on_limiter_down = "local""#,
        read: |options, written, input| {
            options.limits.down = Some(values::after_equals(written, input, values::string)?);
            Ok(())
        },
    },
    OptionSpec {
        name: "prefix",
        usage: r#"prefix = "adm""#,
        read: |options, written, input| {
            options.prefix = Some(values::after_equals(written, input, values::string)?);
            Ok(())
        },
    },
    OptionSpec {
        name: "environment",
        usage: r#"environment = "live""#,
        read: |options, written, input| {
            options.environment = Some(values::after_equals(written, input, values::string)?);
            Ok(())
        },
    },
    OptionSpec {
        name: "manager",
        usage: "manager = path::to::function",
        read: |options, written, input| {
            options.manager = Some(values::after_equals(written, input, values::path)?);
            Ok(())
        },
    },
    OptionSpec {
        name: "on_error",
        usage: "on_error = path::to::function",
        read: |options, written, input| {
            options.on_error = Some(values::after_equals(written, input, values::path)?);
            Ok(())
        },
    },
    OptionSpec {
        name: "crate",
        usage: "crate = ::path::to::apikey_runtime",
        read: |options, written, input| {
            options.krate = Some(values::after_equals(written, input, values::module)?);
            Ok(())
        },
    },
];

/// Options that cannot stand together, and what to write.
pub(crate) const CONFLICTS: &[(&str, &str, &str)] = &[
    (
        "scope",
        "scopes",
        r#"write all of it in one, as in `scopes = all("a", "b")`"#,
    ),
    (
        "location",
        "locations",
        r#"write all of it in one, as in `locations = [bearer, header("X-API-Key")]`"#,
    ),
];

/// The names of the options, in the order of the table.
pub(crate) fn names() -> impl Iterator<Item = &'static str> + Clone {
    TABLE.iter().map(|spec| spec.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The option's name in a row ``| `name = ..` | .. |``, or nothing for the table's other lines.
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
