//! The manager is made outside, and the app inside a factory: two apps, two managers, one process.
//!
//! ```text
//! cargo run --example app_factory     # PORT (8080) and the one after it
//! ```
//!
//! Each app knows its own keys only: the key of `shop` is an unknown one to `bank`.

use std::error::Error;

use actix_web::{App, HttpServer, Responder, get, web};
use apikey_runtime::{ApiKey, ApiKeyManager, Config, MemoryStore, api_key_required};

#[get("/whoami")]
#[api_key_required]
async fn whoami(key: ApiKey) -> impl Responder {
    key.label().to_owned()
}

/// Routes that issue keys take the manager like any other data.
#[get("/keys")]
#[api_key_required(scope = "keys:list")]
async fn keys(manager: web::Data<ApiKeyManager>) -> actix_web::Result<impl Responder> {
    let page = manager
        .list()
        .await
        .map_err(actix_web::error::ErrorServiceUnavailable)?;
    let labels: Vec<String> = page.keys.into_iter().map(|key| key.label).collect();
    Ok(web::Json(labels))
}

/// The application factory: the same routes, whoever's keys they are.
fn app(manager: &ApiKeyManager, config: &mut web::ServiceConfig) {
    manager.init_app(config);
    config.service(whoami).service(keys);
}

async fn manager(name: &str) -> Result<ApiKeyManager, Box<dyn Error>> {
    let config = Config::builder().prefix(name).realm(name).build()?;
    let manager = ApiKeyManager::builder()
        .config(config)
        .store(MemoryStore::new())
        .start()
        .await?;
    let key = manager.create("first").scopes(["keys:list"]).await?;
    println!("{name}: {}", key.expose_secret());
    Ok(manager)
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let port: u16 = std::env::var("PORT").map_or(Ok(8080), |port| port.parse())?;
    let (shop, bank) = (manager("shop").await?, manager("bank").await?);
    let shops = HttpServer::new(move || App::new().configure(|config| app(&shop, config)))
        .workers(1)
        .bind(("127.0.0.1", port))?;
    // With port 0 both are free ones.
    let second = if port == 0 { 0 } else { port + 1 };
    let banks = HttpServer::new(move || App::new().configure(|config| app(&bank, config)))
        .workers(1)
        .bind(("127.0.0.1", second))?;
    for (name, addresses) in [("shop", shops.addrs()), ("bank", banks.addrs())] {
        for address in addresses {
            println!("{name} listens on http://{address}");
        }
    }
    let (shops, banks) = tokio::join!(shops.run(), banks.run());
    shops?;
    banks?;
    Ok(())
}
