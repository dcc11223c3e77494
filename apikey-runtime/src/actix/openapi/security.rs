//! Security requirements: what a client must send, from the policies of the guards. The attribute
//! computes the same from its options.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::scheme::{DEFAULT_SCHEME, scheme_name};
use crate::policy::{KeyLocation, Policy, ScopeExpr};

/// The maximum number of requirements of an operation. With more, the requirements name the
/// locations only, and the scopes are in `x-required-scopes`.
const MAX_REQUIREMENTS: usize = 16;

/// The scopes that are needed with each scheme: one way to meet all guards of an operation.
pub(super) type Requirement = BTreeMap<String, Vec<String>>;

/// What one guard demands, as far as a document can say it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Demand {
    /// The schemes of its locations, of which a client uses one. Empty if the key is in the body.
    schemes: Vec<String>,
    /// The lists of scopes of which a key needs one.
    lists: Vec<Vec<String>>,
    /// The expression of the scopes.
    expression: Option<Value>,
    /// Whether the lists say less than the expression.
    pub(super) is_partial: bool,
    /// The members of the body that may have the key.
    in_body: Vec<String>,
    is_optional: bool,
}

/// What a document says about the guards of an operation.
#[derive(Debug, PartialEq)]
pub(super) struct Security {
    /// The requirements, of which a client meets one; `None` if each key is in the body.
    pub(super) requirements: Option<Vec<Requirement>>,
    /// The value of `x-required-scopes`.
    pub(super) required_scopes: Option<Value>,
    /// The value of `x-api-key-in-body`.
    pub(super) in_body: Vec<String>,
}

impl Demand {
    /// Returns the demand of a policy; `default` is the location that the manager's configuration
    /// sets.
    pub(super) fn of(policy: &Policy, default: &KeyLocation<'_>) -> Self {
        let locations = policy.locations.unwrap_or(std::slice::from_ref(default));
        let schemes = match policy.locations {
            None if !default.is_in_body() => vec![DEFAULT_SCHEME.to_owned()],
            _ => locations.iter().filter_map(scheme_name).collect(),
        };
        let lists = match policy.scopes {
            None => Some(vec![Vec::new()]),
            Some(scopes) => lists(scopes),
        };
        Self {
            schemes,
            is_partial: lists.is_none() || policy.scopes.is_some_and(is_partial),
            lists: lists.unwrap_or_else(|| vec![Vec::new()]),
            expression: policy.scopes.map(expression),
            in_body: locations.iter().filter_map(member).collect(),
            is_optional: policy.optional,
        }
    }

    pub(super) fn is_in_body(&self) -> bool {
        !self.in_body.is_empty()
    }
}

impl Security {
    /// Returns what guards demand together.
    pub(super) fn of(demands: &[&Demand]) -> Self {
        let all = requirements(demands, true);
        let has_too_many = all.len() > MAX_REQUIREMENTS;
        let mut requirements = if has_too_many {
            requirements(demands, false)
        } else {
            all
        };
        requirements.truncate(MAX_REQUIREMENTS);
        let is_partial = has_too_many || demands.iter().any(|demand| demand.is_partial);
        let is_in_body = requirements.iter().all(BTreeMap::is_empty)
            && demands.iter().any(|demand| demand.is_in_body());
        let expressions = demands
            .iter()
            .filter_map(|demand| demand.expression.clone());
        let mut expressions: Vec<_> = expressions.collect();
        Self {
            requirements: (!is_in_body).then_some(requirements),
            required_scopes: match expressions.len() {
                _ if !is_partial => None,
                0 | 1 => expressions.pop(),
                _ => Some(json!({ "all": expressions })),
            },
            in_body: demands
                .iter()
                .flat_map(|demand| demand.in_body.iter().cloned())
                .collect(),
        }
    }
}

