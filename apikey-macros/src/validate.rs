//! Validates the options and returns a policy whose values are all valid.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::{ExprPath, LitStr};

use crate::{
    diagnostics::Errors,
    limits::{self, Limits},
    locations::{self, KeyLocation},
    methods,
    options::{CONFLICTS, OptionsSyntax},
    scopes::{self, ScopeExpr},
};

/// The maximum length of a prefix and of an environment, in bytes.
///
/// The runtime's configuration has the same bounds.
const MAX_FAMILY_BYTES: usize = 32;

/// The validated policy of a route.
pub(crate) struct Policy {
    /// The path of the runtime.
    pub(crate) krate: TokenStream,
    /// The scopes that a key must have.
    pub(crate) scopes: Option<ScopeExpr>,
    /// The locations of the key; empty for the manager's default.
    pub(crate) locations: Vec<KeyLocation>,
    /// The methods for which a key is allowed; empty for all.
    pub(crate) methods: Vec<String>,
    /// Whether a request without a key is allowed.
    pub(crate) optional: bool,
    /// Whether each check queries the store instead of the cache.
    pub(crate) fresh: bool,
    /// Whether a key that arrived without TLS is denied.
    pub(crate) require_https: bool,
    /// The limits of the route and the cost of a request.
    pub(crate) limits: Limits,
    /// The prefix that a key must have.
    pub(crate) prefix: Option<String>,
    /// The environment that a key must have.
    pub(crate) environment: Option<String>,
    /// The function that finds the manager.
    pub(crate) manager: Option<ExprPath>,
    /// The function that responds to a denied request.
    pub(crate) on_error: Option<ExprPath>,
}

impl Policy {
    /// Returns whether the policy is the manager's default.
    pub(crate) fn is_default(&self) -> bool {
        let Self {
            krate: _,
            scopes,
            locations,
            methods,
            optional,
            fresh,
            require_https,
            limits,
            prefix,
            environment,
            manager,
            on_error,
        } = self;
        let paths = manager.is_none() && on_error.is_none();
        let family = prefix.is_none() && environment.is_none();
        let request = locations.is_empty() && methods.is_empty() && !require_https;
        paths && family && request && limits.is_default() && scopes.is_none() && !optional && !fresh
    }
}

/// Validates the values of all options and their combinations.
///
/// The policy is complete only if no error was added to `errors`.
pub(crate) fn check(options: OptionsSyntax, errors: &mut Errors) -> Policy {
    check_conflicts(&options, errors);
    let krate = match options.krate {
        Some(krate) => krate.into_token_stream(),
        None => quote!(::apikey_runtime),
    };
    Policy {
        krate,
        scopes: options
            .scopes
            .into_iter()
            .filter_map(|scopes| scopes::check(scopes, errors))
            .last(),
        locations: locations::check(options.locations, errors),
        methods: methods::check(&options.methods, errors),
        optional: options.optional,
        fresh: options.fresh,
        require_https: options.require_https,
        limits: limits::check(&options.limits, &options.given, errors),
        prefix: options
            .prefix
            .and_then(|prefix| check_text(&prefix, prefix_problem, errors)),
        environment: options
            .environment
            .and_then(|environment| check_text(&environment, environment_problem, errors)),
        manager: options.manager,
        on_error: options.on_error,
    }
}

fn check_conflicts(OptionsSyntax { given, .. }: &OptionsSyntax, errors: &mut Errors) {
    for (one, other, remedy) in CONFLICTS {
        let has = |name: &str| given.iter().any(|key| key == name);
        if !(has(one) && has(other)) {
            continue;
        }
        // The later of the two is the one that the user is adding.
        if let Some(later) = given.iter().rfind(|key| key == one || key == other) {
            let problem = format!("`{one}` and `{other}` cannot be used together; {remedy}");
            errors.on(later, problem);
        }
    }
}

fn check_text(
    literal: &LitStr,
    problem: fn(&str) -> Option<String>,
    errors: &mut Errors,
) -> Option<String> {
    let text = literal.value();
    match problem(&text) {
        None => Some(text),
        Some(problem) => {
            errors.on(literal, problem);
            None
        }
    }
}

fn prefix_problem(prefix: &str) -> Option<String> {
    if let Some(problem) = length_problem("prefix", prefix) {
        return Some(problem);
    }
    if let Some(wrong) = wrong_letter(prefix, "_") {
        return Some(format!(
            "a prefix cannot contain `{wrong}`; use ASCII letters, digits and `_`"
        ));
    }
    if !prefix.starts_with(|letter: char| letter.is_ascii_alphabetic()) {
        return Some(r#"a prefix must start with a letter; write it as in `"adm"`"#.to_owned());
    }
    prefix
        .ends_with('_')
        .then(|| "a prefix cannot end with `_`, because the key adds one; remove it".to_owned())
}

fn environment_problem(environment: &str) -> Option<String> {
    length_problem("environment", environment).or_else(|| {
        wrong_letter(environment, "_-").map(|wrong| {
            format!(
                "an environment cannot contain `{wrong}`; use ASCII letters, digits, `_` and `-`"
            )
        })
    })
}

fn length_problem(what: &str, text: &str) -> Option<String> {
    let length = text.len();
    match length {
        0 => Some(format!(
            "the {what} is empty; write one, or remove the option"
        )),
        1..=MAX_FAMILY_BYTES => None,
        _ => Some(format!(
            "the {what} is {length} bytes long; shorten it to {MAX_FAMILY_BYTES}"
        )),
    }
}

fn wrong_letter(text: &str, signs: &str) -> Option<std::char::EscapeDebug> {
    text.chars()
        .find(|letter| !letter.is_ascii_alphanumeric() && !signs.contains(*letter))
        .map(char::escape_debug)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes() {
        let (longest, too_long) = ("a".repeat(32), "a".repeat(33));
        for prefix in ["a", "adm", "my_api", "A1_b2", &longest] {
            assert_eq!(prefix_problem(prefix), None, "{prefix}");
        }
        for prefix in ["", "1a", "_a", "a_", "a-b", "a b", "ä", "a\n", &too_long] {
            assert!(prefix_problem(prefix).is_some(), "{prefix:?}");
        }
    }

    #[test]
    fn environments() {
        let (longest, too_long) = ("a".repeat(32), "a".repeat(33));
        for environment in ["a", "live", "eu-west_1", "1", "-", &longest] {
            assert_eq!(environment_problem(environment), None, "{environment}");
        }
        for environment in ["", "a b", "a.b", "ä", "a\0", &too_long] {
            assert!(
                environment_problem(environment).is_some(),
                "{environment:?}"
            );
        }
    }
}
