//! Scope expressions, and their evaluation.

use std::borrow::Cow;

use crate::scope::{check_scope, is_segment};

/// The scopes that a route requires: one, or an expression of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScopeExpr {
    /// Requires this scope. A segment `{name}` is filled from the route's path.
    One(&'static str),
    /// Requires each of these.
    All(&'static [ScopeExpr]),
    /// Requires at least one of these.
    Any(&'static [ScopeExpr]),
    /// Requires that this is not met.
    Not(&'static ScopeExpr),
}

/// Why a scope template could not be filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TemplateFault {
    /// The route's path does not have this name: a mistake of the programmer.
    NoSuchName(&'static str),
    /// The value in the request's path cannot be a segment of a scope.
    NotASegment,
}

/// The decoded path parameters of a route.
pub(crate) trait PathValues {
    /// Returns the value of `name` in the request's path; `None` if the route does not have this
    /// name.
    fn value(&self, name: &str) -> Option<Cow<'_, str>>;
}

impl ScopeExpr {
    /// Rejects, in const evaluation, an expression that is malformed or empty.
    pub(super) const fn check(self) {
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

    /// Returns whether the expression contains a template.
    pub(super) const fn has_template(self) -> bool {
        match self {
            Self::One(text) => {
                let bytes = text.as_bytes();
                let mut at = 0;
                while at < bytes.len() {
                    if bytes[at] == b'{' {
                        return true;
                    }
                    at += 1;
                }
                false
            }
            Self::All(parts) | Self::Any(parts) => {
                let mut at = 0;
                while at < parts.len() {
                    if parts[at].has_template() {
                        return true;
                    }
                    at += 1;
                }
                false
            }
            Self::Not(part) => part.has_template(),
        }
    }

    /// Collects the names of path parameters in the templates.
    pub(super) fn template_names(self, into: &mut Vec<&'static str>) {
        match self {
            Self::One(text) => into.extend(text.split(':').filter_map(template_name)),
            Self::All(parts) | Self::Any(parts) => {
                parts.iter().for_each(|part| part.template_names(into));
            }
            Self::Not(part) => part.template_names(into),
        }
    }

    /// Returns whether a key that `holds` these scopes satisfies the expression.
    ///
    /// Evaluates every part: a path value that cannot be filled in denies the request even under
    /// `not`.
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

    /// Collects the scopes that a client could ask for (RFC 6750 section 3): those not under `not`,
    /// with templates as written.
    pub(crate) fn required(self, into: &mut Vec<&'static str>) {
        match self {
            Self::One(text) if !into.contains(&text) => into.push(text),
            Self::One(_) | Self::Not(_) => {}
            Self::All(parts) | Self::Any(parts) => {
                parts.iter().for_each(|part| part.required(into))
            }
        }
    }
}

/// Fills the template with the path's values.
fn fill(text: &'static str, path: &dyn PathValues) -> Result<String, TemplateFault> {
    let mut filled = String::with_capacity(text.len() + 16);
    for (index, segment) in text.split(':').enumerate() {
        if index > 0 {
            filled.push(':');
        }
        match template_name(segment) {
            None => filled.push_str(segment),
            Some(name) => {
                let value = path.value(name).ok_or(TemplateFault::NoSuchName(name))?;
                // A `:` in the value would change which scope is required.
                if !is_segment(&value) {
                    return Err(TemplateFault::NotASegment);
                }
                filled.push_str(&value);
            }
        }
    }
    Ok(filled)
}

/// Returns the name in a segment `{name}`.
fn template_name(segment: &str) -> Option<&str> {
    segment.strip_prefix('{')?.strip_suffix('}')
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
        let _ = crate::policy::Policy::new().scopes(ScopeExpr::All(&[]));
    }

    #[test]
    fn the_scopes_a_client_is_told_of_leave_out_what_must_be_absent() {
        let mut wanted = Vec::new();
        ScopeExpr::All(&[A, ScopeExpr::Not(&B), A]).required(&mut wanted);
        assert_eq!(wanted, ["a"]);
    }
}
