//! People log in and get a JWT. With the JWT they register devices, and each device gets an API key.
//!
//! ```sh
//! cargo run -p devices
//! ```
//!
//! Requests to try:
//!
//! ```sh
//! curl --json '{"name":"ada","password":"correct horse"}' http://127.0.0.1:8080/user/register
//! curl --json '{"name":"ada","password":"correct horse"}' http://127.0.0.1:8080/user/login          # {"token": JWT}
//! curl -H "Authorization: Bearer $JWT" --json '{"device_name":"lamp"}' http://127.0.0.1:8080/user/add-device   # {"api_key": KEY}
//! curl --json "{\"api_key\":\"$KEY\",\"celsius\":21}" http://127.0.0.1:8080/device/measurement
//! curl --json "{\"api_key\":\"$KEY\"}" http://127.0.0.1:8080/device/retire    # the key ends: no login is needed
//! ```
//!
//! Optional variables: `PORT` (8080 by default, 0 for a free port) and `DEVICES_DB` (a new file in a
//! temporary directory by default).

use std::error::Error;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use actix_web::dev::Payload;
use actix_web::error::{ErrorBadRequest, ErrorInternalServerError, ErrorUnauthorized};
use actix_web::{App, FromRequest, HttpRequest, HttpResponse, HttpServer, Responder, post, web};
use apikey_runtime::audit::{ChangeChannel, ChangeOrigin};
use apikey_runtime::manager::PresentedRevocation;
use apikey_runtime::{
    ApiKey, ApiKeyManager, Config, Denied, DenyReason, SqliteStore, api_key_required,
};
use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, PasswordHasher, PasswordVerifier};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS users (name TEXT PRIMARY KEY, password TEXT NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS devices (
        owner TEXT NOT NULL REFERENCES users (name), name TEXT NOT NULL, key_id TEXT,
        PRIMARY KEY (owner, name)
    ) STRICT;
";

/// Lifetime of a login.
const LOGIN: Duration = Duration::from_secs(3600);

/// Keys that sign and verify the logins of this process.
struct LoginKeys {
    encoding: EncodingKey,
    decoding: DecodingKey,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    sub: String,
    exp: u64,
}

#[derive(Deserialize)]
struct Credentials {
    name: String,
    password: String,
}

#[derive(Deserialize)]
struct NewDevice {
    device_name: String,
}

/// The person that the request's JWT names.
struct User(String);

impl FromRequest for User {
    type Error = actix_web::Error;
    type Future = std::future::Ready<Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        std::future::ready(logged_in(request).ok_or_else(|| ErrorUnauthorized("log in first")))
    }
}

fn logged_in(request: &HttpRequest) -> Option<User> {
    let keys = request.app_data::<web::Data<LoginKeys>>()?;
    let token = request
        .headers()
        .get("Authorization")?
        .to_str()
        .ok()?
        .strip_prefix("Bearer ")?;
    let claims =
        jsonwebtoken::decode::<Claims>(token, &keys.decoding, &Validation::new(Algorithm::HS256));
    Some(User(claims.ok()?.claims.sub))
}

#[post("/user/register")]
async fn register(
    db: web::Data<SqlitePool>,
    user: web::Json<Credentials>,
) -> actix_web::Result<impl Responder> {
    if user.name.is_empty() || user.password.len() < 8 {
        return Err(ErrorBadRequest(
            "`name` is empty or `password` is too short; send a name and a password of at least 8 characters",
        ));
    }
    let Credentials { name, password } = user.into_inner();
    // Argon2 is slow on purpose, so it must not block a worker thread. An API key needs no such hash:
    // unlike a password, it cannot be guessed.
    let hash = web::block(move || {
        Argon2::default()
            .hash_password(password.as_bytes())
            .map(|hash| hash.to_string())
    })
    .await?
    .map_err(ErrorInternalServerError)?;
    let insert = sqlx::query("INSERT INTO users (name, password) VALUES (?, ?)")
        .bind(&name)
        .bind(hash);
    match insert.execute(&**db).await {
        Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
            Err(ErrorBadRequest("this name is taken; choose another name"))
        }
        Err(error) => Err(ErrorInternalServerError(error)),
        Ok(_) => Ok(HttpResponse::Created().finish()),
    }
}

#[post("/user/login")]
async fn login(
    db: web::Data<SqlitePool>,
    keys: web::Data<LoginKeys>,
    user: web::Json<Credentials>,
) -> actix_web::Result<impl Responder> {
    let Credentials { name, password } = user.into_inner();
    let select =
        sqlx::query_scalar::<_, String>("SELECT password FROM users WHERE name = ?").bind(&name);
    let stored = select
        .fetch_optional(&**db)
        .await
        .map_err(ErrorInternalServerError)?;
    let right = web::block(move || {
        let hash = stored
            .as_deref()
            .and_then(|stored| PasswordHash::new(stored).ok());
        hash.is_some_and(|hash| {
            Argon2::default()
                .verify_password(password.as_bytes(), &hash)
                .is_ok()
        })
    })
    .await?;
    if !right {
        return Err(ErrorUnauthorized("wrong name or password"));
    }
    let end = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_err(ErrorInternalServerError)?
        + LOGIN;
    let claims = Claims {
        sub: name,
        exp: end.as_secs(),
    };
    let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &keys.encoding)
        .map_err(ErrorInternalServerError)?;
    Ok(web::Json(serde_json::json!({ "token": token })))
}

