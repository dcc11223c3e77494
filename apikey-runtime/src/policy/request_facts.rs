//! Facts about a request that reached another program.

use std::borrow::Cow;
use std::net::IpAddr;

use super::{CountedClient, PathValues, RequestInfo, TemplateFault, only_value};
use crate::scope::Scopes;

/// Facts about a request, for a check by a caller that is not a route; see
/// [`ApiKeyManager::check`](crate::ApiKeyManager::check).
///
/// Without a fact, each key and each rule that depends on it is denied. The caller vouches for the
/// facts: it takes the address and the use of TLS from the connection, or from a proxy that it trusts.
///
/// ```
/// use apikey_runtime::manager::RequestFacts;
///
/// let facts = RequestFacts::new()
///     .with_address("192.0.2.7".parse()?)
///     .with_method("GET")
///     .with_https(true)
///     .with_route("/orders/{id}");
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct RequestFacts<'a> {
    address: Option<IpAddr>,
    /// What failed attempts are counted against if the address is unknown.
    counted: Option<IpAddr>,
    method: Option<&'a str>,
    https: bool,
    route: Option<&'a str>,
    path_values: &'a [(&'a str, &'a str)],
    required_scopes: Option<&'a Scopes>,
}

impl<'a> RequestFacts<'a> {
    /// Creates facts of which all are unknown.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            address: None,
            counted: None,
            method: None,
            https: false,
            route: None,
            path_values: &[],
            required_scopes: None,
        }
    }

    /// Sets the client's address. By default, it is unknown: keys that are restricted to networks are
    /// denied, and failed attempts are counted together with those of all clients without an address.
    #[must_use]
    pub const fn with_address(mut self, address: IpAddr) -> Self {
        self.address = Some(address.to_canonical());
        self
    }

    /// Sets the request's method, in its own case, such as `GET`. By default, it is unknown: keys and
    /// policies that are restricted to methods are denied.
    #[must_use]
    pub const fn with_method(mut self, method: &'a str) -> Self {
        self.method = Some(method);
        self
    }

    /// Sets whether the client sent its request over TLS. By default, `false`: policies that require
    /// it are denied.
    #[must_use]
    pub const fn with_https(mut self, https: bool) -> Self {
        self.https = https;
        self
    }

    /// Sets the route's pattern, such as `/orders/{id}`, by which usage and the route's rate are
    /// counted. By default, it is unknown: usage is counted as that of checks without a route, and a
    /// policy with a rate and without a [name](crate::Policy::name) is denied. An empty pattern is
    /// unknown too.
    ///
    /// The pattern must not contain anything that a client chose, such as the value of a parameter: at
    /// most 1,000 patterns are counted separately. The first 200 bytes count, without control
    /// characters.
    #[must_use]
    pub const fn with_route(mut self, pattern: &'a str) -> Self {
        self.route = if pattern.is_empty() {
            None
        } else {
            Some(pattern)
        };
        self
    }

    /// Sets the decoded values of the path's parameters, with their names, for scopes with templates.
    /// By default, they are unknown: a policy whose template names one is denied. So is one whose template names
    /// a parameter that is given twice.
    #[must_use]
    pub const fn with_path_values(mut self, values: &'a [(&'a str, &'a str)]) -> Self {
        self.path_values = values;
        self
    }

    /// Requires the key to have all of these scopes, besides those of the policy. By default, none: it is
    /// for demands that are not known before the program runs, such as those in a gateway's configuration.
    ///
    /// ```
    /// # use apikey_runtime::{ApiKeyManager, DenyReason, MemoryStore};
    /// use apikey_runtime::manager::RequestFacts;
    /// use apikey_runtime::{Policy, Scopes};
    ///
    /// # actix_web::rt::System::new().block_on(async {
    /// # let manager = ApiKeyManager::builder().store(MemoryStore::new()).start().await?;
    /// let key = manager.create("ci").scopes(["orders:read"]).await?;
    /// let demanded = Scopes::from_text("orders:read orders:write")?;
    /// let facts = RequestFacts::new().with_required_scopes(&demanded);
    /// let denied = manager.check(key.expose_secret(), &Policy::new(), &facts).await.unwrap_err();
    /// assert_eq!(denied.reason(), DenyReason::InsufficientScope);
    /// assert_eq!(denied.required_scopes(), ["orders:read", "orders:write"]);
    /// # Ok::<(), apikey_runtime::Error>(())
    /// # }).unwrap();
    /// ```
    #[must_use]
    pub const fn with_required_scopes(mut self, scopes: &'a Scopes) -> Self {
        self.required_scopes = Some(scopes);
        self
    }

    /// Returns the client's address; `None` if it is unknown.
    #[must_use]
    pub const fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// Counts failed attempts against this address if the client's is unknown.
    pub(crate) const fn counted_against(mut self, neighbour: Option<IpAddr>) -> Self {
        self.counted = neighbour;
        self
    }

    /// Returns whether a rate can be counted by the route.
    pub(crate) const fn has_route(&self) -> bool {
        self.route.is_some()
    }
}

impl PathValues for RequestFacts<'_> {
    fn value(&self, name: &'static str) -> Result<Cow<'_, str>, TemplateFault> {
        only_value(name, self.path_values.iter().copied()).map(Cow::Borrowed)
    }
}

impl RequestInfo for RequestFacts<'_> {
    fn address(&self) -> Option<IpAddr> {
        self.address
    }

    fn counted_client(&self) -> CountedClient {
        let address = self.address.or(self.counted);
        address.map_or(CountedClient::Unknown, CountedClient::Address)
    }

    fn method(&self) -> Option<&str> {
        self.method
    }

    fn is_encrypted(&self) -> bool {
        self.https
    }

    fn write_route(&self, write: &mut dyn FnMut(&str)) {
        if let Some(pattern) = self.route {
            write(pattern);
        }
    }

    fn required_scopes(&self) -> Option<&Scopes> {
        self.required_scopes.filter(|scopes| !scopes.is_empty())
    }
}
