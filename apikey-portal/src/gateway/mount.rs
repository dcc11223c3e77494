//! The gateway endpoints' settings, and the service that an application mounts.

use std::sync::Once;

use actix_web::dev::HttpServiceFactory;
use actix_web::{HttpRequest, HttpResponse, web};
use apikey_runtime::ApiKeyManager;

use super::demands_cache::DemandsCache;
use super::fault_log::FaultLog;
use super::rule::GatewayRule;
use super::state::{GatewayState, NamedRule};
use super::{answer, introspect, revoke, verify};
use crate::public_url::{PortalLocation, plain_scope};

/// The longest name of a rule, in bytes.
const MAX_NAME: usize = 64;

/// Endpoints by which gateways, such as nginx and Envoy, ask whether the key of a request is accepted, to be mounted in an
/// application.
///
/// | path | for |
/// |---|---|
/// | `/verify` | gateways that call a fixed URI: nginx, Traefik, Caddy, APISIX |
/// | `/verify-rule/{name}` and paths below it | gateways that add the client's path and query: Envoy |
/// | `/introspect` | token introspection (RFC 7662), for callers with the scope `apikeys:introspect` |
/// | `/revoke` | token revocation (RFC 7009), by holders of keys |
///
/// [`guide::gateways`](crate::guide::gateways) has a sample configuration for each, and the last two in detail.
///
/// Each check is that of a guarded route, and counts with those of routes: limits, failed attempts and usage. It is
/// made with the facts of the **original** request: its method, the client's address, and the use of TLS. They are read from
/// `X-Forwarded-Method` or `X-Original-Method`, and from the header that the manager's configuration names, and only if
/// the gateway is one of its [trusted proxies](apikey_runtime::guide::proxies). Without a fact, keys and rules that depend on it
/// are denied.
///
/// The answer is 200 with the headers `X-Apikey-Id`, `X-Apikey-Owner` (percent-encoded; empty without an owner),
/// `X-Apikey-Scopes` (separated by spaces) and those of limits, or the default answer of a guarded route to the denial.
///
/// `/verify` reads its demands from the query, which the gateway's configuration has to write:
///
/// | parameter | demands |
/// |---|---|
/// | `scope` | all of these scopes, separated by spaces |
/// | `cost` | the cost of the request, 0 to 1,000,000; by default 1 |
/// | `for=nginx` | an answer that nginx passes on: 400, 408, 413 and 415 become 401, and 429 becomes 403; `X-Apikey-Status` has the real status |
///
/// Another parameter, a repeated one or a bad value is 500: otherwise, a client whose query a gateway passes on could set its
/// own cost. The log has a line of each kind, at most once a minute from each worker. `/verify-rule` ignores the query for this
/// reason; its demands are those of [`rule`](Self::rule).
///
/// ```
/// use actix_web::{App, test};
/// use apikey_portal::Gateway;
/// use apikey_runtime::{ApiKeyManager, Config, MemoryStore, Policy, ScopeExpr};
///
/// const ORDERS: Policy = Policy::new().scopes(ScopeExpr::One("orders:read"));
///
/// # actix_web::rt::System::new().block_on(async {
/// // The gateways, and the header in which they name their clients.
/// let config = Config::builder().trusted_proxies(["127.0.0.1"]).forwarded_header("X-Forwarded-For").build()?;
/// let manager = ApiKeyManager::builder().config(config).store(MemoryStore::new()).start().await?;
/// let key = manager.create("ci").scopes(["orders:read"]).await?;
///
/// let gateway = Gateway::new(manager.clone()).rule("orders", ORDERS).mount("/gateway");
/// let app = test::init_service(App::new().service(gateway)).await;
/// let request = test::TestRequest::get()
///     .uri("/gateway/verify-rule/orders/any/path?of=the&client")
///     .insert_header(("Authorization", format!("Bearer {}", key.expose_secret())))
///     .to_request();
/// let response = test::call_service(&app, request).await;
/// assert_eq!(response.status(), 200);
/// assert_eq!(response.headers().get("x-apikey-id").unwrap(), key.id().as_str());
/// # Ok::<(), apikey_runtime::Error>(())
/// # }).unwrap();
/// ```
#[must_use = "the endpoints are served by the application that they are mounted in"]
pub struct Gateway {
    manager: ApiKeyManager,
    rules: Vec<(String, GatewayRule)>,
}

impl Gateway {
    /// Creates endpoints for the keys of a manager.
    pub fn new(manager: ApiKeyManager) -> Self {
        Self {
            manager,
            rules: Vec::new(),
        }
    }

    /// Adds a rule, which `/verify-rule/{name}` demands. The name is 1 to 64 letters, digits, `.`, `_` or `-`.
    ///
    /// If the policy has a rate, it is counted by the policy's name, else by the mount path and the name of the rule.
    pub fn rule(mut self, name: impl Into<String>, rule: impl Into<GatewayRule>) -> Self {
        self.rules.push((name.into(), rule.into()));
        self
    }

    /// Returns the service of the endpoints at a path, such as `/gateway`, which may not have patterns.
    ///
    /// Only gateways should reach it: a caller can try keys there, as at each guarded route.
    ///
    /// If a setting is wrong, the service logs what to write, and answers each request with 500.
    pub fn mount(self, path: &str) -> impl HttpServiceFactory + use<> {
        let fault = self.fault(path);
        if let Some(fault) = &fault {
            tracing::error!("the gateway endpoints are misconfigured: {fault}");
        }
        let manager = self.manager.clone();
        let state = web::Data::new(self.state(path));
        let is_faulty = fault.is_some();
        web::scope(&plain_scope(path))
            // So that addresses are told as this manager's configuration says.
            .configure(move |app| manager.init_app(app))
            .app_data(state)
            .configure(move |app| {
                if !is_faulty {
                    verify::routes(app);
                    introspect::routes(app);
                    revoke::routes(app);
                }
            })
            .default_service(web::to(move |request: HttpRequest| {
                let response = match is_faulty {
                    true => answer::misconfigured(&request),
                    false => HttpResponse::NotFound().finish(),
                };
                async move { response }
            }))
    }

    /// Returns what is wrong with the settings.
    fn fault(&self, path: &str) -> Option<String> {
        if let Err(fault) = PortalLocation::new(path, None) {
            return Some(fault);
        }
        let names = self.rules.iter().map(|(name, _)| name.as_str());
        for (at, name) in names.clone().enumerate() {
            if !is_name(name) {
                return Some(format!(
                    "`{}` is not a name of a rule; write 1 to {MAX_NAME} letters, digits, `.`, `_` or `-`",
                    name.escape_debug()
                ));
            }
            if names.clone().take(at).any(|earlier| earlier == name) {
                return Some(format!(
                    "two rules have the name `{name}`; give each its own"
                ));
            }
        }
        None
    }

    fn state(self, path: &str) -> GatewayState {
        let mount = path.trim_end_matches('/');
        let rules = self.rules.into_iter().map(|(name, rule)| NamedRule {
            label: format!("{mount}/verify-rule/{name}"),
            name,
            rule,
        });
        GatewayState {
            verify_label: format!("{mount}/verify"),
            demands: DemandsCache::default(),
            rules: rules.collect(),
            manager: self.manager,
            faults: FaultLog::default(),
            unknown_clients: Once::new(),
        }
    }
}

/// Returns whether a text is one part of a path, as it is written and decoded.
fn is_name(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let length = text.len();
    (1..=MAX_NAME).contains(&length) && text.bytes().all(is_plain) && text != "." && text != ".."
}
