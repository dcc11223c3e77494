//! Policies: what a route demands, as data that `verify` alone evaluates, and the rules for issuing keys.

mod issue;
mod location;
mod request_facts;
mod required_scopes;
mod scopes;

use std::net::IpAddr;

pub use issue::IssuePolicy;
pub(crate) use issue::{MAX_LIVE_KEYS, check_allowed_scopes, is_later, judge_grant};
pub use location::KeyLocation;
pub use request_facts::RequestFacts;
pub(crate) use required_scopes::{GuardScopes, RequiredScopes};
pub use scopes::ScopeExpr;
pub(crate) use scopes::{FilledTemplates, PathValues, TemplateFault, only_value};

use crate::limit::Rate;
use crate::scope::Scopes;

/// Facts about a request that a key's record and a route's policy are evaluated against.
pub(crate) trait RequestInfo: PathValues {
    /// Returns the client's address; `None` if it is unknown.
    fn address(&self) -> Option<IpAddr>;
    /// Returns what failed attempts are counted against.
    ///
    /// It is the client's address. If a trusted proxy does not state a valid one, it is the proxy's:
    /// a client can bring that about, and must not escape the count by it.
    fn counted_client(&self) -> CountedClient;
    /// Returns the request's method; `None` without a request.
    fn method(&self) -> Option<&str>;
    /// Returns whether the client is known to have sent its request over TLS.
    fn is_encrypted(&self) -> bool;
    /// Writes the route's pattern, such as `/orders/{id}`, in pieces, or nothing without a request.
    /// Each call writes the same pieces, which do not contain anything that a client chose.
    fn write_route(&self, write: &mut dyn FnMut(&str));
    /// Returns the scopes that this request requires besides those of the policy.
    fn required_scopes(&self) -> Option<&Scopes> {
        None
    }
}

/// What failed attempts are counted against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CountedClient {
    Address(IpAddr),
    /// A client without a known address, as on a Unix socket. All of these are counted together.
    Unknown,
    /// The application itself, which checks a key without a request. It is not counted: otherwise
    /// the keys that one caller presents would deny those of all others.
    Application,
}

/// Returns whether `allowed` contains `method`. `GET` includes `HEAD`, which is GET without the
/// body (RFC 9110 section 9.3.2).
pub(crate) fn allows_method<'m>(
    allowed: impl IntoIterator<Item = &'m str>,
    method: Option<&str>,
) -> bool {
    let Some(method) = method else { return false };
    allowed
        .into_iter()
        .any(|one| one == method || (one == "GET" && method == "HEAD"))
}

/// The policy of a route. The attribute builds it; every method is `const`.
///
/// ```
/// use apikey_runtime::{KeyLocation, Policy, ScopeExpr};
///
/// const ORDERS: Policy = Policy::new()
///     .locations(&[KeyLocation::Header { name: "x-api-key", scheme: None }])
///     .scopes(ScopeExpr::One("orders:read"));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    pub(crate) locations: Option<&'static [KeyLocation<'static>]>,
    pub(crate) scopes: Option<ScopeExpr>,
    /// Whether these contain a template.
    pub(crate) has_template: bool,
    pub(crate) prefix: Option<&'static str>,
    pub(crate) environment: Option<&'static str>,
    pub(crate) methods: Option<&'static [&'static str]>,
    pub(crate) optional: bool,
    pub(crate) fresh: bool,
    pub(crate) require_https: bool,
    pub(crate) name: Option<&'static str>,
    pub(crate) rate: Option<Rate>,
    pub(crate) cost: u32,
    pub(crate) limiter_down: LimiterFallback,
}

/// The action when limits cannot be counted because the store is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum LimiterFallback {
    /// Denies the request with 503.
    #[default]
    Deny,
    /// Counts in this process meanwhile, from zero. Each process then allows as much as the limits
    /// allow to all processes together.
    Local,
}

/// The maximum cost of a request.
const LARGEST_COST: u32 = 1_000_000;

