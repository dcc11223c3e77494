//! Scope expressions, and their evaluation.

use std::borrow::Cow;
use std::fmt;

use crate::scope::{check_scope, is_segment};

/// The scopes that a route requires: one, or an expression of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScopeExpr {
    /// Requires this scope. A segment `{name}` is filled from the route's path, which must have the name once.
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
    /// The route's path has this name more than once, so that it does not say which value is meant: a
    /// mistake of the programmer.
    AmbiguousName(&'static str),
    /// The value in the request's path cannot be a segment of a scope.
    NotASegment,
}

/// Stands between filled templates. A scope cannot contain it.
const BETWEEN_SCOPES: char = ' ';

/// The templates of an expression, filled, in the order in which they stand.
#[derive(Debug, Default)]
pub(crate) struct FilledTemplates(String);

impl FilledTemplates {
    /// Returns whether the expression has no templates.
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The decoded path parameters of a route.
pub(crate) trait PathValues {
    /// Returns the value of `name` in the request's path.
    ///
    /// # Errors
    ///
    /// Returns a fault if the route has this name not once: the scope of a resource further out must not
    /// permit one further in.
    fn value(&self, name: &'static str) -> Result<Cow<'_, str>, TemplateFault>;
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

    /// Fills all templates of the expression from a path: a path value that cannot be filled in denies the
    /// request even under `not`.
    pub(crate) fn fill(self, path: &dyn PathValues) -> Result<FilledTemplates, TemplateFault> {
        let mut filled = FilledTemplates::default();
        self.fill_into(&mut filled.0, path)?;
        Ok(filled)
    }

    fn fill_into(self, filled: &mut String, path: &dyn PathValues) -> Result<(), TemplateFault> {
        match self {
            Self::One(text) if text.contains('{') => fill(text, filled, path),
            Self::One(_) => Ok(()),
            Self::All(parts) | Self::Any(parts) => parts
                .iter()
                .try_for_each(|part| part.fill_into(filled, path)),
            Self::Not(part) => part.fill_into(filled, path),
        }
    }

    /// Returns whether a key that `holds` these scopes satisfies the expression, whose templates are
    /// `filled`.
    pub(crate) fn met(self, filled: &FilledTemplates, holds: &dyn Fn(&str) -> bool) -> bool {
        if filled.is_empty() {
            return self.evaluate(&mut |text| holds(text));
        }
        let mut filled = filled.0.split(BETWEEN_SCOPES);
        self.evaluate(&mut |text| match text.contains('{') {
            true => filled.next().is_some_and(holds),
            false => holds(text),
        })
    }

    /// Evaluates every part, in the order in which they stand.
    fn evaluate(self, holds: &mut dyn FnMut(&'static str) -> bool) -> bool {
        match self {
            Self::One(text) => holds(text),
            Self::All(parts) => {
                let mut met = true;
                for part in parts {
                    met &= part.evaluate(holds);
                }
                met
            }
            Self::Any(parts) => {
                let mut met = false;
                for part in parts {
                    met |= part.evaluate(holds);
                }
                met
            }
            Self::Not(part) => !part.evaluate(holds),
        }
    }

    /// Collects the scopes that a client could ask for (RFC 6750 section 3): those not under `not`,
    /// with templates as written.
    pub(crate) fn required(self, into: &mut Vec<&str>) {
        match self {
            Self::One(text) if !into.contains(&text) => into.push(text),
            Self::One(_) | Self::Not(_) => {}
            Self::All(parts) | Self::Any(parts) => {
                parts.iter().for_each(|part| part.required(into))
            }
        }
    }
}

/// Writes the expression as the attribute has it, without quotes: `all(a, any(b, not(c)))`.
impl fmt::Display for ScopeExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (operator, parts) = match self {
            Self::One(text) => return f.write_str(text),
            Self::All(parts) => ("all", *parts),
            Self::Any(parts) => ("any", *parts),
            Self::Not(part) => ("not", std::slice::from_ref(*part)),
        };
        write!(f, "{operator}(")?;
        for (at, part) in parts.iter().enumerate() {
            let separator = if at == 0 { "" } else { ", " };
            write!(f, "{separator}{part}")?;
        }
        f.write_str(")")
    }
}

/// Returns the one value of `name` in pairs of names and values.
pub(crate) fn only_value<'k, V>(
    name: &'static str,
    pairs: impl IntoIterator<Item = (&'k str, V)>,
) -> Result<V, TemplateFault> {
    let mut named = pairs.into_iter().filter(|(known, _)| *known == name);
    match (named.next(), named.next()) {
        (Some((_, value)), None) => Ok(value),
        (None, _) => Err(TemplateFault::NoSuchName(name)),
        (Some(_), Some(_)) => Err(TemplateFault::AmbiguousName(name)),
    }
}

/// Adds the template, filled with the path's values.
fn fill(
    text: &'static str,
    filled: &mut String,
    path: &dyn PathValues,
) -> Result<(), TemplateFault> {
    filled.reserve(text.len() + 16);
    if !filled.is_empty() {
        filled.push(BETWEEN_SCOPES);
    }
    for (index, segment) in text.split(':').enumerate() {
        if index > 0 {
            filled.push(':');
        }
        match template_name(segment) {
            None => filled.push_str(segment),
            Some(name) => {
                let value = path.value(name)?;
                // A `:` in the value would change which scope is required.
                if !is_segment(&value) {
                    return Err(TemplateFault::NotASegment);
                }
                filled.push_str(&value);
            }
        }
    }
    Ok(())
}

/// Returns the name in a segment `{name}`.
fn template_name(segment: &'static str) -> Option<&'static str> {
    segment.strip_prefix('{')?.strip_suffix('}')
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Path(&'static [(&'static str, &'static str)]);

    impl PathValues for Path {
        fn value(&self, name: &'static str) -> Result<Cow<'_, str>, TemplateFault> {
            only_value(name, self.0.iter().copied()).map(Cow::Borrowed)
        }
    }

    fn met(
        expr: ScopeExpr,
        holds: &dyn Fn(&str) -> bool,
        path: &Path,
    ) -> Result<bool, TemplateFault> {
        Ok(expr.met(&expr.fill(path)?, holds))
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
                    met(expr, &holds, &Path(&[])),
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
        assert_eq!(met(expr, &holds, &Path(&[("id", "7")])), Ok(true));
        assert_eq!(met(expr, &holds, &Path(&[("id", "8")])), Ok(false));
        assert_eq!(
            met(expr, &holds, &Path(&[])),
            Err(TemplateFault::NoSuchName("id"))
        );
        for value in ["7:read", "*", "", "7/8", "7 8", "{id}", "7\0"] {
            let path = [("id", value)];
            assert!(
                matches!(
                    met(expr, &|_| true, &Path(Box::leak(Box::new(path)))),
                    Err(TemplateFault::NotASegment)
                ),
                "{value:?}"
            );
        }
    }

    #[test]
    fn each_of_several_templates_is_evaluated_in_its_place() {
        let expr = ScopeExpr::Any(&[
            ScopeExpr::All(&[ScopeExpr::One("{a}:x"), A, ScopeExpr::One("{b}:{a}")]),
            ScopeExpr::Not(&ScopeExpr::Any(&[B, ScopeExpr::One("{c}")])),
        ]);
        const PATH: Path = Path(&[("a", "1"), ("b", "2"), ("c", "3")]);
        for (scopes, expected) in [
            (&["1:x", "a", "2:1", "3"][..], true),
            (&["1:x", "a", "3"], false),
            (&["1:x", "a", "2:1", "b"], true),
            (&["2:1", "a", "b"], false),
            (&[], true),
            (&["3"], false),
            (&["{c}"], true),
        ] {
            let holds = |scope: &str| scopes.contains(&scope);
            assert_eq!(met(expr, &holds, &PATH), Ok(expected), "{scopes:?}");
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
                met(expr, &|_| true, &Path(&[("id", "*")])),
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
