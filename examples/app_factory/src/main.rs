//! Two apps with two managers in one process: each manager is passed to an application factory.
//!
//! ```sh
//! cargo run -p app_factory
//! ```
//!
//! Each app accepts only its own keys: to `bank`, a key of `shop` is unknown.
//!
//! Optional variable: `PORT` (8080 by default, 0 for free ports). The second app listens on the next
//! port.

use std::error::Error;

use actix_web::{App, HttpServer, Responder, get, web};
use apikey_runtime::{ApiKey, ApiKeyManager, Config, MemoryStore, api_key_required};

#[get("/whoami")]
#[api_key_required]
async fn whoami(key: ApiKey) -> impl Responder {
    key.label().to_owned()
}

/// Lists the labels of all keys. A handler gets the manager as application data.
#[get("/keys")]
#[api_key_required(scope = "keys:list")]
async fn keys(manager: web::Data<ApiKeyManager>) -> actix_web::Result<impl Responder> {
    let page = manager.list().await?;
    let labels: Vec<String> = page.keys.into_iter().map(|key| key.label).collect();
    Ok(web::Json(labels))
}

/// The application factory: adds the same routes, protected by the given manager.
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
    // With port 0 the system picks both ports.
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
