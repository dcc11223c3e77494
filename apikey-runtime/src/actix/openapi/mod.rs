//! Documents of guarded routes, for utoipa.

mod guard_entry;
mod handlers;
mod responses;
mod scheme;
mod security;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use utoipa::Modify;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Components, OpenApi};

use self::handlers::{GuardedHandler, Matches, operations_mut, places};
use self::scheme::{DEFAULT_SCHEME, is_same_place, scheme, scheme_name};
use self::security::{Demand, Security};
use super::policy::RouteRules;
use crate::policy::{KeyLocation, Policy};

pub use guard_entry::{Author, DocumentedPath, GuardEntry};
pub use responses::{ApiKeyResponses, GuardResponses};

/// Completes a document: adds the security schemes, and what the guards below `#[utoipa::path]`
/// demand.
///
/// What a guard above `#[utoipa::path]` demands is already in the document, and what the application
/// wrote is kept.
///
/// A document names operations, and not handlers. An operation is the handler's if its id, its path
/// and its method are those of the handler's `#[utoipa::path]`. If several handlers fit alike, their
/// operations get only what [`middleware`](Self::middleware) demands, and [`strict`](Self::strict)
/// panics with their list.
///
/// ```
/// use actix_web::get;
/// use apikey_runtime::{api_key_required, openapi::ApiKeySecurity};
/// use utoipa::OpenApi;
///
/// #[utoipa::path(get, path = "/orders", responses((status = 200, body = String)))]
/// #[api_key_required(scope = "orders:read")]
/// async fn orders() -> &'static str {
///     "orders"
/// }
///
/// static API_KEYS: ApiKeySecurity = ApiKeySecurity::new().strict();
///
/// #[derive(OpenApi)]
/// #[openapi(paths(orders), modifiers(&API_KEYS))]
/// struct Api;
///
/// let document = serde_json::to_value(Api::openapi())?;
/// let operation = &document["paths"]["/orders"]["get"];
/// assert_eq!(operation["security"][0]["api_key"][0], "orders:read");
/// assert!(operation["responses"].get("401").is_some());
/// assert_eq!(document["components"]["securitySchemes"]["api_key"]["scheme"], "bearer");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
#[must_use = "a modifier does nothing until it modifies a document"]
pub struct ApiKeySecurity {
    is_strict: bool,
    location: KeyLocation<'static>,
    middleware: &'static [(&'static str, Policy)],
}

impl ApiKeySecurity {
    /// Creates the modifier for a manager that reads keys at the default location,
    /// `Authorization: Bearer`.
    pub const fn new() -> Self {
        Self {
            is_strict: false,
            location: KeyLocation::BEARER,
            middleware: &[],
        }
    }

    /// Panics while the document is made if it cannot describe all guards. By default, it leaves out
    /// what it cannot describe. The reasons:
    ///
    /// - An operation may belong to several guarded handlers.
    /// - A handler with a guard below `#[utoipa::path]` is absent from the document while it has others of
    ///   the same module.
    /// - A guarded handler, of any module, whose `#[utoipa::path]` is not visible to the attribute, as
    ///   under an attribute of another name, is not found, and the document has operations without
    ///   security, of which one may be that handler's.
    /// - A prefix of [`middleware`](Self::middleware) does not contain a path of the document.
    /// - The application has a scheme with the name of a guard's scheme for another place.
    pub const fn strict(mut self) -> Self {
        self.is_strict = true;
        self
    }

    /// Sets the location at which the manager's configuration expects the key. By default,
    /// `Authorization: Bearer`.
    pub const fn location(mut self, location: KeyLocation<'static>) -> Self {
        self.location = location;
        self
    }

    /// Documents [`RequireApiKey`](crate::RequireApiKey): for each path prefix of the document, what
    /// the middleware around it demands, in addition to what a handler's own guard demands. A prefix
    /// ends with a segment, and an empty one contains all paths.
    ///
    /// ```
    /// use apikey_runtime::{Policy, ScopeExpr, openapi::ApiKeySecurity};
    ///
    /// const ADMIN: Policy = Policy::new().scopes(ScopeExpr::One("admin"));
    ///
    /// static API_KEYS: ApiKeySecurity = ApiKeySecurity::new().middleware(&[("/admin", ADMIN)]);
    /// ```
    pub const fn middleware(mut self, prefixes: &'static [(&'static str, Policy)]) -> Self {
        self.middleware = prefixes;
        self
    }
}

