//! Settings from the environment.

use super::{Config, ConfigBuilder, closest};
use crate::error::Error;

const NAMESPACE: &str = "ACTIX_API_KEY_";

/// What can follow the namespace.
const NAMES: [&str; 21] = [
    "LOCATION",
    "HEADER_NAME",
    "HEADER_TYPE",
    "PARAM_NAME",
    "PREFIX",
    "PREFIXES",
    "SECRET_LENGTH",
    "SECRET_CHARSET",
    "REALM",
    "TRUSTED_PROXIES",
    "FORWARDED_HEADER",
    "BODY_LIMIT",
    "BODY_TIMEOUT_MS",
    "STORE_TIMEOUT_MS",
    "CACHE_CAPACITY",
    "DEFAULT_RATE_LIMIT",
    "FAILED_ATTEMPTS",
    "LIMIT_PREFETCH",
    "USAGE_FLUSH_INTERVAL_MS",
    "USAGE_RETENTION_HOURS",
    "USAGE_NETWORK_PRECISION",
];

impl Config {
    /// The settings that the environment's `ACTIX_API_KEY_*` variables give, such as
    /// `ACTIX_API_KEY_HEADER_NAME`. What is not set has its default. Each name is that of a method of
    /// [`ConfigBuilder`], which says what it means and its bounds:
    ///
    /// | after `ACTIX_API_KEY_` | value | default |
    /// |---|---|---|
    /// | `LOCATION` | `header`, `basic`, `query`, `cookie`, `json`, `form` | `header` |
    /// | `HEADER_NAME`, `HEADER_TYPE` | a header, and the scheme in it | `Authorization`, `Bearer` |
    /// | `PARAM_NAME` | the name of the parameter, cookie, member or field | `api_key` |
    /// | `PREFIX`, `PREFIXES` | one, or a list with commas | `my_api` |
    /// | `SECRET_LENGTH`, `SECRET_CHARSET` | characters, and of what they are | `64`, `ascii_62` |
    /// | `REALM` | a text | none |
    /// | `TRUSTED_PROXIES`, `FORWARDED_HEADER` | networks with commas, and `Forwarded` or `X-Forwarded-For` | none |
    /// | `BODY_LIMIT`, `BODY_TIMEOUT_MS` | bytes, milliseconds | `65536`, `5000` |
    /// | `STORE_TIMEOUT_MS` | milliseconds | `2000` |
    /// | `CACHE_CAPACITY` | keys | `100000` |
    /// | `DEFAULT_RATE_LIMIT` | a rate, such as `100/minute burst 20` | none |
    /// | `FAILED_ATTEMPTS` | a rate, or `off` | `1000/minute` |
    /// | `LIMIT_PREFETCH` | requests | `1` |
    /// | `USAGE_FLUSH_INTERVAL_MS` | milliseconds | `10000` |
    /// | `USAGE_RETENTION_HOURS` | hours | `2160` |
    /// | `USAGE_NETWORK_PRECISION` | bits of IPv4 and of IPv6, or `off` | `24/48` |
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a name that is not known, a value that cannot be read or that
    /// [`ConfigBuilder::build`] refuses.
    pub fn from_env() -> Result<Self, Error> {
        Self::from_env_allowing(&[])
    }

    /// As [`Config::from_env`], where the names of `own` (whole, such as `ACTIX_API_KEY_DEMO`) are
    /// the application's own and passed over.
    ///
    /// # Errors
    ///
    /// As [`Config::from_env`].
    pub fn from_env_allowing(own: &[&str]) -> Result<Self, Error> {
        let ours = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            name.starts_with(NAMESPACE)
                .then_some((name, value.into_string().ok()))
        });
        from_variables(ours, own)
    }
}

/// A value is `None` where it is not Unicode.
fn from_variables(
    variables: impl IntoIterator<Item = (String, Option<String>)>,
    own: &[&str],
) -> Result<Config, Error> {
    let mut builder = Config::builder();
    for (name, value) in variables {
        let Some(setting) = name.strip_prefix(NAMESPACE) else {
            continue;
        };
        if own.contains(&name.as_str()) {
            continue;
        }
        let value = value
            .ok_or_else(|| Error::Config(format!("`{name}` is not Unicode; write it anew")))?;
        builder = set(builder, &name, setting, value)?;
    }
    builder.build()
}

fn set(
    mut builder: ConfigBuilder,
    name: &str,
    setting: &str,
    value: String,
) -> Result<ConfigBuilder, Error> {
    let list = |value: &str| value.split(',').map(|one| one.trim().to_owned()).collect();
    match setting {
        "LOCATION" => builder.location = Some(value),
        "HEADER_NAME" => builder.header_name = Some(value),
        "HEADER_TYPE" => builder.header_type = Some(value),
        "PARAM_NAME" => builder.param_name = Some(value),
        "PREFIX" => builder.prefix = Some(value),
        "PREFIXES" => builder.prefixes = Some(list(&value)),
        "SECRET_LENGTH" => builder.secret_length = Some(number(name, &value)?),
        "SECRET_CHARSET" => builder.secret_charset = Some(value),
        "REALM" => builder.realm = Some(value),
        "TRUSTED_PROXIES" => builder.trusted_proxies = Some(list(&value)),
        "FORWARDED_HEADER" => builder.forwarded_header = Some(value),
        "BODY_LIMIT" => builder.body_limit = Some(number(name, &value)?),
        "BODY_TIMEOUT_MS" => builder.body_timeout_ms = Some(number(name, &value)?),
        "STORE_TIMEOUT_MS" => builder.store_timeout_ms = Some(number(name, &value)?),
        "CACHE_CAPACITY" => builder.cache_capacity = Some(number(name, &value)?),
        "DEFAULT_RATE_LIMIT" => builder.default_rate_limit = Some(value),
        "FAILED_ATTEMPTS" => builder.failed_attempts = Some(value),
        "LIMIT_PREFETCH" => builder.limit_prefetch = Some(number(name, &value)?),
        "USAGE_FLUSH_INTERVAL_MS" => builder.usage_flush_interval_ms = Some(number(name, &value)?),
        "USAGE_RETENTION_HOURS" => builder.usage_retention_hours = Some(number(name, &value)?),
        "USAGE_NETWORK_PRECISION" => builder.usage_network_precision = Some(value),
        _ => return Err(unknown(name, setting)),
    }
    Ok(builder)
}

