//! The scopes that the guards of a request required, kept with the key that they allowed.

use std::borrow::Cow;
use std::sync::Arc;

use super::{PathValues, Policy, ScopeExpr};

/// The scopes that the guards of a request required of its key.
///
/// Making one does not allocate for a single guard whose scopes have no templates.
#[derive(Debug, Clone, Default)]
pub(crate) enum RequiredScopes {
    #[default]
    None,
    /// An expression without templates.
    One(ScopeExpr),
    /// Templates with the values of the request's path, or the expressions of several guards.
    Several(Arc<[FilledScopes]>),
}

/// An expression with the values that its templates were filled from.
#[derive(Debug, Clone)]
pub(crate) struct FilledScopes {
    expression: ScopeExpr,
    values: Box<[(&'static str, Box<str>)]>,
}

impl RequiredScopes {
    /// Returns what `policy` requires of a request with this path, and what `earlier` guards of the
    /// same request did.
    pub(crate) fn of(policy: &Policy, path: &dyn PathValues, earlier: Option<&Self>) -> Self {
        let own = match policy.scopes {
            None => return earlier.cloned().unwrap_or_default(),
            Some(own) if policy.has_template => own,
            Some(own) if earlier.is_none_or(Self::is_none) => return Self::One(own),
            Some(own) => own,
        };
        let own = FilledScopes::new(own, path);
        let earlier = match earlier {
            None | Some(Self::None) => Vec::new(),
            Some(Self::One(expression)) => vec![FilledScopes {
                expression: *expression,
                values: Box::default(),
            }],
            Some(Self::Several(several)) => several.to_vec(),
        };
        Self::Several(earlier.into_iter().chain([own]).collect())
    }

    fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// Returns whether a key that `holds` these scopes meets all of them.
    pub(crate) fn met(&self, holds: &dyn Fn(&str) -> bool) -> bool {
        let met = |expression: ScopeExpr, path: &dyn PathValues| {
            // A value that could not be filled in denied the request.
            expression.met(holds, path).unwrap_or(false)
        };
        match self {
            Self::None => true,
            Self::One(expression) => met(*expression, &NoPath),
            Self::Several(several) => several.iter().all(|one| met(one.expression, one)),
        }
    }
}

impl FilledScopes {
    fn new(expression: ScopeExpr, path: &dyn PathValues) -> Self {
        let mut names = Vec::new();
        expression.template_names(&mut names);
        let value = |name| Some((name, path.value(name)?.into()));
        Self {
            expression,
            values: names.into_iter().filter_map(value).collect(),
        }
    }
}

impl PathValues for FilledScopes {
    fn value(&self, name: &str) -> Option<Cow<'_, str>> {
        let mut values = self.values.iter();
        let (_, value) = values.find(|(known, _)| *known == name)?;
        Some(Cow::Borrowed(value))
    }
}

/// The path of an expression without templates.
struct NoPath;

impl PathValues for NoPath {
    fn value(&self, _name: &str) -> Option<Cow<'_, str>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Project(&'static str);

    impl PathValues for Project {
        fn value(&self, name: &str) -> Option<Cow<'_, str>> {
            (name == "id").then_some(Cow::Borrowed(self.0))
        }
    }

    const READ: Policy = Policy::new().scopes(ScopeExpr::One("read"));
    const PROJECT: Policy = Policy::new().scopes(ScopeExpr::Any(&[
        ScopeExpr::One("admin"),
        ScopeExpr::One("project:{id}:read"),
    ]));

    fn met(required: &RequiredScopes, scopes: &[&str]) -> bool {
        required.met(&|scope| scopes.contains(&scope))
    }

    #[test]
    fn a_template_keeps_the_values_of_its_request() {
        let required = RequiredScopes::of(&PROJECT, &Project("7"), None);
        assert!(met(&required, &["project:7:read"]));
        assert!(met(&required, &["admin"]));
        assert!(!met(&required, &["project:8:read"]));
    }

    #[test]
    fn each_guard_of_a_request_counts() {
        let first = RequiredScopes::of(&READ, &Project("7"), None);
        assert!(met(&first, &["read"]) && !met(&first, &[]));
        for earlier in [&first, &RequiredScopes::of(&READ, &NoPath, Some(&first))] {
            let both = RequiredScopes::of(&PROJECT, &Project("7"), Some(earlier));
            assert!(met(&both, &["read", "admin"]));
            assert!(!met(&both, &["admin"]) && !met(&both, &["read"]));
        }
        // A guard without scopes does not forget those of an earlier one.
        let kept = RequiredScopes::of(&Policy::new(), &NoPath, Some(&first));
        assert!(met(&kept, &["read"]) && !met(&kept, &[]));
        let none = RequiredScopes::of(&Policy::new(), &NoPath, None);
        assert!(met(&none, &[]));
    }
}