impl Default for ApiKeySecurity {
    fn default() -> Self {
        Self::new()
    }
}

impl Modify for ApiKeySecurity {
    /// Completes the document.
    ///
    /// # Panics
    ///
    /// Panics if the modifier is [`strict`](Self::strict) and cannot document a guard.
    fn modify(&self, document: &mut OpenApi) {
        let handlers = GuardedHandler::all(&self.location);
        let places = places(document);
        let matches = Matches::of(&places, &handlers);
        if self.is_strict {
            let mut problems = problems(&matches, &handlers, &places);
            problems.extend(self.unused_prefixes(&places));
            assert!(
                problems.is_empty(),
                "not all guards can be documented:\n{}",
                problems.join("\n")
            );
        }
        let mut demanded = BTreeSet::new();
        for (number, (path, operation)) in operations_mut(document).enumerate() {
            let handler = matches.of_operation.get(&number).map(|at| &handlers[*at]);
            if self.complete(path, operation, handler) {
                demanded.extend(scheme_names(operation.security.iter().flatten()));
            }
        }
        self.add_schemes(document);
        if self.is_strict {
            let foreign = self.foreign_schemes(document, &demanded);
            assert!(foreign.is_empty(), "{}", foreign.join("\n"));
        }
    }
}

impl ApiKeySecurity {
    /// Writes what the guards of an operation demand, unless the application wrote it, and their
    /// responses. Returns whether the security of the operation is that of its guards.
    fn complete(
        &self,
        path: &str,
        operation: &mut Operation,
        handler: Option<&GuardedHandler>,
    ) -> bool {
        let around = self.middleware.iter();
        let around = around.filter(|(prefix, _)| is_under(path, prefix));
        let around: Vec<_> = around
            .map(|(_, policy)| Demand::of(policy, &self.location))
            .collect();
        let guards = handler.map_or(&[][..], |handler| &handler.guards);
        let own = guards.iter().map(|(_, demand)| demand);
        let demands: Vec<_> = own.chain(&around).collect();
        if demands.is_empty() {
            return false;
        }
        let is_ours =
            operation.security.is_none() || handler.is_some_and(GuardedHandler::is_written);
        let is_complete = guards
            .iter()
            .all(|(author, _)| *author == Author::Attribute);
        // The attribute does not see the text of a constant, which may be a template.
        let is_partial = demands.iter().any(|demand| demand.is_partial);
        let is_exact = is_complete && around.is_empty() && !is_partial;
        if is_ours && (!is_exact || self.location.is_in_body()) {
            write_security(operation, Security::of(&demands));
        }
        let is_custom = handler.is_some_and(|handler| handler.is_custom);
        add_responses(operation, &demands, is_custom);
        is_ours
    }

