//! The users, and their passwords.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use actix_web::web;
use apikey_portal::{BoxError, Grants, Person, Role};
use apikey_runtime::Scopes;
use argon2::{Argon2, PasswordHasher};
use rand::TryRng as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool};

use crate::passwords::PasswordMemory;
use crate::queue::Queue;

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS users (name TEXT PRIMARY KEY, password TEXT NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS sessions (
        digest BLOB PRIMARY KEY, user TEXT NOT NULL REFERENCES users (name) ON DELETE CASCADE,
        started INTEGER NOT NULL, seen INTEGER NOT NULL
    ) STRICT;
";

/// The users that the first start creates.
const FIRST: [&str; 3] = ["alice", "bob", "root"];

/// The users of this application.
pub struct Users {
    db: SqlitePool,
    /// The hash of an unknown password. It is verified for an unknown name, so that the answer takes as long.
    unknown: String,
    queue: Arc<Queue>,
    passwords: PasswordMemory,
}

/// What a name and a password are.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The password is that of this hash.
    Right(String),
    /// The name is unknown, or the password is wrong.
    Wrong,
    /// Too many passwords are verified at the moment, of all clients or of this one.
    Busy,
}

/// Creates the file, if it does not exist, so that only its owner can read it. SQLite gives the files beside it the same
/// rights.
pub fn create_private(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Opens the file, and creates its tables.
pub async fn open(path: &Path) -> Result<SqlitePool, sqlx::Error> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal);
    let pool = SqlitePool::connect_with(options).await?;
    sqlx::raw_sql(TABLES).execute(&pool).await?;
    Ok(pool)
}

impl Users {
    pub async fn new(db: SqlitePool) -> Result<Self, BoxError> {
        Ok(Self {
            db,
            unknown: hash(random_text()?).await?,
            queue: Arc::default(),
            passwords: PasswordMemory::new(),
        })
    }

    /// Creates the first users, and returns their passwords; none if there are users.
    pub async fn create_first(&self) -> Result<Vec<(&'static str, String)>, BoxError> {
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM users")
            .fetch_one(&self.db)
            .await?;
        if count > 0 {
            return Ok(Vec::new());
        }
        let mut made = Vec::new();
        // All of them, or none.
        let mut transaction = self.db.begin().await?;
        for name in FIRST {
            let password = random_text()?;
            sqlx::query("INSERT INTO users (name, password) VALUES (?, ?)")
                .bind(name)
                .bind(hash(password.clone()).await?)
                .execute(&mut *transaction)
                .await?;
            made.push((name, password));
        }
        transaction.commit().await?;
        Ok(made)
    }

    /// Gives a user another password, and ends their sessions.
    pub async fn renew_password(&self, name: &str) -> Result<String, BoxError> {
        let password = random_text()?;
        let hash = hash(password.clone()).await?;
        let mut transaction = self.db.begin().await?;
        let changed = sqlx::query("UPDATE users SET password = ? WHERE name = ?")
            .bind(hash)
            .bind(name)
            .execute(&mut *transaction)
            .await?;
        if changed.rows_affected() == 0 {
            return Err(format!("a user `{}` does not exist", name.escape_debug()).into());
        }
        sqlx::query("DELETE FROM sessions WHERE user = ?")
            .bind(name)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(password)
    }

    /// Verifies a password for a client. It takes the same time if the name is unknown.
    pub async fn verify(
        &self,
        name: &str,
        password: String,
        client: Option<IpAddr>,
    ) -> Result<Verdict, BoxError> {
        let Some(place) = self.queue.enter(client) else {
            return Ok(Verdict::Busy);
        };
        let stored: Option<String> =
            sqlx::query_scalar("SELECT password FROM users WHERE name = ?")
                .bind(name)
                .fetch_optional(&self.db)
                .await?;
        let is_known = stored.is_some();
        let hash = stored.unwrap_or_else(|| self.unknown.clone());
        let verified = hash.clone();
        let is_right = self.passwords.verify(password, hash, place).await?;
        Ok(match is_right && is_known {
            true => Verdict::Right(verified),
            false => Verdict::Wrong,
        })
    }
}

