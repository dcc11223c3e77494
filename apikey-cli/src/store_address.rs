//! Which store: its address is never an argument, since an argument is seen by each user of the machine, and an address
//! may have a password.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use apikey_runtime::{Config, KeyStore};

use crate::args::Common;
use crate::exit;
use crate::failure::Failure;

/// The variable with the address.
pub(crate) const VARIABLE: &str = "APIKEYS_STORE";

/// Where a store is, and of what kind. A URL is not printed.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(
    not(all(feature = "sqlite", feature = "postgres", feature = "redis")),
    allow(
        dead_code,
        reason = "the address of a store that is not built in is parsed, for the error"
    )
)]
pub(crate) enum StoreAddress {
    Sqlite(PathBuf),
    Postgres {
        url: String,
        /// How long a call may take, if the store's own time does not hold.
        timeout: Option<Duration>,
    },
    Redis {
        url: String,
        namespace: Option<String>,
        key_prefix: Option<String>,
    },
}

/// What may be done to the store when it is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opening {
    /// It must exist, in the schema of this release. Nothing is created or changed.
    AsIs,
    /// It must exist. What an older release made is brought up to date.
    Migrating,
    /// If it does not exist, it is created; otherwise as `Migrating`.
    Creating,
}

impl StoreAddress {
    /// Returns the address that the options or the environment name, with the time of `--timeout`.
    pub(crate) fn of(common: &Common) -> Result<Self, Failure> {
        Ok(Self::named(common)?.with_timeout(common.timeout))
    }

    fn named(common: &Common) -> Result<Self, Failure> {
        if let Some(path) = &common.sqlite {
            refuse_address(path)?;
            return Ok(Self::Sqlite(path.clone()));
        }
        if let Some(path) = &common.store_file {
            return Self::from_file(path);
        }
        match std::env::var(VARIABLE) {
            Ok(address) if !address.trim().is_empty() => Self::parse(&address),
            Err(std::env::VarError::NotUnicode(_)) => Err(Failure::not_unicode(VARIABLE)),
            _ => Err(Failure::usage("the store is not named").remedy(format!(
                "set `{VARIABLE}` (such as `sqlite:/var/lib/app/apikeys.db` or `postgres://..`), or add \
                 `--store-file FILE` with a file that holds the address, or `--sqlite PATH`"
            ))),
        }
    }

    /// Reads the address from the first line of a file.
    pub(crate) fn from_file(path: &Path) -> Result<Self, Failure> {
        refuse_address(path)?;
        let text = std::fs::read_to_string(path)
            .map_err(|error| Failure::unread_file("with the store's address", path, &error))?;
        Self::parse(text.lines().next().unwrap_or_default())
    }

