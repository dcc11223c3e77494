//! What guards add to `#[utoipa::path]`: requirements, responses and extensions. The runtime
//! computes the same for guards that it finds.

use std::collections::BTreeMap;

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};

use super::text;
use crate::{locations::KeyLocation, scopes::ScopeExpr, validate::Policy};

/// The maximum number of requirements, as in the runtime.
const MAX_REQUIREMENTS: usize = 16;

/// The maximum number of ways to meet the guards that are compared with each other. With more, the scopes are
/// left out at once: each guard multiplies the ways.
const MAX_WAYS: usize = 256;

/// The scheme of the location that the manager's configuration sets.
const DEFAULT_SCHEME: &str = "api_key";

/// The tokens that guards add.
pub(super) struct Security {
    /// The arguments of `security(..)`; `None` if each key is in the body.
    pub(super) requirements: Option<TokenStream>,
    /// The type of the responses.
    pub(super) responses: TokenStream,
    /// The arguments of `extensions(..)`, if there are any.
    pub(super) extensions: Option<TokenStream>,
}

/// Scopes as expressions, with the texts of their tokens.
type ScopeList = Vec<(String, TokenStream)>;

/// The scopes that are needed with each scheme.
type Requirement = BTreeMap<String, ScopeList>;

/// What one guard demands.
struct Demand {
    schemes: Vec<String>,
    /// The lists of scopes of which a key needs one.
    lists: Vec<ScopeList>,
    expression: Option<TokenStream>,
    /// Whether the lists say less than the expression.
    is_partial: bool,
    in_body: Vec<String>,
    is_optional: bool,
}

