//! An application with gateway endpoints, and what gateways send to it.

use apikey_portal::{Gateway, GatewayRule};
use apikey_runtime::config::ConfigBuilder;
use apikey_runtime::{ApiKeyManager, Config, MemoryStore, Policy, Rate, ScopeExpr};
use apikey_test_support::http::{Answer, Server};

pub const ORDERS: Policy = Policy::new().scopes(ScopeExpr::One("orders:read"));
pub const SECURE: Policy = Policy::new().require_https();
pub const POSTING: Policy = Policy::new().methods(&["POST"]);
pub const RATED: Policy = Policy::new().rate_limit(Rate::per_hour(2).with_burst(2));

/// A rule for a service that has nothing else to demand.
pub const ANY: Policy = Policy::new();

/// The address of a client.
pub const CLIENT: &str = "192.0.2.7";

/// Starts a manager that trusts gateways on this machine.
pub async fn manager() -> ApiKeyManager {
    manager_with(trusting("X-Forwarded-For")).await
}

/// Returns settings that trust gateways on this machine, and this header.
pub fn trusting(header: &str) -> ConfigBuilder {
    Config::builder()
        .trusted_proxies(["127.0.0.0/8"])
        .forwarded_header(header)
}

pub async fn manager_with(config: ConfigBuilder) -> ApiKeyManager {
    let builder = ApiKeyManager::builder().config(config.build().unwrap());
    builder.store(MemoryStore::new()).start().await.unwrap()
}

/// Returns endpoints with the rules of the tests.
pub fn gateway(manager: &ApiKeyManager) -> Gateway {
    Gateway::new(manager.clone())
        .rule("any", ANY)
        .rule("orders", ORDERS)
        .rule("secure", SECURE)
        .rule("posting", POSTING)
        .rule("rated", RATED)
        .rule("envoy", GatewayRule::new(ANY).own_method())
}

/// Serves the endpoints at `/gateway`, at a socket of its own.
pub fn serve(manager: &ApiKeyManager) -> Server {
    let manager = manager.clone();
    Server::start(move |app| {
        app.service(gateway(&manager).mount("/gateway"));
    })
}

/// A request as a gateway sends it.
#[derive(Debug, Clone)]
pub struct Call {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
}

impl Call {
    /// A call of `/gateway{path}`, for a GET of [`CLIENT`] over TLS.
    pub fn to(path: &str) -> Self {
        Self::to_route(&format!("/gateway{path}"))
    }

    /// A request to another path of the application, through the same proxy.
    pub fn to_route(path: &str) -> Self {
        let call = Self {
            method: "GET".to_owned(),
            path: path.to_owned(),
            headers: Vec::new(),
        };
        let call = call.with("X-Forwarded-For", CLIENT);
        call.with("X-Forwarded-Proto", "https")
            .with("X-Forwarded-Method", "GET")
    }

    pub fn key(self, key: &str) -> Self {
        self.with("Authorization", &format!("Bearer {key}"))
    }

    /// Adds a header.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Leaves a header out.
    pub fn without(mut self, name: &str) -> Self {
        self.headers
            .retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self
    }

    /// Replaces a header.
    pub fn set(self, name: &str, value: &str) -> Self {
        self.without(name).with(name, value)
    }

    /// Sets the method of the call itself.
    pub fn calling(mut self, method: &str) -> Self {
        method.clone_into(&mut self.method);
        self
    }

    /// Returns the bytes of the call.
    pub fn head(&self) -> String {
        let mut head = format!("{} {} HTTP/1.1\r\nHost: a\r\n", self.method, self.path);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head + "Content-Length: 0\r\n\r\n"
    }

    pub async fn send(&self, server: &Server) -> Answer {
        server.send(self.head()).await
    }
}
