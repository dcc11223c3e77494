//! Options to a policy that cannot be wrong.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::{ExprPath, LitStr};

use crate::{
    diagnostics::Errors,
    limits::{self, Limits},
    locations::{self, Location},
    methods,
    options::{CONFLICTS, Options},
    scopes::{self, ScopeExpr},
};

/// Longest prefix and environment, in bytes; the runtime's configuration has the same bounds.
const MAX_FAMILY_BYTES: usize = 32;

/// What a route demands.
pub(crate) struct Policy {
    /// The path of the runtime.
    pub(crate) krate: TokenStream,
    /// The scopes a key must have.
    pub(crate) scopes: Option<ScopeExpr>,
    /// Where the key is looked for; empty for the manager's default.
    pub(crate) locations: Vec<Location>,
    /// The methods that a key is good for; empty for all of them.
    pub(crate) methods: Vec<String>,
    /// Whether a request without a key is let through.
    pub(crate) optional: bool,
    /// Whether the store is asked in any case.
    pub(crate) fresh: bool,
    /// Whether a key that came in clear text is refused.
    pub(crate) require_https: bool,
    /// How fast a key may use the route, and what a request costs.
    pub(crate) limits: Limits,
    /// The only prefix of keys that counts here.
    pub(crate) prefix: Option<String>,
    /// The only environment of keys that counts here.
    pub(crate) environment: Option<String>,
    /// The function that finds the manager.
    pub(crate) manager: Option<ExprPath>,
    /// The function that answers a refusal.
    pub(crate) on_error: Option<ExprPath>,
}

impl Policy {
    /// Whether nothing is demanded but a good key, as the manager's defaults have it.
    pub(crate) fn is_plain(&self) -> bool {
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
        paths && family && request && limits.are_plain() && scopes.is_none() && !optional && !fresh
    }
}

/// Judges the values of all options, and which of them stand together.
///
/// The policy is whole only if `errors` gained nothing.
pub(crate) fn check(options: Options, errors: &mut Errors) -> Policy {
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
            .and_then(|prefix| checked(&prefix, prefix_problem, errors)),
        environment: options
            .environment
            .and_then(|environment| checked(&environment, environment_problem, errors)),
        manager: options.manager,
        on_error: options.on_error,
    }
}

fn check_conflicts(Options { given, .. }: &Options, errors: &mut Errors) {
    for (one, other, remedy) in CONFLICTS {
        let has = |name: &str| given.iter().any(|key| key == name);
        if !(has(one) && has(other)) {
            continue;
        }
        // On the later of the two: the person was about to add it.
        if let Some(later) = given.iter().rfind(|key| key == one || key == other) {
            let problem = format!("`{one}` and `{other}` cannot stand together; {remedy}");
            errors.on(later, problem);
        }
    }
}

fn checked(
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
            "a prefix cannot hold `{wrong}`; it is of ASCII letters, digits and `_`"
        ));
    }
    if !prefix.starts_with(|letter: char| letter.is_ascii_alphabetic()) {
        return Some(r#"a prefix starts with a letter, as in `"adm"`"#.to_owned());
    }
    prefix
        .ends_with('_')
        .then(|| "a prefix does not end with `_`: the key adds one; leave it out".to_owned())
}

fn environment_problem(environment: &str) -> Option<String> {
    length_problem("environment", environment).or_else(|| {
        wrong_letter(environment, "_-").map(|wrong| {
            format!(
                "an environment cannot hold `{wrong}`; it is of ASCII letters, digits, `_` and `-`"
            )
        })
    })
}

fn length_problem(what: &str, text: &str) -> Option<String> {
    let length = text.len();
    match length {
        0 => Some(format!(
            "the {what} is empty; write one, or leave the option out"
        )),
        1..=MAX_FAMILY_BYTES => None,
        _ => Some(format!(
            "the {what} is {length} bytes long; {MAX_FAMILY_BYTES} are the most"
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