impl Security {
    /// Returns what guards demand together; the first one is the topmost.
    pub(super) fn of(guards: &[&Policy]) -> Self {
        let demands: Vec<_> = guards.iter().map(|policy| Demand::of(policy)).collect();
        let all = requirements(&demands, true);
        let all = all.filter(|all| all.len() <= MAX_REQUIREMENTS);
        let has_too_many = all.is_none();
        let without_scopes = || requirements(&demands, false).unwrap_or_default();
        let mut requirements = all.unwrap_or_else(without_scopes);
        requirements.truncate(MAX_REQUIREMENTS);
        let is_partial = has_too_many || demands.iter().any(|demand| demand.is_partial);
        let in_body: Vec<_> = demands.iter().flat_map(|demand| &demand.in_body).collect();
        let is_in_body = requirements.iter().all(BTreeMap::is_empty) && !in_body.is_empty();
        Self {
            requirements: (!is_in_body).then(|| {
                let requirements = requirements.iter().map(requirement);
                quote!(#(#requirements),*)
            }),
            responses: responses(guards, !in_body.is_empty()),
            extensions: extensions(&demands, is_partial, &in_body),
        }
    }
}

impl Demand {
    fn of(policy: &Policy) -> Self {
        let schemes = if policy.locations.is_empty() {
            vec![DEFAULT_SCHEME.to_owned()]
        } else {
            policy.locations.iter().filter_map(scheme_name).collect()
        };
        let nothing = || vec![ScopeList::new()];
        let lists = policy
            .scopes
            .as_ref()
            .map_or_else(|| Some(nothing()), lists);
        Self {
            schemes,
            is_partial: lists.is_none() || policy.scopes.as_ref().is_some_and(is_partial),
            lists: lists.unwrap_or_else(nothing),
            expression: policy.scopes.as_ref().map(expression),
            in_body: policy.locations.iter().filter_map(member).collect(),
            is_optional: policy.optional,
        }
    }
}

/// Returns every way to meet all guards, without those that include another one. If there are more than
/// [`MAX_WAYS`], returns `None`, or the first ones without scopes.
fn requirements(demands: &[Demand], with_scopes: bool) -> Option<Vec<Requirement>> {
    // The requirement, and the scheme that each guard reads in it.
    let mut ways: Vec<(Requirement, Vec<Option<&str>>)> = vec![Default::default()];
    for (at, demand) in demands.iter().enumerate() {
        let schemes = demand.schemes.iter().map(|scheme| Some(scheme.as_str()));
        let none = (demand.is_optional || demand.schemes.is_empty()).then_some(None);
        let choices: Vec<_> = schemes.chain(none).collect();
        let nothing = [ScopeList::new()];
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

fn add(scopes: &mut ScopeList, more: &[(String, TokenStream)]) {
    for (text, scope) in more {
        if !scopes.iter().any(|(known, _)| known == text) {
            scopes.push((text.clone(), scope.clone()));
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
            needed.all(|(scope, _)| scopes.iter().any(|(text, _)| text == scope))
        })
}

/// Returns the lists of scopes of which a key needs one; `None` if there are too many. Templates and
/// `not` are left out.
fn lists(scopes: &ScopeExpr) -> Option<Vec<ScopeList>> {
    let one = |scope: TokenStream| vec![vec![(text(&scope), scope)]];
    let lists = match scopes {
        ScopeExpr::Text(_) | ScopeExpr::Not(_) if is_partial(scopes) => vec![ScopeList::new()],
        ScopeExpr::Text(text) => {
            let text = text.as_str();
            one(quote!(#text))
        }
        ScopeExpr::Const(path) => one(path.to_token_stream()),
        ScopeExpr::Not(_) => vec![ScopeList::new()],
        ScopeExpr::Any(parts) => {
            let parts: Option<Vec<_>> = parts.iter().map(lists).collect();
            parts?.concat()
        }
        ScopeExpr::All(parts) => {
            let mut all = vec![ScopeList::new()];
            for part in parts {
                all = product(&all, &lists(part)?)?;
            }
            all
        }
    };
    (lists.len() <= MAX_REQUIREMENTS).then_some(lists)
}

fn product(all: &[ScopeList], more: &[ScopeList]) -> Option<Vec<ScopeList>> {
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
fn is_partial(scopes: &ScopeExpr) -> bool {
    match scopes {
        ScopeExpr::Text(text) => text.as_str().contains('{'),
        ScopeExpr::Const(_) => false,
        ScopeExpr::Not(_) => true,
        ScopeExpr::All(parts) | ScopeExpr::Any(parts) => parts.iter().any(is_partial),
    }
}

/// Returns an expression as JSON, as the runtime writes it.
fn expression(scopes: &ScopeExpr) -> TokenStream {
    let list = |parts: &[ScopeExpr]| {
        let parts = parts.iter().map(expression);
        quote!([#(#parts),*])
    };
    match scopes {
        ScopeExpr::Text(text) => text.as_str().to_token_stream(),
        ScopeExpr::Const(path) => path.to_token_stream(),
        ScopeExpr::All(parts) => {
            let parts = list(parts);
            quote!({ "all": #parts })
        }
        ScopeExpr::Any(parts) => {
            let parts = list(parts);
            quote!({ "any": #parts })
        }
        ScopeExpr::Not(part) => {
            let part = expression(part);
            quote!({ "not": #part })
        }
    }
}

fn requirement(requirement: &Requirement) -> TokenStream {
    let schemes = requirement.iter().map(|(name, scopes)| {
        let scopes = scopes.iter().map(|(_, scope)| scope);
        quote!(#name = [#(#scopes),*])
    });
    quote!((#(#schemes),*))
}

fn responses(guards: &[&Policy], is_in_body: bool) -> TokenStream {
    let krate = guards.first().map(|policy| &policy.krate);
    let is_custom = guards.iter().any(|policy| policy.on_error.is_some());
    quote!(#krate::__private::ApiKeyResponses<#is_in_body, #is_custom>)
}

fn extensions(demands: &[Demand], is_partial: bool, in_body: &[&String]) -> Option<TokenStream> {
    let expressions = demands
        .iter()
        .filter_map(|demand| demand.expression.as_ref());
    let expressions: Vec<_> = expressions.filter(|_| is_partial).collect();
    let scopes = match expressions.as_slice() {
        [] => None,
        [one] => Some(quote!(#one)),
        several => Some(quote!({ "all": [#(#several),*] })),
    };
    let scopes = scopes.map(|scopes| quote!(("x-required-scopes" = json!(#scopes))));
    let in_body =
        (!in_body.is_empty()).then(|| quote!(("x-api-key-in-body" = json!([#(#in_body),*]))));
    let extensions: Vec<_> = scopes.into_iter().chain(in_body).collect();
    (!extensions.is_empty()).then(|| quote!(#(#extensions),*))
}

/// Returns the name of the scheme of a location, as the runtime does; `None` if the key is in the
/// body.
fn scheme_name(location: &KeyLocation) -> Option<String> {
    let name = match location {
        KeyLocation::Header { name, scheme } => match scheme {
            Some(scheme) if name == "authorization" && scheme.eq_ignore_ascii_case("bearer") => {
                "bearer".to_owned()
            }
            Some(scheme) => format!("header_{name}_{}", scheme.to_ascii_lowercase()),
            None => format!("header_{name}"),
        },
        KeyLocation::Basic => "basic".to_owned(),
        KeyLocation::WebSocket => "websocket".to_owned(),
        KeyLocation::Query { name } => format!("query_{name}"),
        KeyLocation::Cookie { name } => format!("cookie_{name}"),
        KeyLocation::Json { .. } | KeyLocation::Form { .. } => return None,
    };
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
    let name = name.replace(|letter| !is_plain(letter), "_");
    Some(format!("{DEFAULT_SCHEME}_{name}"))
}

/// Returns the member of the body that has the key.
fn member(location: &KeyLocation) -> Option<String> {
    match location {
        KeyLocation::Json { name } | KeyLocation::Form { name } => Some(name.clone()),
        _ => None,
    }
}