/// Inserts the name before it creates the key, so that only one of two concurrent requests creates
/// a key.
#[post("/user/add-device")]
async fn add_device(
    user: User,
    db: web::Data<SqlitePool>,
    manager: web::Data<ApiKeyManager>,
    device: web::Json<NewDevice>,
) -> actix_web::Result<impl Responder> {
    let name = device.into_inner().device_name;
    let insert = sqlx::query("INSERT INTO devices (owner, name) VALUES (?, ?)")
        .bind(&user.0)
        .bind(&name);
    match insert.execute(&**db).await {
        Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
            return Err(ErrorBadRequest(format!(
                "a device named {name:?} exists; choose another name"
            )));
        }
        outcome => outcome.map_err(ErrorInternalServerError)?,
    };
    let key = match manager
        .create(&name)
        .owner(&user.0)
        .scopes(["device:report"])
        .await
    {
        Ok(key) => key,
        Err(error) => {
            let delete = sqlx::query("DELETE FROM devices WHERE owner = ? AND name = ?")
                .bind(&user.0)
                .bind(&name);
            delete
                .execute(&**db)
                .await
                .map_err(ErrorInternalServerError)?;
            return Err(match error {
                apikey_runtime::Error::InvalidArgument(why) => ErrorBadRequest(why),
                other => other.into(),
            });
        }
    };
    let update = sqlx::query("UPDATE devices SET key_id = ? WHERE owner = ? AND name = ?");
    update
        .bind(key.id().to_string())
        .bind(&user.0)
        .bind(&name)
        .execute(&**db)
        .await
        .map_err(ErrorInternalServerError)?;
    Ok(HttpResponse::Created().json(serde_json::json!({ "api_key": key.expose_secret() })))
}

/// Answers a denial as these devices expect it: 400 if the key is missing, 403 if it is wrong. The
/// headers that are left out here, such as `Retry-After`, are added.
fn answer(denied: &Denied, _: &HttpRequest) -> HttpResponse {
    let message = serde_json::json!({ "message": denied.reason().title() });
    match denied.reason() {
        DenyReason::MissingKey => HttpResponse::BadRequest().json(message),
        _ if denied.status() == 401 => HttpResponse::Forbidden().json(message),
        _ => {
            let status = actix_web::http::StatusCode::from_u16(denied.status());
            HttpResponse::build(status.unwrap_or(actix_web::http::StatusCode::FORBIDDEN))
                .json(message)
        }
    }
}

/// Takes a report of a device, whose key is in the JSON body. The route answers other methods with
/// 405.
#[api_key_required(location = json("api_key"), scope = "device:report", on_error = answer)]
async fn measurement(
    key: ApiKey,
    body: web::Json<serde_json::Map<String, serde_json::Value>>,
) -> impl Responder {
    let values = body.keys().filter(|name| *name != "api_key").count();
    web::Json(serde_json::json!({ "device": key.label(), "owner": key.owner(), "values": values }))
}

#[derive(Deserialize)]
struct RetiredDevice {
    api_key: String,
}

/// Ends the key of a device. The key itself is the proof that the caller may do so.
#[post("/device/retire")]
async fn retire(
    request: HttpRequest,
    manager: web::Data<ApiKeyManager>,
    device: web::Json<RetiredDevice>,
) -> Result<HttpResponse, apikey_runtime::Error> {
    let origin = ChangeOrigin::of_request(&request).with_channel(ChangeChannel::Api);
    let revoke = manager.revoke_presented(&device.api_key).origin(origin);
    Ok(match revoke.reason("retired").await? {
        PresentedRevocation::Unknown => HttpResponse::NotFound().finish(),
        _ => HttpResponse::NoContent().finish(),
    })
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let path =
        std::env::var_os("DEVICES_DB").map_or_else(|| folder.path().join("devices.db"), Into::into);
    let manager = ApiKeyManager::builder()
        .config(Config::from_env()?)
        .store(SqliteStore::new(&path))
        .start()
        .await?;
    let db = web::Data::new(open(&path).await?);
    let keys = web::Data::new(login_keys()?);
    let port: u16 = std::env::var("PORT").map_or(Ok(8080), |port| port.parse())?;

    let app = manager.clone();
    let server = HttpServer::new(move || {
        App::new()
            .configure(|config| app.init_app(config))
            .app_data(db.clone())
            .app_data(keys.clone())
            .service(register)
            .service(login)
            .service(add_device)
            .service(retire)
            .service(web::resource("/device/measurement").route(web::post().to(measurement)))
    })
    .bind(("127.0.0.1", port))?;
    for address in server.addrs() {
        println!("listening on http://{address}");
    }
    server.run().await?;
    manager.shutdown().await?;
    Ok(())
}

/// Creates the application's own tables in the file that also holds the keys.
async fn open(path: &Path) -> Result<SqlitePool, sqlx::Error> {
    let pool = SqlitePool::connect_with(SqliteConnectOptions::new().filename(path)).await?;
    sqlx::raw_sql(TABLES).execute(&pool).await?;
    Ok(pool)
}

/// Generates the signing secret. It changes with each start, so a restart ends all logins.
fn login_keys() -> Result<LoginKeys, Box<dyn Error>> {
    let mut secret = [0; 32];
    rand::TryRng::try_fill_bytes(&mut rand::rngs::SysRng, &mut secret)?;
    Ok(LoginKeys {
        encoding: EncodingKey::from_secret(&secret),
        decoding: DecodingKey::from_secret(&secret),
    })
}