fn number<N: std::str::FromStr>(name: &str, value: &str) -> Result<N, Error> {
    value.parse().map_err(|_| {
        Error::Config(format!(
            "`{name}` is no whole number in range; write digits only"
        ))
    })
}

fn unknown(name: &str, setting: &str) -> Error {
    let hint = match closest(setting, &NAMES) {
        Some(near) => format!("did you mean `{NAMESPACE}{near}`?"),
        None => format!(
            "known are {}",
            NAMES
                .map(|known| format!("`{NAMESPACE}{known}`"))
                .join(", ")
        ),
    };
    Error::Config(format!(
        "the environment variable `{name}` is not known; {hint}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)], own: &[&str]) -> Result<Config, Error> {
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned())));
        from_variables(variables, own)
    }

    #[test]
    fn every_setting_has_a_variable() {
        let config = read(
            &[
                ("ACTIX_API_KEY_LOCATION", "Header"),
                ("ACTIX_API_KEY_HEADER_NAME", "X-Key"),
                ("ACTIX_API_KEY_HEADER_TYPE", "Token"),
                ("ACTIX_API_KEY_PREFIXES", "new, old_1"),
                ("ACTIX_API_KEY_SECRET_LENGTH", "40"),
                ("ACTIX_API_KEY_SECRET_CHARSET", "hex"),
                ("ACTIX_API_KEY_PARAM_NAME", "key"),
                ("ACTIX_API_KEY_TRUSTED_PROXIES", "10.0.0.0/8, ::1"),
                ("ACTIX_API_KEY_FORWARDED_HEADER", "Forwarded"),
                ("ACTIX_API_KEY_BODY_LIMIT", "100"),
                ("ACTIX_API_KEY_BODY_TIMEOUT_MS", "200"),
                ("ACTIX_API_KEY_REALM", "orders"),
                ("ACTIX_API_KEY_STORE_TIMEOUT_MS", "500"),
                ("ACTIX_API_KEY_CACHE_CAPACITY", "10"),
                ("ACTIX_API_KEY_DEFAULT_RATE_LIMIT", "100/minute burst 20"),
                ("ACTIX_API_KEY_FAILED_ATTEMPTS", "off"),
                ("ACTIX_API_KEY_LIMIT_BATCH", "50"),
                ("ACTIX_API_KEY_USAGE_FLUSH_INTERVAL_MS", "300"),
                ("ACTIX_API_KEY_USAGE_RETENTION_HOURS", "5"),
                ("ACTIX_API_KEY_USAGE_NETWORK_PRECISION", "16/32"),
            ],
            &[],
        )
        .unwrap();
        assert_eq!(
            (config.header_name(), config.header_type()),
            ("X-Key", Some("Token"))
        );
        assert_eq!(config.prefixes(), ["new", "old_1"]);
        assert_eq!(
            (config.param_name(), config.trusted_proxies().len()),
            ("key", 2)
        );
        assert_eq!(
            (config.body_limit(), config.body_timeout().as_millis()),
            (100, 200)
        );
        assert_eq!((config.secret_length(), config.cache_capacity()), (40, 10));
        assert_eq!(
            (config.realm(), config.store_timeout().as_millis()),
            (Some("orders"), 500)
        );
        let rate = crate::limit::Rate::per_minute(100).with_burst(20);
        assert_eq!(
            (config.default_rate_limit(), config.failed_attempts()),
            (Some(rate), None)
        );
        assert_eq!(config.limit_prefetch(), 50);
        assert_eq!(config.usage_flush_interval().as_millis(), 300);
        assert_eq!(config.usage_retention().as_secs(), 5 * 3_600);
        let precision = config.usage_network_precision().unwrap();
        assert_eq!(precision.to_string(), "16/32");
        assert_eq!(
            read(&[("ACTIX_API_KEY_PREFIX", "acme")], &[])
                .unwrap()
                .prefix(),
            "acme"
        );
    }

    #[test]
    fn an_unknown_name_is_an_error_with_a_suggestion() {
        let error = read(&[("ACTIX_API_KEY_HEADER_NAM", "x")], &[])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("did you mean `ACTIX_API_KEY_HEADER_NAME`"),
            "{error}"
        );
        let error = read(&[("ACTIX_API_KEY_COLOUR", "x")], &[])
            .unwrap_err()
            .to_string();
        assert!(error.contains("known are"), "{error}");
        assert!(read(&[("ACTIX_API_KEY_COLOUR", "x")], &["ACTIX_API_KEY_COLOUR"]).is_ok());
    }

    #[test]
    fn a_value_that_is_no_number_is_named() {
        for value in ["", "-1", "1e3", "9999999999999999999999"] {
            let error = read(&[("ACTIX_API_KEY_SECRET_LENGTH", value)], &[])
                .unwrap_err()
                .to_string();
            assert!(error.contains("ACTIX_API_KEY_SECRET_LENGTH"), "{error}");
        }
    }
}