/// The scopes with which a program manages keys, by the JSON API.
pub const MANAGING: [&str; 3] = ["apikeys:read", "apikeys:create", "apikeys:manage"];

/// Returns what a user may do in the portal. An application of your own reads this from its tables.
pub fn person(name: &str) -> Result<Person, BoxError> {
    let person = Person::new(name);
    Ok(match name {
        // Scopes with which a key manages keys have to be named.
        "root" => person
            .with_role(Role::Admin)
            .with_grants(Grants::AllWith(Scopes::new(MANAGING)?)),
        _ => person
            .with_owner(name)
            .with_grants(Grants::Only(Scopes::new(["hello:read"])?)),
    })
}

/// Returns 128 random bits as text, for a password or the id of a session.
pub fn random_text() -> Result<String, BoxError> {
    let mut bytes = [0; 16];
    rand::rngs::SysRng.try_fill_bytes(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

async fn hash(password: String) -> Result<String, BoxError> {
    let hash = web::block(move || {
        Argon2::default()
            .hash_password(password.as_bytes())
            .map(|hash| hash.to_string())
    });
    Ok(hash.await??)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::queue::PLACES_OF_A_CLIENT;
    use crate::sessions::Sessions;

    async fn users() -> Result<Users, BoxError> {
        // Each connection would have a database of its own.
        let one = sqlx::sqlite::SqlitePoolOptions::new().max_connections(1);
        let db = one.connect("sqlite::memory:").await?;
        sqlx::raw_sql(TABLES).execute(&db).await?;
        Users::new(db).await
    }

    #[actix_web::test]
    async fn an_unknown_name_costs_the_same() -> Result<(), BoxError> {
        let users = users().await?;
        users.create_first().await?;
        let least = async |name: &str| {
            let mut least = Duration::MAX;
            for _ in 0..3 {
                let start = Instant::now();
                let verdict = users.verify(name, "wrong".to_owned(), None).await?;
                assert_eq!(verdict, Verdict::Wrong);
                least = least.min(start.elapsed());
            }
            Ok::<_, BoxError>(least)
        };
        let (known, unknown) = (least("alice").await?, least("mallory").await?);
        // A busy machine may double a time; without the hash, it is a thousandth.
        assert!(unknown * 10 > known, "{unknown:?}, {known:?}");
        Ok(())
    }

    #[actix_web::test]
    async fn a_sign_in_by_the_password_before_does_not_survive_it() -> Result<(), BoxError> {
        let users = users().await?;
        let sessions = Sessions::new(users.db.clone(), false);
        let (name, before) = users.create_first().await?.swap_remove(0);
        let verify = async |password: String| match users.verify(name, password, None).await? {
            Verdict::Right(hash) => Ok::<_, BoxError>(hash),
            verdict => Err(format!("{verdict:?}").into()),
        };
        let verified = verify(before).await?;
        // Control: the password is still the user's.
        assert!(sessions.start(name, &verified).await?.is_some());
        let after = users.renew_password(name).await?;
        assert!(sessions.start(name, &verified).await?.is_none());
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM sessions")
            .fetch_one(&users.db)
            .await?;
        assert_eq!(count, 0);
        let verified = verify(after).await?;
        assert!(sessions.start(name, &verified).await?.is_some());
        Ok(())
    }

    #[actix_web::test]
    async fn too_many_sign_ins_at_once_are_turned_away() -> Result<(), BoxError> {
        let users = users().await?;
        let here = Some(IpAddr::from([192, 0, 2, 1]));
        let held: Vec<_> = std::iter::from_fn(|| users.queue.enter(here)).collect();
        assert_eq!(held.len(), PLACES_OF_A_CLIENT);
        let verify = |client| users.verify("alice", "wrong".to_owned(), client);
        assert_eq!(verify(here).await?, Verdict::Busy);
        // Another client has a place.
        assert_eq!(verify(None).await?, Verdict::Wrong);
        drop(held);
        assert_eq!(verify(here).await?, Verdict::Wrong);
        let held: Vec<_> = std::iter::from_fn(|| users.queue.enter(here)).collect();
        assert_eq!(held.len(), PLACES_OF_A_CLIENT, "the places were given back");
        Ok(())
    }
}
