//! The scopes that the guards of a request required, kept with the key that they allowed.

use std::sync::Arc;

use super::scopes::{FilledTemplates, ScopeExpr};

/// The scopes that the guards of a request required of its key.
///
/// Making one does not allocate for a single guard whose scopes have no templates. Otherwise it makes one
/// allocation, and keeps the text that the check filled the templates into.
#[derive(Debug, Clone, Default)]
pub(crate) enum RequiredScopes {
    #[default]
    None,
    /// An expression without templates.
    One(ScopeExpr),
    Several(Arc<GuardScopes>),
}

/// What one guard required, besides earlier guards.
#[derive(Debug)]
pub(crate) struct GuardScopes {
    expression: ScopeExpr,
    filled: FilledTemplates,
    earlier: RequiredScopes,
}

impl RequiredScopes {
    /// Returns what a guard with these scopes requires, and what `earlier` guards of the same request did.
    #[inline]
    pub(crate) fn of(
        own: Option<ScopeExpr>,
        filled: FilledTemplates,
        earlier: Option<&Self>,
    ) -> Self {
        match own {
            None if earlier.is_none() => Self::None,
            Some(expression) if earlier.is_none() && filled.is_empty() => Self::One(expression),
            _ => Self::several(own, filled, earlier.cloned().unwrap_or_default()),
        }
    }

    #[cold]
    fn several(own: Option<ScopeExpr>, filled: FilledTemplates, earlier: Self) -> Self {
        let Some(expression) = own else {
            return earlier;
        };
        match earlier {
            Self::None if filled.is_empty() => Self::One(expression),
            Self::One(known) if filled.is_empty() && known == expression => earlier,
            _ => Self::Several(Arc::new(GuardScopes {
                expression,
                filled,
                earlier,
            })),
        }
    }

    /// Returns whether a key that `holds` these scopes meets all of them.
    pub(crate) fn met(&self, holds: &dyn Fn(&str) -> bool) -> bool {
        match self {
            Self::None => true,
            Self::One(expression) => expression.met(&FilledTemplates::default(), holds),
            Self::Several(last) => {
                last.expression.met(&last.filled, holds) && last.earlier.met(holds)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::policy::PathValues;

    struct Project(&'static str);

    impl PathValues for Project {
        fn value(&self, name: &str) -> Option<Cow<'_, str>> {
            (name == "id").then_some(Cow::Borrowed(self.0))
        }
    }

    const READ: ScopeExpr = ScopeExpr::One("read");
    const PROJECT: ScopeExpr =
        ScopeExpr::Any(&[ScopeExpr::One("admin"), ScopeExpr::One("project:{id}:read")]);

    fn required(own: ScopeExpr, earlier: Option<&RequiredScopes>) -> RequiredScopes {
        let filled = own.fill(&Project("7")).unwrap();
        RequiredScopes::of(Some(own), filled, earlier)
    }

    fn met(required: &RequiredScopes, scopes: &[&str]) -> bool {
        required.met(&|scope| scopes.contains(&scope))
    }

    #[test]
    fn a_template_keeps_the_values_of_its_request() {
        let required = required(PROJECT, None);
        assert!(met(&required, &["project:7:read"]));
        assert!(met(&required, &["admin"]));
        assert!(!met(&required, &["project:8:read"]));
        assert!(!met(&required, &["project:{id}:read"]));
    }

    #[test]
    fn each_guard_of_a_request_counts() {
        let first = required(READ, None);
        assert!(met(&first, &["read"]) && !met(&first, &[]));
        for earlier in [&first, &required(READ, Some(&first))] {
            let both = required(PROJECT, Some(earlier));
            assert!(met(&both, &["read", "admin"]));
            assert!(!met(&both, &["admin"]) && !met(&both, &["read"]));
        }
        let both = required(READ, Some(&required(PROJECT, None)));
        assert!(met(&both, &["read", "admin"]));
        assert!(!met(&both, &["admin"]) && !met(&both, &["read"]));
        // A guard without scopes does not forget those of an earlier one.
        let kept = RequiredScopes::of(None, FilledTemplates::default(), Some(&first));
        assert!(met(&kept, &["read"]) && !met(&kept, &[]));
        let none = RequiredScopes::of(None, FilledTemplates::default(), None);
        assert!(met(&none, &[]));
    }
}
