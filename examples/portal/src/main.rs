//! A portal in which people make API keys. They sign in by a form.
//!
//! ```sh
//! cargo run -p portal                          # creates users at the first start, prints their passwords, and serves
//! cargo run -p portal -- new-password NAME     # gives a user another password and prints it
//! ```
//!
//! Open `http://127.0.0.1:8080/`, and sign in. `alice` and `bob` make keys of their own with the scope `hello:read`;
//! `root` sees the keys of all. A key calls the API, and its charts show the calls:
//!
//! ```sh
//! curl -H "Authorization: Bearer $KEY" http://127.0.0.1:8080/api/hello
//! ```
//!
//! A program lists the keys of `alice` with a key that `root` made for the owner `alice` with the scope `apikeys:read`:
//!
//! ```sh
//! curl -H "Authorization: Bearer $KEY" http://127.0.0.1:8080/account/api-keys/v1/keys
//! ```
//!
//! Optional variables: `PORT` (8080 by default, 0 for a free port), `APIKEYS_DB` (`apikeys.db` by default; users and
//! sessions are in a file beside it, such as `apikeys.users.db`), and `PUBLIC_URL`, the URL at which visitors see this
//! site behind a proxy, such as `https://acme.example`. Behind a proxy, set `ACTIX_API_KEY_TRUSTED_PROXIES` (its address) and
//! `ACTIX_API_KEY_FORWARDED_HEADER` (`Forwarded` or `X-Forwarded-For`, whichever it sets) too.

#![forbid(unsafe_code)]

mod attempts;
mod login;
mod passwords;
mod queue;
mod sessions;
mod users;

use std::path::{Path, PathBuf};

use actix_web::{App, HttpServer, Responder, get, web};
use apikey_portal::{BoxError, Brand, Portal, SameOriginOnly};
use apikey_runtime::{ApiKey, ApiKeyManager, Config, SqliteStore, api_key_required};

use attempts::Attempts;
use sessions::Sessions;
use users::Users;

/// The path of the portal. People come here after they have signed in.
const PORTAL: &str = "/account/api-keys";

/// The API that keys are for.
#[get("/api/hello")]
#[api_key_required(scope = "hello:read")]
async fn hello(key: ApiKey) -> impl Responder {
    web::Json(serde_json::json!({ "hello": key.label() }))
}

#[actix_web::main]
async fn main() -> Result<(), BoxError> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let path = PathBuf::from(std::env::var_os("APIKEYS_DB").unwrap_or_else(|| "apikeys.db".into()));
    let file = path.with_extension("users.db");
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => {
            users::create_private(&file).map_err(|error| not_opened(&file, &error))?;
            let db = open(&file).await?;
            let users = web::Data::new(Users::new(db.clone()).await?);
            serve(&path, users, db).await
        }
        // A wrong path is a mistake here, and does not make a file.
        ["new-password", name] => {
            let users = Users::new(open(&file).await?).await?;
            println!("{name}: {}", users.renew_password(name).await?);
            Ok(())
        }
        _ => Err("usage: portal [new-password NAME]".into()),
    }
}

async fn open(file: &Path) -> Result<sqlx::SqlitePool, BoxError> {
    let opened = users::open(file).await;
    opened.map_err(|error| not_opened(file, &error))
}

fn not_opened(file: &Path, error: &dyn std::error::Error) -> BoxError {
    let file = file.display();
    format!("the users in `{file}` cannot be read: {error}; correct APIKEYS_DB").into()
}

async fn serve(path: &Path, users: web::Data<Users>, db: sqlx::SqlitePool) -> Result<(), BoxError> {
    let site = site()?;
    let port = port()?;
    let manager = ApiKeyManager::builder()
        .config(Config::from_env()?)
        .store(SqliteStore::new(path))
        .start()
        .await?;
    greet(&users).await?;

    let is_https = site.as_deref().is_some_and(is_https);
    let sessions = Sessions::new(db.clone(), is_https);
    let same_origin = match &site {
        Some(site) => SameOriginOnly::of_url(site).ok_or("PUBLIC_URL is not a URL")?,
        None => SameOriginOnly::new(),
    };
    let attempts = web::Data::new(Attempts::new());
    let own = manager.clone();
    let server = HttpServer::new(move || {
        let mut portal = Portal::new(own.clone(), sessions.clone())
            .scopes(["hello:read"].into_iter().chain(users::MANAGING))
            .sign_in("/login")
            .sign_out("/logout")
            .brand(Brand::new("Hello API").with_home("/"));
        if let Some(site) = &site {
            portal = portal.public_url(format!("{site}{PORTAL}"));
        }
        App::new()
            .wrap(login::headers(is_https))
            .configure(|app| own.init_app(app))
            .app_data(users.clone())
            .app_data(attempts.clone())
            .app_data(web::Data::new(sessions.clone()))
            .configure(|app| login::routes(app, &same_origin))
            .service(web::redirect("/", PORTAL))
            .service(hello)
            .service(portal.mount(PORTAL))
    })
    .bind(("127.0.0.1", port))
    .map_err(|error| format!("port {port} cannot be served: {error}; set PORT to another one"))?;
    for address in server.addrs() {
        println!("listening on http://{address}");
    }
    server.run().await?;
    // Writes the usage that is still in memory.
    manager.shutdown().await?;
    db.close().await;
    Ok(())
}

/// Creates the users at the first start and prints their passwords. A later start cannot print them again, since only
/// their hashes are stored.
async fn greet(users: &Users) -> Result<(), BoxError> {
    let made = users.create_first().await?;
    if made.is_empty() {
        println!("The users exist; their passwords cannot be shown again.");
        println!("Give a user another: cargo run -p portal -- new-password NAME");
    } else {
        println!("Created these users. Their passwords are shown only once:");
    }
    for (name, password) in made {
        println!("{name}: {password}");
    }
    Ok(())
}

/// Returns the URL of the site without its path, if one is set.
fn site() -> Result<Option<String>, String> {
    let Ok(url) = std::env::var("PUBLIC_URL") else {
        return Ok(None);
    };
    let site = url.trim_end_matches('/');
    let site = site.strip_suffix(PORTAL).unwrap_or(site);
    let host = site.split_once("://").map_or("", |(_, host)| host);
    match host.is_empty()
        || host.contains(['/', '?', '#'])
        || SameOriginOnly::of_url(site).is_none()
    {
        true => Err(format!(
            "PUBLIC_URL is `{}`; write the URL of the site without a path, such as `https://acme.example`",
            url.escape_debug()
        )),
        false => Ok(Some(site.to_owned())),
    }
}

fn is_https(url: &str) -> bool {
    let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
    scheme.eq_ignore_ascii_case("https")
}

fn port() -> Result<u16, BoxError> {
    match std::env::var("PORT") {
        Ok(port) => port
            .parse()
            .map_err(|_| format!("PORT is `{port}`; write a number from 0 to 65535").into()),
        Err(_) => Ok(8080),
    }
}
