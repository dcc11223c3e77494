//! An application, a service in Python, and nginx or Caddy between the clients and the service, by the sample
//! configurations of the docs.

use std::sync::Arc;

use apikey_portal::Gateway;
use apikey_runtime::config::ConfigBuilder;
use apikey_runtime::{ApiKeyManager, Config, KeyStore, MemoryStore};
use apikey_test_support::http::{Answer, Client, Server};
use apikey_test_support::servers::reverse_proxy::{EchoService, ProxyKind, ReverseProxy};
use serde_json::Value;

const NGINX: &str = include_str!("../../apikey-portal/docs/gateways/nginx.conf");
const CADDY: &str = include_str!("../../apikey-portal/docs/gateways/Caddyfile");

/// The clients. Only 127.0.0.1 is trusted, from which the gateways connect.
pub const ALICE: &str = "127.0.0.2";
pub const MALLORY: &str = "127.0.0.3";

/// A gateway, what is behind it, and the application that it asks.
pub struct Site {
    pub kind: ProxyKind,
    pub manager: ApiKeyManager,
    /// `None` once it was stopped.
    pub application: Option<Server>,
    proxy: ReverseProxy,
    service: EchoService,
}

/// How a test departs from the defaults.
pub struct Setup {
    pub config: ConfigBuilder,
    pub store: Arc<dyn KeyStore>,
}

impl Default for Setup {
    fn default() -> Self {
        let config = Config::builder().trusted_proxies(["127.0.0.1"]);
        Self {
            config: config.forwarded_header("X-Forwarded-For"),
            store: Arc::new(MemoryStore::new()),
        }
    }
}

impl Site {
    /// Starts a site behind each kind of gateway that is installed.
    pub async fn every(test: &str) -> Vec<Self> {
        let mut sites = Vec::new();
        for kind in [ProxyKind::Nginx, ProxyKind::Caddy] {
            sites.extend(Self::start(kind, test, Setup::default(), &[]).await);
        }
        sites
    }

    /// Starts a site. Each pair of `changes` replaces a text of the sample configuration.
    pub async fn start(
        kind: ProxyKind,
        test: &str,
        setup: Setup,
        changes: &[(&str, &str)],
    ) -> Option<Self> {
        let manager = ApiKeyManager::builder()
            .config(setup.config.build().unwrap())
            .shared_store(setup.store)
            .start()
            .await
            .unwrap();
        let own = manager.clone();
        let application = Server::start(move |app| {
            app.service(Gateway::new(own.clone()).mount("/gateway"));
        });
        let service = EchoService::start(test)?;
        let mut sample = match kind {
            ProxyKind::Nginx => NGINX.to_owned(),
            ProxyKind::Caddy => CADDY.to_owned(),
        };
        let addresses = [application.address, service.address].map(|address| address.to_string());
        let addressed = [
            ("127.0.0.1:8080", addresses[0].as_str()),
            ("127.0.0.1:9000", addresses[1].as_str()),
        ];
        for (from, to) in addressed.iter().chain(changes) {
            assert!(sample.contains(from), "{from}: {sample}");
            sample = sample.replace(from, to);
        }
        let proxy = ReverseProxy::start(kind, test, &sample)?;
        Some(Self {
            kind,
            manager,
            application: Some(application),
            proxy,
            service,
        })
    }

    /// Sends a request through the gateway, from this address, with a key.
    pub async fn send(&self, from: &str, request: &Request<'_>) -> Answer {
        let mut client = Client::connect_from(from.parse().unwrap(), self.proxy.address).await;
        client.send(request.bytes()).await;
        match request.method {
            "HEAD" => client.head_only().await,
            _ => client.answer().await,
        }
    }

    /// Sends a `GET` of a path through the gateway.
    pub async fn get(&self, from: &str, path: &str, key: &str) -> Answer {
        self.send(from, &Request::new("GET", path).key(key)).await
    }

    /// Returns how many requests reached the service.
    pub async fn served(&self) -> u64 {
        let mut client = Client::connect(self.service.address).await;
        let answer = client.get("/count", &[]).await;
        got(&answer)["count"].as_u64().unwrap()
    }
}

/// A client's request.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    method: &'a str,
    path: &'a str,
    headers: Vec<(String, String)>,
    body: &'a str,
}

impl<'a> Request<'a> {
    pub fn new(method: &'a str, path: &'a str) -> Self {
        Self {
            method,
            path,
            headers: Vec::new(),
            body: "",
        }
    }

    pub fn key(self, key: &str) -> Self {
        self.header("Authorization", &format!("Bearer {key}"))
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn body(mut self, body: &'a str) -> Self {
        self.body = body;
        self
    }

    fn bytes(&self) -> String {
        let mut head = format!(
            "{} {} HTTP/1.1\r\nHost: 127.0.0.1\r\n",
            self.method, self.path
        );
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head + &format!("Content-Length: {}\r\n\r\n{}", self.body.len(), self.body)
    }
}

/// Returns what the service got.
#[track_caller]
pub fn got(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{answer:?}");
    serde_json::from_slice(&answer.body).unwrap()
}

/// Returns the values of a header that the service got.
#[track_caller]
pub fn header(answer: &Answer, name: &str) -> Vec<String> {
    let got = got(answer);
    let headers = got["headers"].as_array().unwrap().iter();
    let values = headers.filter(|header| header[0] == name);
    values
        .map(|header| header[1].as_str().unwrap().to_owned())
        .collect()
}
