//! Serves one protected route, with keys in an SQLite file.
//!
//! ```sh
//! cargo run -p quickstart                     # creates a key at the first start, prints it, and serves
//! cargo run -p quickstart -- new-key NAME     # creates another key and prints it
//! ```
//!
//! Optional variables: `PORT` (8080 by default, 0 for a free port) and `APIKEYS_DB` (`apikeys.db`
//! by default).

use std::error::Error;

use actix_web::{App, HttpServer, Responder, get, web};
use apikey_runtime::{ApiKeyManager, Config, SqliteStore, api_key_required};

#[get("/")]
async fn open() -> impl Responder {
    "This route is open. Send a key to /api/v1/secure.\n"
}

#[get("/api/v1/secure")]
#[api_key_required]
async fn secure() -> impl Responder {
    web::Json(serde_json::json!({ "foo": "bar" }))
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let path = std::env::var("APIKEYS_DB").unwrap_or_else(|_| "apikeys.db".to_owned());
    let manager = ApiKeyManager::builder()
        .config(Config::from_env()?)
        .store(SqliteStore::new(&path))
        .start()
        .await?;

    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => {}
        ["new-key", name] => {
            let key = manager.create(name).await?;
            println!("key: {}", key.expose_secret());
            return Ok(manager.shutdown().await?);
        }
        _ => return Err("usage: quickstart [new-key NAME]".into()),
    }

    let app = manager.clone();
    let server = HttpServer::new(move || {
        App::new()
            .configure(|config| app.init_app(config))
            .service(open)
            .service(secure)
    })
    .bind(("127.0.0.1", port()?))?;
    let address = server
        .addrs()
        .first()
        .copied()
        .ok_or("no address was bound")?;
    greet(&manager, &path, address).await?;
    println!("listening on http://{address}");
    server.run().await?;
    manager.shutdown().await?;
    Ok(())
}

/// Creates and prints a key at the first start. A later start cannot print it again, since the store
/// has only its digest.
async fn greet(
    manager: &ApiKeyManager,
    path: &str,
    address: std::net::SocketAddr,
) -> Result<(), Box<dyn Error>> {
    if manager
        .list()
        .label("MY_FIRST_KEY")
        .page_size(1)
        .await?
        .keys
        .is_empty()
    {
        let key = manager.create("MY_FIRST_KEY").await?;
        println!("Created the key MY_FIRST_KEY. It is shown only once:");
        println!("key: {}", key.expose_secret());
        println!("Try it:");
        println!(
            "curl -H 'Authorization: Bearer {}' http://{address}/api/v1/secure",
            key.expose_secret()
        );
    } else {
        println!("The key MY_FIRST_KEY exists in {path}; its secret cannot be shown again.");
        println!("Create another key: cargo run -p quickstart -- new-key NAME");
    }
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
