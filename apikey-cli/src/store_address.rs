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
            Some("redis" | "rediss" | "unix" | "redis+unix") => Self::redis(text),
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

    /// Takes our own parameters, `namespace` and `key_prefix`, out of the URL. A parameter that neither this program nor the
    /// client knows is refused: a misspelt one would lead to another store.
    fn redis(url: &str) -> Result<Self, Failure> {
        let (url, fragment) = match url.find('#') {
            Some(at) => url.split_at(at),
            None => (url, ""),
        };
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let known = match base.starts_with("unix:") || base.starts_with("redis+unix:") {
            true => &["protocol", "db", "user", "pass"][..],
            false => &["protocol"],
        };
        let (mut namespace, mut key_prefix, mut rest) = (None, None, Vec::new());
        let pairs = (1..).zip(query.split('&'));
        for (place, pair) in pairs.filter(|(_, pair)| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "namespace" => namespace = Some(decoded(name, value)?),
                "key_prefix" => key_prefix = Some(decoded(name, value)?),
                name if known.contains(&name) => rest.push(pair),
                // Its place and not its name, which may be a part of the password.
                _ => return Err(unknown_parameter(place, known)),
            }
        }
        let query = match rest.is_empty() {
            true => String::new(),
            false => format!("?{}", rest.join("&")),
        };
        Ok(Self::Redis {
            url: format!("{base}{query}{fragment}"),
            namespace,
            key_prefix,
        })
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

    /// Adds to a failure which store it is about, if the address may be shown.
    pub(crate) fn explained(&self, failure: Failure) -> Failure {
        match self {
            Self::Sqlite(path) => failure.in_file(path),
            Self::Postgres { .. } | Self::Redis { .. } => failure,
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
            "install it with `--features {feature}`, as in `cargo install --path apikey-cli --features {feature}`"
        ))
    }
}

fn unknown_parameter(place: usize, known: &[&str]) -> Failure {
    Failure::usage(format!(
        "parameter {place} after the `?` of the store's address is not known"
    ))
    .remedy(format!(
        "write `namespace`, `key_prefix` or `{}`, and a `?` of a password as `%3F`",
        known.join("`, `")
    ))
}

/// Decodes the value of a parameter, `%2F` as `/`.
fn decoded(name: &str, value: &str) -> Result<String, Failure> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((first, others)) = rest.split_first() {
        let digits = others.get(..2).filter(|_| *first == b'%');
        let byte = digits
            .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = match byte {
            Some(_) => &others[2..],
            None => others,
        };
    }
    String::from_utf8(bytes).map_err(|_not_text| {
        Failure::usage(format!(
            "the value of `{name}` in the store's address is not text when it is decoded"
        ))
        .remedy("write a `%` as `%25`")
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn redis(address: &str) -> Result<(String, Option<String>, Option<String>), String> {
        match StoreAddress::parse(address) {
            Ok(StoreAddress::Redis {
                url,
                namespace,
                key_prefix,
            }) => Ok((url, namespace, key_prefix)),
            Ok(other) => panic!("{other:?}"),
            Err(failure) => Err(failure.text_without("")),
        }
    }

    #[test]
    fn the_parameters_of_a_redis_address_are_decoded_or_left_to_the_client() {
        let text = |text: &str| Some(text.to_owned());
        let url = "redis://u:pw@h/0?protocol=3&namespace=or%64ers%3A%C3%A9&key_prefix=a%zz#x";
        assert_eq!(
            redis(url).unwrap(),
            (
                "redis://u:pw@h/0?protocol=3#x".to_owned(),
                text("orders:é"),
                text("a%zz")
            )
        );
        let socket = "unix:///run/redis.sock?db=2&user=u&pass=pw&namespace=a";
        let (url, namespace, _) = redis(socket).unwrap();
        assert_eq!(url, "unix:///run/redis.sock?db=2&user=u&pass=pw");
        assert_eq!(namespace, text("a"));
    }

    #[test]
    fn a_parameter_that_is_not_known_is_refused_and_no_password_is_repeated() {
        for (address, place) in [
            ("redis://u:p4ss@h/0?namepsace=orders", 1),
            ("redis://u:p4ss@h/0?namespace=a&db=2", 2),
            ("redis://u:x?p4ss@h/0", 1),
            ("unix:///run/redis.sock?pass=p4ss&Namespace=a", 2),
        ] {
            let error = redis(address).unwrap_err();
            let told = format!("parameter {place} after the `?`");
            assert!(
                error.contains(&told) && error.contains("namespace"),
                "{error}"
            );
            assert!(!error.contains("p4ss"), "{error}");
        }
        let error = redis("redis://u:p4ss@h/0?namespace=%ff").unwrap_err();
        assert!(
            error.contains("not text") && !error.contains("p4ss"),
            "{error}"
        );
    }
}