impl Policy {
    /// Creates the default policy: any active key with an accepted prefix, at the configured
    /// location.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            locations: None,
            scopes: None,
            has_template: false,
            prefix: None,
            environment: None,
            methods: None,
            optional: false,
            fresh: false,
            require_https: false,
            name: None,
            rate: None,
            cost: 1,
            limiter_down: LimiterFallback::Deny,
        }
    }

    /// Requires the key to have these scopes.
    ///
    /// # Panics
    ///
    /// Panics if a scope is malformed, or if `All` or `Any` is empty. In a `const`, this is a
    /// compile error.
    #[must_use]
    pub const fn scopes(mut self, scopes: ScopeExpr) -> Self {
        scopes.check();
        self.has_template = scopes.has_template();
        self.scopes = Some(scopes);
        self
    }

    /// Sets the locations of the key, in place of the configured one.
    ///
    /// # Panics
    ///
    /// Panics if the list is empty, or if a location has a name that a request cannot have, such as
    /// a header name in capital letters.
    #[must_use]
    pub const fn locations(mut self, locations: &'static [KeyLocation<'static>]) -> Self {
        assert!(
            !locations.is_empty(),
            "`locations` is empty; write at least one"
        );
        let mut at = 0;
        while at < locations.len() {
            locations[at].check();
            at += 1;
        }
        self.locations = Some(locations);
        self
    }

    /// Allows requests without a key as anonymous; a request with an invalid key is still denied.
    #[must_use]
    pub const fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    /// Reads the store for each request, in place of the cache.
    #[must_use]
    pub const fn fresh(mut self) -> Self {
        self.fresh = true;
        self
    }

    /// Requires this prefix.
    #[must_use]
    pub const fn prefix(mut self, prefix: &'static str) -> Self {
        self.prefix = Some(prefix);
        self
    }

    /// Restricts keys to these methods, in capital letters; `GET` includes `HEAD`.
    ///
    /// # Panics
    ///
    /// Panics if the list is empty.
    #[must_use]
    pub const fn methods(mut self, methods: &'static [&'static str]) -> Self {
        assert!(
            !methods.is_empty(),
            "`methods` is empty; write at least one"
        );
        self.methods = Some(methods);
        self
    }

    /// Requires TLS: of the socket itself, or of a configured trusted proxy that states it. A key
    /// in clear text is denied.
    #[must_use]
    pub const fn require_https(mut self) -> Self {
        self.require_https = true;
        self
    }

    /// Sets the route's name, under which its rate is counted and which clients see. The attribute
    /// writes the handler's path. By default, the route's pattern.
    #[must_use]
    pub const fn name(mut self, name: &'static str) -> Self {
        self.name = Some(name);
        self
    }

    /// Limits how fast each key may use the route. By default, a route does not have a rate.
    ///
    /// In a middleware, each route inside has this rate separately; with a [`name`](Self::name),
    /// all of them share it. The route is that of the path as it reaches the middleware: a path that
    /// `NormalizePath` inside the middleware changes is counted under `/*`, or under the route that it matches before.
    /// Wrap `NormalizePath` around the middleware instead.
    ///
    /// # Panics
    ///
    /// Panics if [`cost`](Self::cost) exceeds the burst of the rate. In a `const`, this is a
    /// compile error.
    ///
    /// # Examples
    ///
    /// ```
    /// use apikey_runtime::{Policy, Rate};
    ///
    /// const SEARCH: Policy = Policy::new().rate_limit(Rate::per_minute(100).with_burst(20)).cost(5);
    /// ```
    #[must_use]
    pub const fn rate_limit(mut self, rate: Rate) -> Self {
        self.rate = Some(rate);
        self.check_cost();
        self
    }

    /// Sets how many units of each limit, the key's and the route's, a request costs: 0 to
    /// 1,000,000. By default, 1.
    ///
    /// A key whose burst or quota is smaller than the cost can never use the route. For a key without limits of its
    /// own, this is the burst of `default_rate_limit`.
    ///
    /// # Panics
    ///
    /// Panics if the cost exceeds 1,000,000, or the burst of the route's rate. In a `const`, this
    /// is a compile error.
    #[must_use]
    pub const fn cost(mut self, cost: u32) -> Self {
        assert!(
            cost <= LARGEST_COST,
            "the cost of a request is 0 to 1,000,000"
        );
        self.cost = cost;
        self.check_cost();
        self
    }

    const fn check_cost(&self) {
        if let Some(rate) = self.rate {
            assert!(
                self.cost <= rate.burst(),
                "a request costs more than the burst of the route's rate, and so is always denied; write a larger burst, or a smaller cost"
            );
        }
    }

    /// Sets what happens to a request whose limits cannot be counted. By default, it is denied.
    ///
    /// In either case it first waits for the store, for up to
    /// [`store_timeout`](crate::Config::store_timeout).
    #[must_use]
    pub const fn on_limiter_down(mut self, down: LimiterFallback) -> Self {
        self.limiter_down = down;
        self
    }

    /// Requires this environment.
    #[must_use]
    pub const fn environment(mut self, environment: &'static str) -> Self {
        self.environment = Some(environment);
        self
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::new()
    }
}