/// Returns every way to meet all guards, without those that include another one.
fn requirements(demands: &[&Demand], with_scopes: bool) -> Vec<Requirement> {
    // The requirement, and the scheme that each guard reads in it.
    let mut ways: Vec<(Requirement, Vec<Option<&str>>)> = vec![Default::default()];
    for demand in demands {
        let schemes = demand.schemes.iter().map(|scheme| Some(scheme.as_str()));
        let none = (demand.is_optional || demand.schemes.is_empty()).then_some(None);
        let choices: Vec<_> = schemes.chain(none).collect();
        let mut next = Vec::new();
        for (requirement, chosen) in &ways {
            for choice in &choices {
                let lists = if with_scopes && choice.is_some() {
                    demand.lists.as_slice()
                } else {
                    &[Vec::new()]
                };
                for list in lists {
                    let mut requirement = requirement.clone();
                    if let Some(scheme) = choice {
                        add(requirement.entry((*scheme).to_owned()).or_default(), list);
                    }
                    next.push((requirement, [chosen.as_slice(), &[*choice]].concat()));
                }
            }
        }
        ways = next;
    }
    let ways = ways.into_iter().filter(|(requirement, chosen)| {
        // A guard reads each of its locations, and denies a request with two keys.
        demands.iter().zip(chosen).all(|(demand, choice)| {
            let mut schemes = demand.schemes.iter();
            schemes
                .all(|scheme| Some(scheme.as_str()) == *choice || !requirement.contains_key(scheme))
        })
    });
    without_supersets(ways.map(|(requirement, _)| requirement))
}

fn add(scopes: &mut Vec<String>, more: &[String]) {
    for scope in more {
        if !scopes.contains(scope) {
            scopes.push(scope.clone());
        }
    }
}

/// Removes requirements that need the scopes of another one and more.
fn without_supersets(all: impl Iterator<Item = Requirement>) -> Vec<Requirement> {
    let mut kept: Vec<Requirement> = Vec::new();
    for requirement in all {
        if !kept.iter().any(|one| includes(&requirement, one)) {
            kept.retain(|one| !includes(one, &requirement));
            kept.push(requirement);
        }
    }
    kept
}

/// Returns whether `one` has the schemes of `other`, and all of its scopes.
fn includes(one: &Requirement, other: &Requirement) -> bool {
    one.keys().eq(other.keys())
        && one.values().zip(other.values()).all(|(scopes, needed)| {
            let mut needed = needed.iter();
            needed.all(|scope| scopes.contains(scope))
        })
}

/// Returns the lists of scopes of which a key needs one; `None` if there are too many. Templates and
/// `not` are left out.
fn lists(scopes: ScopeExpr) -> Option<Vec<Vec<String>>> {
    let lists = match scopes {
        ScopeExpr::One(text) if !text.contains('{') => vec![vec![text.to_owned()]],
        ScopeExpr::One(_) | ScopeExpr::Not(_) => vec![Vec::new()],
        ScopeExpr::Any(parts) => {
            let parts: Option<Vec<_>> = parts.iter().map(|part| lists(*part)).collect();
            parts?.concat()
        }
        ScopeExpr::All(parts) => {
            let mut all = vec![Vec::new()];
            for part in parts {
                all = product(&all, &lists(*part)?)?;
            }
            all
        }
    };
    (lists.len() <= MAX_REQUIREMENTS).then_some(lists)
}

fn product(all: &[Vec<String>], more: &[Vec<String>]) -> Option<Vec<Vec<String>>> {
    (all.len() * more.len() <= MAX_REQUIREMENTS).then(|| {
        let pairs = all
            .iter()
            .flat_map(|one| more.iter().map(move |other| (one, other)));
        pairs
            .map(|(one, other)| {
                let mut scopes = one.clone();
                add(&mut scopes, other);
                scopes
            })
            .collect()
    })
}

/// Returns whether an expression has a part that a list of scopes cannot say.
fn is_partial(scopes: ScopeExpr) -> bool {
    match scopes {
        ScopeExpr::One(text) => text.contains('{'),
        ScopeExpr::Not(_) => true,
        ScopeExpr::All(parts) | ScopeExpr::Any(parts) => parts.iter().any(|part| is_partial(*part)),
    }
}

/// Returns an expression as JSON: `"a"`, `{"all": [..]}`, `{"any": [..]}` or `{"not": ..}`.
fn expression(scopes: ScopeExpr) -> Value {
    let list = |parts: &[ScopeExpr]| {
        parts
            .iter()
            .map(|part| expression(*part))
            .collect::<Value>()
    };
    match scopes {
        ScopeExpr::One(text) => text.into(),
        ScopeExpr::All(parts) => json!({ "all": list(parts) }),
        ScopeExpr::Any(parts) => json!({ "any": list(parts) }),
        ScopeExpr::Not(part) => json!({ "not": expression(*part) }),
    }
}

/// Returns the member of the body that has the key.
fn member(location: &KeyLocation<'_>) -> Option<String> {
    match location {
        KeyLocation::Json { name } | KeyLocation::Form { name } => Some((*name).to_owned()),
        _ => None,
    }
}
