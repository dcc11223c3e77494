//! The sessions of users: rows of a table, so that the server can end them.
//!
//! The stores of actix-session are the cookie itself, which a server cannot end, and Redis, which this example does not
//! need.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use actix_web::HttpRequest;
use actix_web::cookie::{Cookie, SameSite};
use apikey_portal::{BoxError, Person, PortalAuth};
use sha2::{Digest as _, Sha256};
use sqlx::SqlitePool;

use crate::users::{person, random_text};

/// A session ends this long after its start.
const LIFE: Duration = Duration::from_hours(12);

/// A session ends this long after its last request.
const IDLE: Duration = Duration::from_hours(2);

/// A request is noted if the last note is older than this, so that most requests only read.
const NOTED: Duration = Duration::from_mins(1);

/// The sessions of users.
#[derive(Clone)]
pub struct Sessions {
    db: SqlitePool,
    is_https: bool,
}

impl Sessions {
    pub fn new(db: SqlitePool, is_https: bool) -> Self {
        Self { db, is_https }
    }

    /// Starts a session, and returns its cookie. Its id is always a new one: an id that somebody knew before the user
    /// signed in does not become theirs. `None` if the user has another password than that of the hash which was verified: a
    /// new password ends the sessions that there are, and no other starts by the old one.
    pub async fn start(
        &self,
        user: &str,
        verified: &str,
    ) -> Result<Option<Cookie<'static>>, BoxError> {
        let now = now()?;
        sqlx::query("DELETE FROM sessions WHERE started <= ? OR seen <= ?")
            .bind(before(now, LIFE))
            .bind(before(now, IDLE))
            .execute(&self.db)
            .await?;
        let id = random_text()?;
        let started = sqlx::query(
            "INSERT INTO sessions (digest, user, started, seen)
             SELECT ?, name, ?, ? FROM users WHERE name = ? AND password = ?",
        )
        .bind(digest(&id))
        .bind(now)
        .bind(now)
        .bind(user)
        .bind(verified)
        .execute(&self.db)
        .await?;
        Ok((started.rows_affected() > 0).then(|| self.cookie(id)))
    }

    /// Returns the user of the request's session; `None` if it does not have one.
    pub async fn user(&self, request: &HttpRequest) -> Result<Option<String>, BoxError> {
        let Some(cookie) = request.cookie(self.name()) else {
            return Ok(None);
        };
        let (digest, now) = (digest(cookie.value()), now()?);
        let found: Option<(String, i64)> = sqlx::query_as(
            "SELECT user, seen FROM sessions WHERE digest = ? AND started > ? AND seen > ?",
        )
        .bind(&digest)
        .bind(before(now, LIFE))
        .bind(before(now, IDLE))
        .fetch_optional(&self.db)
        .await?;
        let Some((user, seen)) = found else {
            return Ok(None);
        };
        if seen <= before(now, NOTED) {
            sqlx::query("UPDATE sessions SET seen = ? WHERE digest = ?")
                .bind(now)
                .bind(&digest)
                .execute(&self.db)
                .await?;
        }
        Ok(Some(user))
    }

    /// Ends the session of the request.
    pub async fn end(&self, request: &HttpRequest) -> Result<(), BoxError> {
        if let Some(cookie) = request.cookie(self.name()) {
            sqlx::query("DELETE FROM sessions WHERE digest = ?")
                .bind(digest(cookie.value()))
                .execute(&self.db)
                .await?;
        }
        Ok(())
    }

    /// Returns the cookie that removes that of a session.
    pub fn removal(&self) -> Cookie<'static> {
        let mut cookie = self.cookie(String::new());
        cookie.make_removal();
        cookie
    }

    fn cookie(&self, id: String) -> Cookie<'static> {
        Cookie::build(self.name(), id)
            .path("/")
            .http_only(true)
            .same_site(SameSite::Lax)
            .secure(self.is_https)
            .finish()
    }

    /// Returns the cookie's name. With `__Host-`, browsers accept it from this host alone, and not from a subdomain.
    fn name(&self) -> &'static str {
        match self.is_https {
            true => "__Host-session",
            false => "session",
        }
    }
}

/// Tells the portal who is signed in.
impl PortalAuth for Sessions {
    async fn person(&self, request: &HttpRequest) -> Result<Option<Person>, BoxError> {
        let user = self.user(request).await?;
        user.map(|name| person(&name)).transpose()
    }
}

/// A copy of the table does not let anybody in: it has the hashes of ids, which have 128 random bits.
fn digest(id: &str) -> Vec<u8> {
    Sha256::digest(id).to_vec()
}

/// Returns the seconds since 1970.
fn now() -> Result<i64, BoxError> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(i64::try_from(since.as_secs())?)
}

fn before(now: i64, span: Duration) -> i64 {
    now.saturating_sub_unsigned(span.as_secs())
}
