//! The guarded handlers of a program, and what their guards demand.
//!
//! With the feature `routes`, `#[api_key_required]` makes each handler register itself in the
//! program. A handler is listed whether or not an app has a route to it, and a route of an app whose
//! handler does not have the attribute is not listed: `testing::audit_routes` finds such routes.
//!
//! ```
//! use actix_web::get;
//! use apikey_runtime::api_key_required;
//!
//! #[get("/orders")]
//! #[api_key_required(scope = "orders:read", cost = 5)]
//! async fn shipped_orders() -> &'static str {
//!     "orders"
//! }
//!
//! let routes = apikey_runtime::routes();
//! let route = routes.iter().find(|route| route.handler.ends_with("::shipped_orders")).unwrap();
//! assert_eq!((route.patterns[0].method, route.patterns[0].pattern), ("GET", "/orders"));
//! assert_eq!(route.demands[0].scopes.as_deref(), Some("orders:read"));
//! assert_eq!(route.demands[0].cost, 5);
//! ```

use serde::Serialize;

use crate::limit::Rate;
use crate::policy::{LimiterFallback, Policy};

/// A guarded handler.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct GuardedRoute {
    /// The handler's path, such as `shop::orders::list`: its module and its name. Several handlers
    /// in function bodies or in `impl` blocks of one module may have the same path.
    pub handler: String,
    /// The source file, as the compiler was given it.
    pub file: &'static str,
    /// The line of the handler's name, from 1. A handler that a macro made has the line of the
    /// macro's call, or of the name in it.
    pub line: u32,
    /// The methods and patterns of the routing attributes above and below the guard. Empty if there
    /// are none, as with `web::get().to(handler)`, or if a macro hides them.
    pub patterns: Vec<RoutedPattern>,
    /// What each guard demands, in the order in which they are checked: from the lowest attribute to
    /// the topmost. A request has to meet all of them.
    pub demands: Vec<RouteDemands>,
}

/// A method and a pattern of a routing attribute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RoutedPattern {
    /// The method, such as `GET`.
    pub method: &'static str,
    /// The pattern as written, after those of the `#[scope("..")]` modules around the handler. It is
    /// relative to the `web::scope` in which an app registers the handler.
    pub pattern: &'static str,
}

/// What a guard demands of a request.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RouteDemands {
    /// The scopes, such as `all(orders:read, not(trial))`. `None` if any key will do.
    pub scopes: Option<String>,
    /// The locations of the key, as the attribute has them: `header("x-api-key")`. Empty if it is the
    /// location of the manager's configuration.
    pub locations: Vec<String>,
    /// The methods for which a key is allowed. Empty for all.
    pub methods: &'static [&'static str],
    /// Whether a request without a key is allowed as anonymous.
    pub optional: bool,
    /// Whether each check reads the store.
    pub fresh: bool,
    /// Whether a key that arrived without TLS is denied.
    pub require_https: bool,
    /// The prefix that a key must have.
    pub prefix: Option<&'static str>,
    /// The environment that a key must have.
    pub environment: Option<&'static str>,
    /// The rate at which each key may use the route.
    pub rate_limit: Option<Rate>,
    /// The units of each limit that a request costs.
    pub cost: u32,
    /// What happens when limits cannot be counted.
    pub on_limiter_down: LimiterFallback,
}

impl RouteDemands {
    fn of(policy: &Policy) -> Self {
        let Policy {
            locations,
            scopes,
            has_template: _,
            prefix,
            environment,
            methods,
            optional,
            fresh,
            require_https,
            name: _,
            rate,
            cost,
            limiter_down,
        } = *policy;
        let locations = locations.unwrap_or_default().iter();
        Self {
            scopes: scopes.map(|scopes| scopes.to_string()),
            locations: locations.map(ToString::to_string).collect(),
            methods: methods.unwrap_or_default(),
            optional,
            fresh,
            require_https,
            prefix,
            environment,
            rate_limit: rate,
            cost,
            on_limiter_down: limiter_down,
        }
    }
}

