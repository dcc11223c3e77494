//! What a route demands: data only. Judged in `verify`, and there alone.

mod location;
mod scopes;

use std::net::IpAddr;

pub use location::KeyLocation;
pub use scopes::ScopeExpr;
pub(crate) use scopes::{PathValues, TemplateFault};

use crate::limit::Rate;

/// Who calls, and how: what a key's limits and a route's demands are judged by, beside the key.
pub(crate) trait RequestInfo: PathValues {
    /// The client's address; `None` where it is not known.
    fn address(&self) -> Option<IpAddr>;
    /// The address that failed attempts are counted by: the client's, or, where a proxy that is
    /// believed states none that can be read, that of the proxy. A client can bring that about, and is
    /// not to escape by it.
    fn counted_address(&self) -> Option<IpAddr>;
    /// The request's method; `None` where there is no request.
    fn method(&self) -> Option<&str>;
    /// Whether the client sent its request over TLS, as far as that is known for sure.
    fn is_encrypted(&self) -> bool;
    /// Writes the route's pattern, such as `/orders/{id}`, piece by piece; nothing where there is no
    /// request. Each time the same pieces, and nothing that a client chose.
    fn write_route(&self, write: &mut dyn FnMut(&str));
}

/// Whether `method` is among `allowed`. HEAD is GET without the body (RFC 9110 section 9.3.2).
pub(crate) fn allows_method<'m>(
    allowed: impl IntoIterator<Item = &'m str>,
    method: Option<&str>,
) -> bool {
    let Some(method) = method else { return false };
    allowed
        .into_iter()
        .any(|one| one == method || (one == "GET" && method == "HEAD"))
}

/// The demands of one route. Built by the attribute; every method is `const`.
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

/// What a route does whose limits cannot be counted, since the store is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum LimiterFallback {
    /// Refuses the request with 503.
    #[default]
    Deny,
    /// Counts in this process for as long, from nothing on: each process then lets as much through
    /// as the limits allow to all.
    Local,
}

/// The largest cost of a request.
const LARGEST_COST: u32 = 1_000_000;

impl Policy {
    /// The manager's defaults: any live key of its own, where its configuration says.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            locations: None,
            scopes: None,
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

    /// The key must hold these scopes.
    ///
    /// # Panics
    ///
    /// Where a scope breaks the grammar, or `All` or `Any` is empty. In a `const` that is an error
    /// of the compiler.
    #[must_use]
    pub const fn scopes(mut self, scopes: ScopeExpr) -> Self {
        scopes.check();
        self.scopes = Some(scopes);
        self
    }

    /// The key is looked for here, instead of where the configuration says.
    ///
    /// # Panics
    ///
    /// Where there is none, or one has a name that no request could have, such as a header's in
    /// capital letters.
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

    /// A request without a key is let through as anonymous; one with a bad key is refused.
    #[must_use]
    pub const fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    /// The store is asked for each request, not the cache.
    #[must_use]
    pub const fn fresh(mut self) -> Self {
        self.fresh = true;
        self
    }

    /// Only keys with this prefix.
    #[must_use]
    pub const fn prefix(mut self, prefix: &'static str) -> Self {
        self.prefix = Some(prefix);
        self
    }

    /// A key is good for these methods only, in capital letters; `GET` includes `HEAD`.
    ///
    /// # Panics
    ///
    /// Where there is none.
    #[must_use]
    pub const fn methods(mut self, methods: &'static [&'static str]) -> Self {
        assert!(
            !methods.is_empty(),
            "`methods` is empty; write at least one"
        );
        self.methods = Some(methods);
        self
    }

    /// A key that came in clear text is refused: neither over the socket's own TLS, nor, as a
    /// configured trusted proxy states, over a proxy's.
    #[must_use]
    pub const fn require_https(mut self) -> Self {
        self.require_https = true;
        self
    }

    /// The route's name: under it its rate is counted, and told to clients. The attribute writes the
    /// handler's path. By default, the route's pattern.
    #[must_use]
    pub const fn name(mut self, name: &'static str) -> Self {
        self.name = Some(name);
        self
    }

    /// No key may use the route faster than this. By default, a route has no rate of its own. In a
    /// middleware each route inside has this rate by itself; with a [`name`](Self::name), all of them
    /// together.
    ///
    /// # Panics
    ///
    /// Where [`cost`](Self::cost) is more than its burst. In a `const` that is an error of the
    /// compiler.
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

    /// How many units of each limit, the key's and the route's, one request takes: 0 to 1,000,000. By
    /// default, 1. A request that costs more than a key's burst, or than its quota, never passes for
    /// that key.
    ///
    /// # Panics
    ///
    /// Where it is more, or more than the burst of the route's rate. In a `const` that is an error of
    /// the compiler.
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
                "a request costs more than the burst of the route's rate, so that none would pass; write a larger burst, or a smaller cost"
            );
        }
    }

    /// What becomes of a request whose limits cannot be counted. By default, it is refused. Either way
    /// the store is waited for first, for as long as [`store_timeout`](crate::Config::store_timeout).
    #[must_use]
    pub const fn on_limiter_down(mut self, down: LimiterFallback) -> Self {
        self.limiter_down = down;
        self
    }

    /// Only keys of this environment.
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
