//! What a route demands: data only. Judged in `verify`, and there alone.

use std::borrow::Cow;
use std::net::IpAddr;

use crate::scope::{check_scope, is_segment};

/// Where a route looks for the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Location<'a> {
    /// A header, as a whole or after a scheme.
    Header {
        /// The header's name, in lower case.
        name: &'a str,
        /// The scheme before the key, compared without regard to case (RFC 9110 section 11.1).
        scheme: Option<&'a str>,
    },
    /// The user name of `Authorization: Basic` (RFC 7617); the password is not looked at.
    Basic,
    /// A parameter of the query string, percent-decoded once. Query strings end up in logs and
    /// histories: for clients that can do no other.
    Query {
        /// The parameter's name; letters' case counts.
        name: &'a str,
    },
    /// A cookie.
    Cookie {
        /// The cookie's name; letters' case counts.
        name: &'a str,
    },
    /// A member, at the top, of a JSON object in the body.
    Json {
        /// The member's name; letters' case counts.
        name: &'a str,
    },
    /// A field of a URL-encoded form in the body.
    Form {
        /// The field's name; letters' case counts.
        name: &'a str,
    },
}

impl Location<'_> {
    /// `Authorization: Bearer KEY` (RFC 6750 section 2.1).
    pub const BEARER: Location<'static> = Location::Header {
        name: "authorization",
        scheme: Some("Bearer"),
    };

    /// Refuses, in const evaluation, a place where no key could ever be found.
    const fn check(&self) {
        match self {
            Self::Header { name, scheme } => {
                assert!(
                    is_word(name, false),
                    "the name of a header is letters, digits and `-`, in lower case"
                );
                if let Some(scheme) = scheme {
                    assert!(
                        is_word(scheme, true),
                        "a scheme is letters, digits and `-`, as in `Bearer`"
                    );
                }
            }
            Self::Query { name }
            | Self::Cookie { name }
            | Self::Json { name }
            | Self::Form { name } => {
                assert!(
                    !name.is_empty(),
                    "a parameter's name is empty; write one, as in `api_key`"
                );
            }
            Self::Basic => {}
        }
    }

    /// Whether the body has to be read to look there.
    pub(crate) fn is_in_body(&self) -> bool {
        matches!(self, Self::Json { .. } | Self::Form { .. })
    }
}

/// Whether `text` is a token of RFC 9110 section 5.6.2, in lower case unless `capitals` may stand
/// in it.
const fn is_word(text: &str, capitals: bool) -> bool {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let fits = matches!(bytes[at], b'a'..=b'z' | b'0'..=b'9' | b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*'
            | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~');
        if !(fits || (capitals && bytes[at].is_ascii_uppercase())) {
            return false;
        }
        at += 1;
    }
    !bytes.is_empty()
}