    /// Parses `sqlite:PATH`, `postgres://..`, `redis://..`, or a path.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let text = text.trim();
        if let Some(path) = text.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return Ok(Self::Sqlite(path.into()));
        }
        if !text.contains("://") && has_address(text) {
            return Err(Failure::usage(
                "the store's address is neither a URL nor the path of a file",
            )
            .remedy("write `sqlite:PATH`, `postgres://..` or `redis://..`"));
        }
        let scheme = text.split_once("://").map(|(scheme, _)| scheme);
        match scheme {
            Some("postgres" | "postgresql") => Ok(Self::Postgres {
                url: text.to_owned(),
                timeout: None,
            }),
            Some("redis" | "rediss" | "unix" | "redis+unix") => Ok(Self::redis(text)),
            // The rest may be a password.
            Some(_) => Err(
                Failure::usage("the scheme of the store's address is not known")
                    .remedy("write `sqlite:PATH`, `postgres://..` or `redis://..`"),
            ),
            None if text.is_empty() => Err(Failure::usage("the store's address is empty")
                .remedy("write `sqlite:PATH`, `postgres://..` or `redis://..`")),
            None => Ok(Self::Sqlite(text.into())),
        }
    }

    /// Takes our own parameters, `namespace` and `key_prefix`, out of the URL.
    fn redis(url: &str) -> Self {
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let (mut namespace, mut key_prefix, mut rest) = (None, None, Vec::new());
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("namespace", name)) => namespace = Some(name.to_owned()),
                Some(("key_prefix", prefix)) => key_prefix = Some(prefix.to_owned()),
                _ => rest.push(pair),
            }
        }
        let url = match rest.is_empty() {
            true => base.to_owned(),
            false => format!("{base}?{}", rest.join("&")),
        };
        Self::Redis {
            url,
            namespace,
            key_prefix,
        }
    }

    /// Sets how long a call may take. The other stores have times of their own.
    pub(crate) fn with_timeout(mut self, limit: Option<Duration>) -> Self {
        if let Self::Postgres { timeout, .. } = &mut self {
            *timeout = limit;
        }
        self
    }

    /// Returns whether a longer `--timeout` waits longer for the store, by itself or by a manager.
    pub(crate) fn has_timeout(&self, is_managed: bool) -> bool {
        match self {
            Self::Postgres { .. } => true,
            Self::Sqlite(_) => is_managed,
            Self::Redis { .. } => false,
        }
    }

    /// Returns the kind of the store, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "SQLite",
            Self::Postgres { .. } => "PostgreSQL",
            Self::Redis { .. } => "Redis",
        }
    }

    /// Describes the store. Nothing is opened before it is started.
    pub(crate) fn store(&self, opening: Opening) -> Result<Arc<dyn KeyStore>, Failure> {
        self.store_keeping(opening, Config::default().usage_retention())
    }

    /// Describes the store, which keeps usage that is copied to it for this long.
    pub(crate) fn store_keeping(
        &self,
        opening: Opening,
        #[cfg_attr(
            not(feature = "redis"),
            expect(
                unused_variables,
                reason = "the other stores keep usage until it is pruned"
            )
        )]
        copied_usage_retention: Duration,
    ) -> Result<Arc<dyn KeyStore>, Failure> {
        let (must_exist, migrate) = match opening {
            Opening::AsIs => (true, false),
            Opening::Migrating => (true, true),
            Opening::Creating => (false, true),
        };
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(path) => {
                let store = apikey_runtime::SqliteStore::new(path);
                Ok(Arc::new(store.must_exist(must_exist).migrate(migrate)))
            }
            #[cfg(feature = "postgres")]
            Self::Postgres { url, timeout } => {
                let mut store = apikey_runtime::PostgresStore::new(url);
                if let Some(timeout) = timeout {
                    store = store.timeout(*timeout);
                }
                Ok(Arc::new(store.must_exist(must_exist).migrate(migrate)))
            }
            #[cfg(feature = "redis")]
            Self::Redis {
                url,
                namespace,
                key_prefix,
            } => {
                let mut store = apikey_runtime::RedisStore::new(url)
                    .must_exist(must_exist)
                    .migrate(migrate)
                    .copied_usage_retention(copied_usage_retention);
                if let Some(namespace) = namespace {
                    store = store.namespace(namespace);
                }
                if let Some(prefix) = key_prefix {
                    store = store.key_prefix(prefix);
                }
                Ok(Arc::new(store))
            }
            #[allow(unreachable_patterns, reason = "reached if a feature is off")]
            _ => Err(self.not_built()),
        }
    }

    fn not_built(&self) -> Failure {
        let feature = self
            .kind()
            .to_ascii_lowercase()
            .replace("postgresql", "postgres");
        Failure::with_code(
            exit::ERROR,
            format!("this build of `apikey` does not know {}", self.kind()),
        )
        .remedy(format!(
            "install it with `cargo install apikey-cli --features {feature}`"
        ))
    }
}

/// Returns whether a text may be an address with a password: a URL, also a mistyped one, or the settings of a driver.
fn has_address(text: &str) -> bool {
    let begins = |scheme: &str| {
        let beginning = text.get(..scheme.len());
        beginning.is_some_and(|beginning| beginning.eq_ignore_ascii_case(scheme))
    };
    let schemes = ["postgres:", "postgresql:", "redis:", "rediss:"];
    text.contains("://") || text.contains(['=', '@']) || schemes.into_iter().any(begins)
}

/// Refuses what may be an address as the path of a file or the name of a variable, and does not repeat it: it may have a
/// password. A file that exists is none.
pub(crate) fn refuse_address(path: &Path) -> Result<(), Failure> {
    match has_address(&path.to_string_lossy()) && !path.exists() {
        false => Ok(()),
        true => Err(Failure::usage(
            "an argument has a store's address instead of a path or a name",
        )
        .remedy(format!(
            "set `{VARIABLE}` to the address, or add `--store-file FILE` with a file that holds it; if the address has a \
             password, change the password, since each user of this machine could read it"
        ))),
    }
}

impl fmt::Debug for StoreAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreAddress")
            .field("kind", &self.kind())
            .finish_non_exhaustive()
    }
}
