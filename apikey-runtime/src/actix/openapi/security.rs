//! Security requirements: what a client must send, from the policies of the guards. The attribute
//! computes the same from its options.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::scheme::{DEFAULT_SCHEME, scheme_name};
use crate::policy::{KeyLocation, Policy, ScopeExpr};

/// The maximum number of requirements of an operation. With more, the requirements name the
/// locations only, and the scopes are in `x-required-scopes`.
const MAX_REQUIREMENTS: usize = 16;

/// The maximum number of ways to meet the guards that are compared with each other. With more, the scopes are
/// left out at once: each guard multiplies the ways.
const MAX_WAYS: usize = 256;

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
        let all = all.filter(|all| all.len() <= MAX_REQUIREMENTS);
        let has_too_many = all.is_none();
        let without_scopes = || requirements(demands, false).unwrap_or_default();
        let mut requirements = all.unwrap_or_else(without_scopes);
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

/// Returns every way to meet all guards, without those that include another one. If there are more than
/// [`MAX_WAYS`], returns `None`, or the first ones without scopes.
fn requirements(demands: &[&Demand], with_scopes: bool) -> Option<Vec<Requirement>> {
    // The requirement, and the scheme that each guard reads in it.
    let mut ways: Vec<(Requirement, Vec<Option<&str>>)> = vec![Default::default()];
    for (at, demand) in demands.iter().enumerate() {
        let schemes = demand.schemes.iter().map(|scheme| Some(scheme.as_str()));
        let none = (demand.is_optional || demand.schemes.is_empty()).then_some(None);
        let choices: Vec<_> = schemes.chain(none).collect();
        let nothing = [Vec::new()];
        let lists = |choice: Option<&str>| match choice {
            Some(_) if with_scopes => demand.lists.as_slice(),
            _ => &nothing,
        };
        let pairs = choices
            .iter()
            .flat_map(|choice| lists(*choice).iter().map(move |list| (*choice, list)));
        let pairs: Vec<_> = pairs.collect();
        let next = ways.iter().flat_map(|(requirement, chosen)| {
            pairs.iter().map(move |(choice, list)| {
                let mut requirement = requirement.clone();
                if let Some(scheme) = choice {
                    add(requirement.entry((*scheme).to_owned()).or_default(), list);
                }
                (requirement, [chosen.as_slice(), &[*choice]].concat())
            })
        });
        // A guard reads each of its locations, and denies a request with two keys.
        let demands = &demands[..=at];
        let next = next.filter(|(requirement, chosen)| {
            demands.iter().zip(chosen).all(|(demand, choice)| {
                let mut schemes = demand.schemes.iter();
                schemes.all(|scheme| {
                    Some(scheme.as_str()) == *choice || !requirement.contains_key(scheme)
                })
            })
        });
        let mut next: Vec<_> = next.take(MAX_WAYS + 1).collect();
        if next.len() > MAX_WAYS {
            if with_scopes {
                return None;
            }
            next.truncate(MAX_WAYS);
        }
        ways = next;
    }
    if ways.is_empty() {
        // They are too many to be built, or contradict each other. None at all would mean that no key is needed.
        let schemes = demands.iter().rev().take(1).flat_map(|last| &last.schemes);
        ways.extend(schemes.map(|scheme| {
            let mut requirement = Requirement::default();
            requirement.entry(scheme.clone()).or_default();
            (requirement, Vec::new())
        }));
    }
    let requirements = ways.into_iter().map(|(requirement, _)| requirement);
    Some(without_supersets(requirements))
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

#[cfg(test)]
mod tests {
    use super::*;

    const PLACES: [KeyLocation<'static>; 6] = [
        KeyLocation::BEARER,
        KeyLocation::Basic,
        KeyLocation::WebSocket,
        KeyLocation::Query { name: "a" },
        KeyLocation::Query { name: "b" },
        KeyLocation::Query { name: "c" },
    ];

    fn demand(scheme: &str, lists: usize) -> Demand {
        let policy = Policy::new().locations(const { &PLACES });
        let mut demand = Demand::of(&policy, &KeyLocation::BEARER);
        let schemes = demand
            .schemes
            .iter()
            .map(|place| format!("{place}{scheme}"));
        demand.schemes = schemes.collect();
        demand.lists = (0..lists).map(|at| vec![format!("{scheme}{at}")]).collect();
        demand
    }

    /// Stacked guards are bounded: 10 of them have 96 to the power of 10 ways together.
    #[test]
    fn many_ways_are_not_built() {
        for guards in [2, 3, 10] {
            let same: Vec<_> = (0..guards).map(|_| demand("", 16)).collect();
            let security = Security::of(&same.iter().collect::<Vec<_>>());
            let requirements = security.requirements.unwrap();
            assert_eq!(requirements.len(), 6, "each guard reads the same key");
            assert!(
                requirements
                    .iter()
                    .flat_map(BTreeMap::values)
                    .all(Vec::is_empty)
            );

            let own: Vec<_> = (0..guards)
                .map(|at| demand(&format!("g{at}"), 16))
                .collect();
            let security = Security::of(&own.iter().collect::<Vec<_>>());
            let requirements = security.requirements.unwrap();
            assert_eq!(requirements.len(), MAX_REQUIREMENTS);
            assert!(requirements.iter().all(|one| one.len() == guards));
        }
        // Control: few are listed with their scopes.
        let few = [demand("a", 1), demand("b", 2)];
        let few: Vec<_> = few
            .iter()
            .map(|one| Demand {
                schemes: one.schemes[..2].to_vec(),
                ..one.clone()
            })
            .collect();
        let requirements = Security::of(&few.iter().collect::<Vec<_>>())
            .requirements
            .unwrap();
        assert_eq!(requirements.len(), 8);
        assert!(
            requirements
                .iter()
                .all(|one| one.values().flatten().count() == 2)
        );
    }
}