/// Which scopes a route demands: one, or an expression of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScopeExpr {
    /// This scope. A segment `{name}` is filled from the route's path.
    One(&'static str),
    /// Each of these.
    All(&'static [ScopeExpr]),
    /// At least one of these.
    Any(&'static [ScopeExpr]),
    /// Not this.
    Not(&'static ScopeExpr),
}

/// Why a demand could not be judged, or not be met by any key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TemplateFault {
    /// The route's path has no such name: a mistake of the programmer.
    NoSuchName(&'static str),
    /// The request's path holds a value that is no segment of a scope.
    NotASegment,
}

/// Who calls, and how: what a key's limits and a route's demands are judged by, beside the key.
pub(crate) trait Caller: PathValues {
    /// The client's address; `None` where it is not known.
    fn address(&self) -> Option<IpAddr>;
    /// The request's method; `None` where there is no request.
    fn method(&self) -> Option<&str>;
    /// Whether the client sent its request over TLS, as far as that is known for sure.
    fn is_encrypted(&self) -> bool;
}

/// Whether `method` is among `allowed`. HEAD is GET without the body (RFC 9110 section 9.3.2).
pub(crate) fn allows_method<'m>(
    allowed: impl IntoIterator<Item = &'m str>,
    method: Option<&str>,
) -> bool {
    let Some(method) = method else { return false };
    allowed
        .into_iter()
        .any(|one| one == method || (one == "GET" && method == "HEAD"))
}

/// The values of a route's path, decoded.
pub(crate) trait PathValues {
    /// The value of `name` in the request's path; `None` where the route has no such name.
    fn value(&self, name: &str) -> Option<Cow<'_, str>>;
}

impl ScopeExpr {
    /// Refuses, in const evaluation, what no key could ever meet.
    const fn check(self) {
        match self {
            Self::One(text) => {
                if let Err(fault) = check_scope(text, true) {
                    panic!("{}", fault.message())
                }
            }
            Self::All(parts) | Self::Any(parts) => {
                assert!(
                    !parts.is_empty(),
                    "`all` and `any` need at least one scope; write one between the parentheses"
                );
                let mut at = 0;
                while at < parts.len() {
                    parts[at].check();
                    at += 1;
                }
            }
            Self::Not(part) => part.check(),
        }
    }

    /// Whether a key that `holds` these scopes meets the demand.
    ///
    /// Every part is looked at: a value of the path that cannot be filled in refuses the request
    /// even under `not`.
    pub(crate) fn met(
        self,
        holds: &dyn Fn(&str) -> bool,
        path: &dyn PathValues,
    ) -> Result<bool, TemplateFault> {
        match self {
            Self::One(text) if text.contains('{') => Ok(holds(&fill(text, path)?)),
            Self::One(text) => Ok(holds(text)),
            Self::All(parts) => parts
                .iter()
                .try_fold(true, |met, part| Ok(part.met(holds, path)? && met)),
            Self::Any(parts) => parts
                .iter()
                .try_fold(false, |met, part| Ok(part.met(holds, path)? || met)),
            Self::Not(part) => part.met(holds, path).map(|met| !met),
        }
    }

    /// The scopes that a client could ask for (RFC 6750 section 3): those not under `not`,
    /// templates as written.
    pub(crate) fn wanted(self, into: &mut Vec<&'static str>) {
        match self {
            Self::One(text) if !into.contains(&text) => into.push(text),
            Self::One(_) | Self::Not(_) => {}
            Self::All(parts) | Self::Any(parts) => parts.iter().for_each(|part| part.wanted(into)),
        }
    }
}

/// Puts the path's values into the template's places.
fn fill(text: &'static str, path: &dyn PathValues) -> Result<String, TemplateFault> {
    let mut filled = String::with_capacity(text.len() + 16);
    for (index, segment) in text.split(':').enumerate() {
        if index > 0 {
            filled.push(':');
        }
        match segment
            .strip_prefix('{')
            .and_then(|name| name.strip_suffix('}'))
        {
            None => filled.push_str(segment),
            Some(name) => {
                let value = path.value(name).ok_or(TemplateFault::NoSuchName(name))?;
                // A `:` in the value would move the demand to another scope.
                if !is_segment(&value) {
                    return Err(TemplateFault::NotASegment);
                }
                filled.push_str(&value);
            }
        }
    }
    Ok(filled)
}

/// The demands of one route. Built by the attribute; every method is `const`.
///
/// ```
/// use apikey_runtime::{Location, Policy, ScopeExpr};
///
/// const ORDERS: Policy = Policy::new()
///     .locations(&[Location::Header { name: "x-api-key", scheme: None }])
///     .scopes(ScopeExpr::One("orders:read"));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    pub(crate) locations: Option<&'static [Location<'static>]>,
    pub(crate) scopes: Option<ScopeExpr>,
    pub(crate) prefix: Option<&'static str>,
    pub(crate) environment: Option<&'static str>,
    pub(crate) methods: Option<&'static [&'static str]>,
    pub(crate) optional: bool,
    pub(crate) fresh: bool,
    pub(crate) require_https: bool,
}