/// A guard of a handler. Generated code submits it.
#[doc(hidden)]
#[derive(Debug)]
#[allow(
    missing_docs,
    reason = "only generated code names the fields, and this type is hidden"
)]
pub struct RouteRegistration {
    pub module: &'static str,
    pub name: &'static str,
    /// The file, the line and the column.
    pub place: (&'static str, u32, u32),
    /// The number of attributes below the guard, which is larger for a guard further up.
    pub attributes_below: usize,
    pub policy: Policy,
    pub routes: &'static [(&'static str, &'static str)],
}

inventory::collect!(RouteRegistration);

/// Returns the guarded handlers of this program, in the order of their paths.
///
/// These are the handlers of all crates in it, also of those that another crate than the program's
/// own guards.
#[must_use]
pub fn routes() -> Vec<GuardedRoute> {
    group(inventory::iter::<RouteRegistration>.into_iter().collect())
}

/// Puts the guards of each handler together.
fn group(mut all: Vec<&RouteRegistration>) -> Vec<GuardedRoute> {
    let handler = |one: &RouteRegistration| (one.module, one.name, one.place);
    all.sort_by_key(|one| (handler(one), one.attributes_below));
    let mut routes = Vec::new();
    for guards in all.chunk_by(|one, next| handler(one) == handler(next)) {
        // A macro may make several handlers of one name at one place, in several functions.
        let mut handlers: Vec<Vec<&RouteRegistration>> = Vec::new();
        for guard in guards {
            let is_above = |handler: &&mut Vec<&RouteRegistration>| {
                let last = handler.last();
                last.is_some_and(|last| last.attributes_below < guard.attributes_below)
            };
            match handlers.iter_mut().find(is_above) {
                Some(handler) => handler.push(guard),
                None => handlers.push(vec![guard]),
            }
        }
        routes.extend(handlers.iter().filter_map(|guards| route(guards)));
    }
    routes
}

fn route(guards: &[&RouteRegistration]) -> Option<GuardedRoute> {
    let (file, line, _) = guards.first()?.place;
    let mut patterns = Vec::new();
    for &(method, pattern) in guards.iter().flat_map(|guard| guard.routes) {
        let pattern = RoutedPattern { method, pattern };
        if !patterns.contains(&pattern) {
            patterns.push(pattern);
        }
    }
    let demands = guards.iter().map(|guard| RouteDemands::of(&guard.policy));
    Some(GuardedRoute {
        handler: guards
            .first()
            .map(|first| format!("{}::{}", first.module, first.name))?,
        file,
        line,
        patterns,
        demands: demands.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{KeyLocation, ScopeExpr};

    const PLAIN: RouteRegistration = RouteRegistration {
        module: "app",
        name: "list",
        place: ("src/main.rs", 7, 10),
        attributes_below: 0,
        policy: Policy::new(),
        routes: &[("GET", "/list")],
    };

    #[test]
    fn the_guards_of_a_handler_are_together_and_those_of_another_are_not() {
        let above = RouteRegistration {
            attributes_below: 2,
            policy: Policy::new().fresh(),
            ..PLAIN
        };
        let elsewhere = RouteRegistration {
            place: ("src/main.rs", 8, 10),
            ..PLAIN
        };
        let found = group(vec![&above, &elsewhere, &PLAIN]);
        let fresh = |route: &GuardedRoute| -> Vec<bool> {
            route.demands.iter().map(|demands| demands.fresh).collect()
        };
        assert_eq!(found.len(), 2);
        assert_eq!(
            (fresh(&found[0]), fresh(&found[1])),
            (vec![false, true], vec![false])
        );
        assert_eq!(found[0].patterns.len(), 1);
        // Two handlers of a macro at one place.
        let found = group(vec![&above, &above, &PLAIN, &PLAIN]);
        assert_eq!(found.len(), 2);
        assert!(found.iter().all(|route| fresh(route) == [false, true]));
    }

    #[test]
    fn each_demand_of_a_policy_is_told() {
        let policy = Policy::new()
            .scopes(ScopeExpr::All(&[
                ScopeExpr::One("a"),
                ScopeExpr::Any(&[
                    ScopeExpr::One("b:{id}"),
                    ScopeExpr::Not(&ScopeExpr::One("c")),
                ]),
            ]))
            .locations(&[
                KeyLocation::BEARER,
                KeyLocation::Header {
                    name: "authorization",
                    scheme: Some("ApiKey"),
                },
                KeyLocation::Header {
                    name: "x-api-key",
                    scheme: None,
                },
                KeyLocation::Basic,
                KeyLocation::WebSocket,
                KeyLocation::Query { name: "q" },
                KeyLocation::Cookie { name: "c" },
                KeyLocation::Json { name: "j" },
                KeyLocation::Form { name: "f" },
            ])
            .methods(&["POST"])
            .optional()
            .fresh()
            .require_https()
            .prefix("adm")
            .environment("live")
            .rate_limit(Rate::per_minute(100))
            .cost(5)
            .on_limiter_down(LimiterFallback::Local);
        let told = serde_json::to_value(RouteDemands::of(&policy)).unwrap();
        let expected = serde_json::json!({
            "scopes": "all(a, any(b:{id}, not(c)))",
            "locations": [
                "bearer", "header(\"authorization\", scheme = \"ApiKey\")", "header(\"x-api-key\")", "basic",
                "websocket", "query(\"q\")", "cookie(\"c\")", "json(\"j\")", "form(\"f\")",
            ],
            "methods": ["POST"],
            "optional": true, "fresh": true, "require_https": true,
            "prefix": "adm", "environment": "live",
            "rate_limit": "100/minute", "cost": 5, "on_limiter_down": "local",
        });
        assert_eq!(told, expected);
    }
}
