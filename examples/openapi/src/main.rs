//! An API whose OpenAPI document says which key each route needs, and how it responds without one.
//!
//! ```sh
//! cargo run -p openapi
//! ```
//!
//! It prints a line `NAME: KEY` for each key that it creates, and serves the document. The document
//! alone, for a generator of clients or a validator, is printed by
//!
//! ```sh
//! cargo run -p openapi -- document
//! ```
//!
//! Requests to try:
//!
//! ```sh
//! curl http://127.0.0.1:8080/openapi.json
//! curl -H "Authorization: Bearer $READER" http://127.0.0.1:8080/notes
//! curl -H "Authorization: Bearer $WRITER" --json '{"text":"tea"}' http://127.0.0.1:8080/notes
//! curl -H "Authorization: Bearer $WRITER" http://127.0.0.1:8080/admin/count
//! ```
//!
//! Optional variable: `PORT` (8080 by default, 0 for a free port).

use std::error::Error;
use std::sync::{Mutex, PoisonError};

use actix_web::{App, HttpResponse, HttpServer, Responder, get, post, web};
use apikey_runtime::openapi::ApiKeySecurity;
use apikey_runtime::{
    ApiKeyManager, Config, MemoryStore, Policy, RequireApiKey, ScopeExpr, api_key_required,
};
use serde::{Deserialize, Serialize};
use utoipa::openapi::OpenApi as Document;
use utoipa::{Modify, OpenApi, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;
use utoipa_actix_web::{AppExt, scope};

#[derive(Clone, Serialize, Deserialize, ToSchema)]
struct Note {
    text: String,
}

type Notes = web::Data<Mutex<Vec<Note>>>;

/// Lists all notes.
#[api_key_required(scope = "notes:read")]
#[utoipa::path(responses((status = 200, description = "All notes.", body = Vec<Note>)))]
#[get("/notes")]
async fn list_notes(notes: Notes) -> impl Responder {
    web::Json(notes.lock().unwrap_or_else(PoisonError::into_inner).clone())
}

/// Adds a note. The attribute documents the response 400 for a request with two keys; the response
/// for a note that cannot be read is the application's own, and so it is the one in the document.
#[api_key_required(scope = "notes:write")]
#[utoipa::path(responses(
    (status = 201, description = "The note.", body = Note),
    (status = 400, description = "The request does not have one key, or not a note."),
))]
#[post("/notes")]
async fn add_note(notes: Notes, note: web::Json<Note>) -> impl Responder {
    let note = note.into_inner();
    let mut notes = notes.lock().unwrap_or_else(PoisonError::into_inner);
    notes.push(note.clone());
    HttpResponse::Created().json(note)
}

/// The attribute may also stand below `#[utoipa::path]`: `API_KEYS` then finds it.
#[utoipa::path(responses((status = 200, description = "The newest note.", body = Note)))]
#[get("/notes/newest")]
#[api_key_required(optional)]
async fn newest_note(notes: Notes) -> impl Responder {
    let notes = notes.lock().unwrap_or_else(PoisonError::into_inner);
    let welcome = "no notes yet".to_owned();
    let newest = notes.last().cloned().unwrap_or(Note { text: welcome });
    web::Json(newest)
}

/// Guarded by the middleware of its scope.
#[utoipa::path(responses((status = 200, description = "The number of notes.", body = usize)))]
#[get("/count")]
async fn count(notes: Notes) -> impl Responder {
    web::Json(notes.lock().unwrap_or_else(PoisonError::into_inner).len())
}

const ADMIN: Policy = Policy::new().scopes(ScopeExpr::One("notes:admin"));

/// Adds the schemes, and what guards demand that `#[utoipa::path]` does not see.
static API_KEYS: ApiKeySecurity = ApiKeySecurity::new()
    .strict()
    .middleware(&[("/admin", ADMIN)]);

fn services(config: &mut ServiceConfig) {
    let admin = scope::scope("/admin").wrap(RequireApiKey::with(ADMIN));
    config
        .service(list_notes)
        .service(add_note)
        .service(newest_note)
        .service(admin.service(count));
}

#[derive(OpenApi)]
#[openapi(info(title = "Notes", version = "1"))]
struct Info;

fn document() -> Document {
    let app = App::new().into_utoipa_app().openapi(Info::openapi());
    let (_, mut document) = app.configure(services).split_for_parts();
    API_KEYS.modify(&mut document);
    document
}

#[get("/openapi.json")]
async fn serve_document(document: web::Data<Document>) -> impl Responder {
    web::Json(document)
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    if std::env::args().nth(1).as_deref() == Some("document") {
        println!("{}", document().to_pretty_json()?);
        return Ok(());
    }
    let manager = ApiKeyManager::builder()
        .config(Config::from_env()?)
        .store(MemoryStore::new())
        .start()
        .await?;
    let reader = manager.create("reader").scopes(["notes:read"]).await?;
    println!("reader: {}", reader.expose_secret());
    let writer = manager
        .create("writer")
        .scopes(["notes:read", "notes:write", "notes:admin"])
        .await?;
    println!("writer: {}", writer.expose_secret());

    let notes = Notes::default();
    let document = web::Data::new(document());
    let own = manager.clone();
    let server = HttpServer::new(move || {
        App::new()
            .configure(|app| own.init_app(app))
            .app_data(notes.clone())
            .app_data(document.clone())
            .service(serve_document)
            .into_utoipa_app()
            .configure(services)
            .into_app()
    })
    .bind(("127.0.0.1", port()?))?;
    for address in server.addrs() {
        println!("listening on http://{address}");
    }
    server.run().await?;
    manager.shutdown().await?;
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