impl Policy {
    /// The manager's defaults: any live key of its own, where its configuration says.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            locations: None,
            scopes: None,
            prefix: None,
            environment: None,
            methods: None,
            optional: false,
            fresh: false,
            require_https: false,
        }
    }

    /// The key must hold these scopes.
    ///
    /// # Panics
    ///
    /// Where a scope breaks the grammar, or `All` or `Any` is empty. In a `const` that is an error
    /// of the compiler.
    #[must_use]
    pub const fn scopes(mut self, scopes: ScopeExpr) -> Self {
        scopes.check();
        self.scopes = Some(scopes);
        self
    }

    /// The key is looked for here, instead of where the configuration says.
    ///
    /// # Panics
    ///
    /// Where there is none, or one has a name that no request could have, such as a header's in
    /// capital letters.
    #[must_use]
    pub const fn locations(mut self, locations: &'static [Location<'static>]) -> Self {
        assert!(
            !locations.is_empty(),
            "`locations` is empty; write at least one"
        );
        let mut at = 0;
        while at < locations.len() {
            locations[at].check();
            at += 1;
        }
        self.locations = Some(locations);
        self
    }

    /// A request without a key is let through as anonymous; one with a bad key is refused.
    #[must_use]
    pub const fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    /// The store is asked for each request, not the cache.
    #[must_use]
    pub const fn fresh(mut self) -> Self {
        self.fresh = true;
        self
    }

    /// Only keys with this prefix.
    #[must_use]
    pub const fn prefix(mut self, prefix: &'static str) -> Self {
        self.prefix = Some(prefix);
        self
    }

    /// A key is good for these methods only, in capital letters; `GET` includes `HEAD`.
    ///
    /// # Panics
    ///
    /// Where there is none.
    #[must_use]
    pub const fn methods(mut self, methods: &'static [&'static str]) -> Self {
        assert!(
            !methods.is_empty(),
            "`methods` is empty; write at least one"
        );
        self.methods = Some(methods);
        self
    }

    /// A key that came in clear text is refused: neither over the socket's own TLS, nor, as a
    /// configured trusted proxy states, over a proxy's.
    #[must_use]
    pub const fn require_https(mut self) -> Self {
        self.require_https = true;
        self
    }

    /// Only keys of this environment.
    #[must_use]
    pub const fn environment(mut self, environment: &'static str) -> Self {
        self.environment = Some(environment);
        self
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Path(&'static [(&'static str, &'static str)]);

    impl PathValues for Path {
        fn value(&self, name: &str) -> Option<Cow<'_, str>> {
            self.0
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| Cow::Borrowed(*value))
        }
    }

    const A: ScopeExpr = ScopeExpr::One("a");
    const B: ScopeExpr = ScopeExpr::One("b");

    /// K-03: every combination of two scopes against every operator.
    #[test]
    fn k03_the_truth_table_of_all_any_not() {
        type Truth = fn(bool, bool) -> bool;
        let cases: [(ScopeExpr, Truth); 7] = [
            (A, |a, _| a),
            (ScopeExpr::All(&[A, B]), |a, b| a && b),
            (ScopeExpr::Any(&[A, B]), |a, b| a || b),
            (ScopeExpr::Not(&A), |a, _| !a),
            (ScopeExpr::All(&[A, ScopeExpr::Not(&B)]), |a, b| a && !b),
            (ScopeExpr::Any(&[A, ScopeExpr::Not(&B)]), |a, b| a || !b),
            (ScopeExpr::Not(&ScopeExpr::Any(&[A, B])), |a, b| !(a || b)),
        ];
        for (expr, truth) in cases {
            for (a, b) in [(false, false), (false, true), (true, false), (true, true)] {
                let holds = |scope: &str| (scope == "a" && a) || (scope == "b" && b);
                assert_eq!(
                    expr.met(&holds, &Path(&[])),
                    Ok(truth(a, b)),
                    "{expr:?} {a} {b}"
                );
            }
        }
    }

    #[test]
    fn a_template_is_filled_from_the_path() {
        let expr = ScopeExpr::One("project:{id}:read");
        let holds = |scope: &str| scope == "project:7:read";
        assert_eq!(expr.met(&holds, &Path(&[("id", "7")])), Ok(true));
        assert_eq!(expr.met(&holds, &Path(&[("id", "8")])), Ok(false));
        assert_eq!(
            expr.met(&holds, &Path(&[])),
            Err(TemplateFault::NoSuchName("id"))
        );
        for value in ["7:read", "*", "", "7/8", "7 8", "{id}", "7\0"] {
            let path = [("id", value)];
            assert!(
                matches!(
                    expr.met(&|_| true, &Path(Box::leak(Box::new(path)))),
                    Err(TemplateFault::NotASegment)
                ),
                "{value:?}"
            );
        }
    }

    #[test]
    fn a_value_that_cannot_be_filled_in_refuses_under_not_and_any_too() {
        let bad = ScopeExpr::One("{id}");
        let not: &'static ScopeExpr = Box::leak(Box::new(bad));
        let any: &'static [ScopeExpr] = Box::leak(Box::new([A, bad]));
        for expr in [
            ScopeExpr::Not(not),
            ScopeExpr::Any(any),
            ScopeExpr::All(any),
        ] {
            assert_eq!(
                expr.met(&|_| true, &Path(&[("id", "*")])),
                Err(TemplateFault::NotASegment)
            );
        }
    }

    #[test]
    #[should_panic(expected = "at least one scope")]
    fn an_empty_expression_is_refused() {
        let _ = Policy::new().scopes(ScopeExpr::All(&[]));
    }

    #[test]
    fn the_scopes_a_client_is_told_of_leave_out_what_must_be_absent() {
        let mut wanted = Vec::new();
        ScopeExpr::All(&[A, ScopeExpr::Not(&B), A]).wanted(&mut wanted);
        assert_eq!(wanted, ["a"]);
    }
}
