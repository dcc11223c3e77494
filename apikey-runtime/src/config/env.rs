//! Settings from environment variables.

use super::Config;
use super::settings::{SETTINGS, Setting};
use crate::error::Error;

const NAMESPACE: &str = "ACTIX_API_KEY_";

impl Config {
    /// Reads the `ACTIX_API_KEY_*` environment variables.
    ///
    /// The name of a variable is `ACTIX_API_KEY_` and the name of a [setting](Config#settings) in
    /// capital letters, such as `ACTIX_API_KEY_HEADER_NAME`. A list is separated by commas. A
    /// setting without a variable has its default.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if a name is unknown, or if a value cannot be parsed or is rejected by
    /// [`ConfigBuilder::build`](super::ConfigBuilder::build).
    pub fn from_env() -> Result<Self, Error> {
        Self::from_env_allowing(&[])
    }

    /// Reads the environment as [`Config::from_env`] does, and ignores the variables named in
    /// `own`, which belong to the application. Write whole names, such as `ACTIX_API_KEY_DEMO`.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Config::from_env`].
    pub fn from_env_allowing(own: &[&str]) -> Result<Self, Error> {
        let ours = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            name.starts_with(NAMESPACE)
                .then_some((name, value.into_string().ok()))
        });
        from_variables(ours, own)
    }
}

/// A value is `None` if it is not Unicode.
fn from_variables(
    variables: impl IntoIterator<Item = (String, Option<String>)>,
    own: &[&str],
) -> Result<Config, Error> {
    let mut builder = Config::builder();
    for (name, value) in variables {
        let Some(suffix) = name.strip_prefix(NAMESPACE) else {
            continue;
        };
        if own.contains(&name.as_str()) {
            continue;
        }
        let value = value
            .ok_or_else(|| Error::Config(format!("`{name}` is not Unicode; write it as UTF-8")))?;
        let setting = SETTINGS
            .iter()
            .find(|setting| suffix_of(setting) == suffix)
            .ok_or_else(|| unknown(&name, suffix))?;
        (setting.read)(&mut builder, value).map_err(|_| {
            Error::Config(format!(
                "`{name}` is not a whole number in range; write digits only"
            ))
        })?;
    }
    builder.build()
}

/// Returns the name of a setting's variable without the namespace.
fn suffix_of(setting: &Setting) -> String {
    setting.name.to_ascii_uppercase()
}

fn unknown(name: &str, suffix: &str) -> Error {
    let known: Vec<String> = SETTINGS.iter().map(suffix_of).collect();
    let hint = match nearest(suffix, &known) {
        Some(near) => format!("did you mean `{NAMESPACE}{near}`?"),
        None => {
            let all = known.iter().map(|known| format!("`{NAMESPACE}{known}`"));
            format!("known are {}", all.collect::<Vec<_>>().join(", "))
        }
    };
    Error::Config(format!(
        "the environment variable `{name}` is not known; {hint}"
    ))
}

/// Returns the name in `known` with the smallest edit distance from `typed`, if it is near.
fn nearest<'k>(typed: &str, known: &'k [impl AsRef<str>]) -> Option<&'k str> {
    let (distance, name) = known
        .iter()
        .map(AsRef::as_ref)
        .map(|name| (strsim::levenshtein(typed, name), name))
        .min()?;
    (distance <= name.len() / 3 + 1).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_near_and_another_word_is_not() {
        let known = ["header_name", "header_type", "prefix"];
        assert_eq!(nearest("haeder_nam", &known), Some("header_name"));
        assert_eq!(nearest("prefixx", &known), Some("prefix"));
        assert_eq!(nearest("colour", &known), None);
        assert_eq!(nearest("", &["abc"]), None);
        assert_eq!(nearest("kitten", &["sitting"]), Some("sitting"));
    }

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
                ("ACTIX_API_KEY_LIMIT_PREFETCH", "50"),
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
