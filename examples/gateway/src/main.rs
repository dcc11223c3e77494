//! Verifies API keys for services in any language, behind nginx, Caddy, Traefik, Envoy or APISIX.
//!
//! ```sh
//! cargo run -p gateway                 # creates a key at the first start, prints it, and serves
//! cargo run -p gateway -- nginx        # prints the configuration of nginx
//! cargo run -p gateway -- new-key NAME # creates another key and prints it
//! ```
//!
//! Behind nginx, paste the printed configuration into `/etc/nginx/conf.d/apikey.conf`, start any service on port 9000, and
//! send requests to nginx:
//!
//! ```sh
//! mkdir -p api && python3 -m http.server 9000 --bind 127.0.0.1 &
//! nginx -s reload
//! curl -H "Authorization: Bearer $KEY" http://127.0.0.1:8000/api/
//! ```
//!
//! Without nginx, ask as Envoy does, by the rule `orders`. A key or a rule with methods or networks needs what only a gateway
//! states:
//!
//! ```sh
//! curl -i -H "Authorization: Bearer $KEY" -H "X-Forwarded-For: 192.0.2.7" http://127.0.0.1:8080/gateway/verify-rule/orders/any/path
//! ```
//!
//! Optional variables: `PORT` (8080 by default, 0 for a free port), `APIKEYS_DB` (`apikeys.db` by default), and
//! `ACTIX_API_KEY_TRUSTED_PROXIES`, the addresses of the gateways (127.0.0.1 by default).

#![forbid(unsafe_code)]

use std::error::Error;
use std::net::SocketAddr;

use actix_web::{App, HttpServer};
use apikey_portal::{Gateway, GatewayRule};
use apikey_runtime::{ApiKeyManager, Config, Policy, ScopeExpr, SqliteStore};

/// The sample of the portal's docs.
const NGINX: &str = include_str!("../nginx.conf");

/// The application in the sample.
const SAMPLE_ADDRESS: &str = "127.0.0.1:8080";

/// What the rule `orders` demands.
const ORDERS: Policy = Policy::new().scopes(ScopeExpr::One("orders:read"));

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let path = std::env::var("APIKEYS_DB").unwrap_or_else(|_| "apikeys.db".to_owned());
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => serve(start(&path).await?).await,
        ["nginx"] => {
            print!("{NGINX}");
            Ok(())
        }
        ["new-key", name] => {
            let manager = start(&path).await?;
            create(&manager, name).await?;
            Ok(manager.shutdown().await?)
        }
        _ => Err("usage: gateway [nginx | new-key NAME]".into()),
    }
}

async fn start(path: &str) -> Result<ApiKeyManager, Box<dyn Error>> {
    // The gateways, and the header in which they state their clients.
    let config = Config::builder()
        .trusted_proxies(["127.0.0.1"])
        .forwarded_header("X-Forwarded-For")
        .with_env()?
        .build()?;
    let manager = ApiKeyManager::builder()
        .config(config)
        .store(SqliteStore::new(path));
    Ok(manager.start().await?)
}

async fn serve(manager: ApiKeyManager) -> Result<(), Box<dyn Error>> {
    let own = manager.clone();
    let server = HttpServer::new(move || {
        // Envoy calls with the method of the original request.
        let orders = GatewayRule::new(ORDERS).own_method();
        let gateway = Gateway::new(own.clone()).rule("orders", orders);
        App::new().service(gateway.mount("/gateway"))
    })
    .bind(("127.0.0.1", port()?))?;
    let address = server.addrs().first().copied();
    let address = address.ok_or("no address was bound")?;
    greet(&manager, address).await?;
    println!("listening on http://{address}");
    server.run().await?;
    manager.shutdown().await?;
    Ok(())
}

/// Creates and prints a key at the first start, and the configuration of nginx for this address.
async fn greet(manager: &ApiKeyManager, address: SocketAddr) -> Result<(), Box<dyn Error>> {
    let first = manager.list().label("MY_FIRST_KEY").page_size(1).await?;
    if first.keys.is_empty() {
        println!("Created the key MY_FIRST_KEY. It is shown only once:");
        create(manager, "MY_FIRST_KEY").await?;
    } else {
        println!("The key MY_FIRST_KEY exists; its secret cannot be shown again.");
        println!("Create another key: cargo run -p gateway -- new-key NAME");
    }
    println!("Write this to /etc/nginx/conf.d/apikey.conf:");
    println!();
    println!("{}", NGINX.replace(SAMPLE_ADDRESS, &address.to_string()));
    Ok(())
}

async fn create(manager: &ApiKeyManager, name: &str) -> Result<(), Box<dyn Error>> {
    let key = manager.create(name).scopes(["orders:read"]).await?;
    println!("key: {}", key.expose_secret());
    Ok(())
}

fn port() -> Result<u16, Box<dyn Error>> {
    match std::env::var("PORT") {
        Ok(port) => port
            .parse()
            .map_err(|_| format!("PORT is `{port}`; write a number from 0 to 65535").into()),
        Err(_) => Ok(8080),
    }
}