    /// Describes the prefixes of middleware that do not contain a path of the document, unless it
    /// does not have paths yet.
    fn unused_prefixes(&self, places: &[handlers::OperationPlace<'_>]) -> Vec<String> {
        let prefixes = self.middleware.iter().map(|(prefix, _)| prefix);
        let unused = prefixes.filter(|prefix| {
            !places.is_empty() && !places.iter().any(|place| is_under(place.path, prefix))
        });
        let describe = |prefix| {
            format!(
                "- the prefix `{prefix}` of `ApiKeySecurity::middleware` does not contain a path of \
                 the document; write it as the document has it, or remove it"
            )
        };
        unused.map(describe).collect()
    }

    /// Adds the schemes that the document names, or those of all guards if it does not have paths
    /// yet. A scheme of the application is kept.
    fn add_schemes(&self, document: &mut OpenApi) {
        let is_empty = document.paths.paths.is_empty();
        let named = named_schemes(document);
        let components = document.components.get_or_insert_with(Components::new);
        for (name, scheme) in self.schemes() {
            if is_empty || named.contains(&name) {
                let schemes = &mut components.security_schemes;
                schemes.entry(name).or_insert_with(|| scheme.into());
            }
        }
    }

    /// Describes the application's schemes that have the name of a scheme of guards, and are for
    /// another place.
    fn foreign_schemes(&self, document: &OpenApi, demanded: &BTreeSet<String>) -> Vec<String> {
        let of_guards = self.schemes();
        let components = document.components.iter();
        let schemes = components.flat_map(|components| &components.security_schemes);
        let foreign = schemes.filter(|(name, scheme)| {
            let of_guards = of_guards.get(*name).filter(|_| demanded.contains(*name));
            of_guards.is_some_and(|of_guards| !is_same_place(of_guards, scheme))
        });
        let describe = |(name, _)| {
            format!(
                "the application's scheme `{name}` is not for the place where guards find the key; \
                 rename the scheme, or set the place by `ApiKeySecurity::location`"
            )
        };
        foreign.map(describe).collect()
    }

    fn schemes(&self) -> BTreeMap<String, SecurityScheme> {
        let policies = GuardEntry::all()
            .into_iter()
            .map(|entry| (entry.rules)())
            .map(|rules: RouteRules| rules.policy);
        let policies = policies.chain(self.middleware.iter().map(|(_, policy)| *policy));
        let locations = policies.filter_map(|policy| policy.locations).flatten();
        let own =
            locations.filter_map(|location| Some((scheme_name(location)?, scheme(location)?)));
        let default = scheme(&self.location).map(|scheme| (DEFAULT_SCHEME.to_owned(), scheme));
        own.chain(default).collect()
    }
}

fn write_security(operation: &mut Operation, security: Security) {
    operation.security = security.requirements.map(|requirements| {
        let requirements = requirements.into_iter();
        requirements
            .map(|schemes| {
                let schemes = schemes.into_iter();
                schemes.fold(
                    SecurityRequirement::default(),
                    |requirement, (name, scopes)| requirement.add(name, scopes),
                )
            })
            .collect()
    });
    let in_body = (!security.in_body.is_empty()).then(|| Value::from(security.in_body));
    let extensions = [
        ("x-required-scopes", security.required_scopes),
        ("x-api-key-in-body", in_body),
    ];
    for (name, value) in extensions {
        if let Some(value) = value {
            let extensions = operation.extensions.get_or_insert_with(Default::default);
            extensions.insert(name.to_owned(), value);
        }
    }
}

/// Adds the responses of the guards for statuses that the operation does not have yet.
fn add_responses(operation: &mut Operation, demands: &[&Demand], is_custom: bool) {
    let is_in_body = demands.iter().any(|demand| demand.is_in_body());
    let own = &mut operation.responses.responses;
    for (status, response) in responses::responses(is_in_body, is_custom) {
        own.entry(status).or_insert(response);
    }
}

/// Returns whether a path is in a prefix of whole segments.
fn is_under(path: &str, prefix: &str) -> bool {
    let rest = path.strip_prefix(prefix.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Returns the names of the schemes in the requirements of a document.
fn named_schemes(document: &mut OpenApi) -> BTreeSet<String> {
    let global = document.security.clone().into_iter().flatten();
    let own =
        operations_mut(document).flat_map(|(_, operation)| operation.security.iter().flatten());
    let requirements: Vec<_> = own.cloned().chain(global).collect();
    scheme_names(&requirements).collect()
}

/// Returns the names of the schemes in requirements. They are public only in their serialized form.
fn scheme_names<'r>(
    requirements: impl IntoIterator<Item = &'r SecurityRequirement>,
) -> impl Iterator<Item = String> {
    let requirements = requirements.into_iter().map(serde_json::to_value);
    let requirements = requirements.filter_map(Result::ok);
    requirements.flat_map(|requirement| match requirement {
        Value::Object(schemes) => schemes.into_iter().map(|(name, _)| name).collect(),
        _ => Vec::new(),
    })
}

/// Returns what `strict` reports.
fn problems(
    matches: &Matches,
    handlers: &[GuardedHandler],
    places: &[handlers::OperationPlace<'_>],
) -> Vec<String> {
    let names = |candidates: &[usize]| {
        let names = candidates
            .iter()
            .map(|at| format!("`{}`", handlers[*at].name()));
        names
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect::<Vec<_>>()
            .join(" or ")
    };
    let ambiguous = matches.ambiguous.iter().map(|(number, candidates)| {
        format!(
            "- `{}` may be {}; write `#[api_key_required]` above `#[utoipa::path]`, or set an \
             `operation_id` that only one handler has",
            places[*number].path,
            names(candidates)
        )
    });
    let absent = matches.absent(places, handlers);
    let absent = absent.iter().map(|handler| {
        format!(
            "- `{}` is not in the document; add it to `paths(..)`, or to the application",
            handler.name()
        )
    });
    ambiguous.chain(absent).collect()
}
