//! The scopes that the guards of a request required, kept with the key that they allowed.

use std::sync::Arc;

use super::scopes::{FilledTemplates, ScopeExpr};
use crate::scope::Scopes;

/// The scopes that the guards of a request required of its key.
#[derive(Debug, Clone)]
pub(crate) enum RequiredScopes {
    None,
    /// An expression without templates.
    One(ScopeExpr),
    Several(Arc<GuardScopes>),
}

/// What one guard required, besides earlier guards.
#[derive(Debug)]
pub(crate) struct GuardScopes {
    expression: ScopeExpr,
    /// The texts that the check filled the templates into.
    filled: FilledTemplates,
    /// The scopes that the request required itself.
    given: Scopes,
    earlier: RequiredScopes,
}

impl GuardScopes {
    /// Returns what a guard with the scopes `own`, the request itself (`given`), and `earlier` guards of the
    /// same request required. It is `None`, and nothing is allocated, if that is `own`, without templates.
    #[inline]
    pub(crate) fn of(
        own: Option<ScopeExpr>,
        filled: FilledTemplates,
        given: Option<&Scopes>,
        earlier: Option<RequiredScopes>,
    ) -> Option<Arc<Self>> {
        if earlier.is_none() && filled.is_empty() && given.is_none() {
            return None;
        }
        let earlier = earlier.unwrap_or(RequiredScopes::None);
        match given {
            Some(given) => Some(Arc::new(Self {
                // An empty `All` is met by each key.
                expression: own.unwrap_or(ScopeExpr::All(&[])),
                filled,
                given: given.clone(),
                earlier,
            })),
            None => Self::several(own, filled, earlier),
        }
    }

    #[cold]
    fn several(
        own: Option<ScopeExpr>,
        filled: FilledTemplates,
        earlier: RequiredScopes,
    ) -> Option<Arc<Self>> {
        let (expression, earlier) = match (own, earlier) {
            (None, RequiredScopes::None) => return None,
            (None, RequiredScopes::Several(earlier)) => return Some(earlier),
            // The policy of this guard does not have them.
            (None, RequiredScopes::One(known)) => (known, RequiredScopes::None),
            (Some(_), RequiredScopes::None) if filled.is_empty() => return None,
            (Some(own), RequiredScopes::One(known)) if filled.is_empty() && known == own => {
                return None;
            }
            (Some(own), earlier) => (own, earlier),
        };
        Some(Arc::new(Self {
            expression,
            filled,
            given: Scopes::none(),
            earlier,
        }))
    }
}

impl RequiredScopes {
    /// Returns what the guards of a request required: `several`, or else the scopes `own` of the last
    /// one's policy.
    #[inline]
    pub(crate) fn new(own: Option<ScopeExpr>, several: Option<Arc<GuardScopes>>) -> Self {
        match (several, own) {
            (Some(several), _) => Self::Several(several),
            (None, Some(own)) => Self::One(own),
            (None, None) => Self::None,
        }
    }

    /// Returns whether a key that `holds` these scopes meets all of them.
    pub(crate) fn met(&self, holds: &dyn Fn(&str) -> bool) -> bool {
        match self {
            Self::None => true,
            Self::One(expression) => expression.met(&FilledTemplates::default(), holds),
            Self::Several(last) => {
                last.expression.met(&last.filled, holds)
                    && last.given.iter().all(holds)
                    && last.earlier.met(holds)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::policy::{PathValues, TemplateFault, only_value};

    struct Project(&'static str);

    impl PathValues for Project {
        fn value(&self, name: &'static str) -> Result<Cow<'_, str>, TemplateFault> {
            only_value(name, [("id", self.0)]).map(Cow::Borrowed)
        }
    }

    const READ: ScopeExpr = ScopeExpr::One("read");
    const PROJECT: ScopeExpr =
        ScopeExpr::Any(&[ScopeExpr::One("admin"), ScopeExpr::One("project:{id}:read")]);

    fn required(own: ScopeExpr, earlier: Option<&RequiredScopes>) -> RequiredScopes {
        let filled = own.fill(&Project("7")).unwrap();
        let several = GuardScopes::of(Some(own), filled, None, earlier.cloned());
        RequiredScopes::new(Some(own), several)
    }

    fn without_own(earlier: Option<&RequiredScopes>) -> RequiredScopes {
        let several = GuardScopes::of(None, FilledTemplates::default(), None, earlier.cloned());
        RequiredScopes::new(None, several)
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
    fn what_the_request_requires_counts_too() {
        let given = Scopes::new(["a", "b"]).unwrap();
        for (own, enough) in [
            (None, &["a", "b"][..]),
            (Some(READ), &["a", "b", "read"]),
            (Some(PROJECT), &["a", "admin", "b"]),
        ] {
            let filled = own.map(|own| own.fill(&Project("7")).unwrap());
            let filled = filled.unwrap_or_default();
            let several = GuardScopes::of(own, filled, Some(&given), None);
            let required = RequiredScopes::new(own, several);
            assert!(met(&required, enough));
            for left_out in enough {
                let rest: Vec<_> = enough
                    .iter()
                    .filter(|one| *one != left_out)
                    .copied()
                    .collect();
                assert!(!met(&required, &rest), "{left_out}");
            }
        }
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
        let kept = without_own(Some(&first));
        assert!(met(&kept, &["read"]) && !met(&kept, &[]));
        let kept = without_own(Some(&both));
        assert!(met(&kept, &["read", "admin"]));
        assert!(!met(&kept, &["admin"]) && !met(&kept, &["read"]));
        let none = without_own(None);
        assert!(met(&none, &[]));
        let none = without_own(Some(&none));
        assert!(met(&none, &[]));
        let own = required(READ, Some(&none));
        assert!(met(&own, &["read"]) && !met(&own, &[]));
    }
}
