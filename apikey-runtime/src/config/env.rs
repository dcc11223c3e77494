//! Settings from environment variables.

use super::Config;
use super::service_links::is_service_link;
use super::settings::{ConfigBuilder, NAMES, SETTINGS};
use super::unknown::suggestion;
use crate::error::Error;

const NAMESPACE: &str = "ACTIX_API_KEY_";

impl Config {
    /// Reads the `ACTIX_API_KEY_*` environment variables.
    ///
    /// The name of a variable is `ACTIX_API_KEY_` and the name of a [setting](Config#settings) in
    /// capital letters, such as `ACTIX_API_KEY_HEADER_NAME`. A list is separated by commas. A
    /// setting without a variable has its default. To replace the settings of a file, use
    /// [`ConfigBuilder::with_env`].
    ///
    /// Variables that Kubernetes adds for a service of this name (`ACTIX_API_KEY_PORT=tcp://..`,
    /// `.._SERVICE_HOST`, `.._SERVICE_PORT`, `.._PORT_80_TCP` and so on) are ignored.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if a name is unknown, or if a value cannot be parsed or is rejected by
    /// [`ConfigBuilder::build`].
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
        Self::builder().with_env_allowing(own)?.build()
    }
}

impl ConfigBuilder {
    /// Replaces the settings for which the environment has a variable, as [`Config::from_env`]
    /// reads them.
    ///
    /// Call it between the file and the code, so that code precedes the environment, the
    /// environment a file, and a file the defaults:
    ///
    /// ```
    /// use apikey_runtime::ConfigBuilder;
    ///
    /// let file = r#"{ "prefix": "acme", "store_timeout_ms": 500 }"#;
    /// let file: ConfigBuilder = serde_json::from_str(file)?;
    /// let config = file.with_env()?.header_name("X-API-Key").build()?;
    /// assert_eq!((config.prefix(), config.header_name()), ("acme", "X-API-Key"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// `prefix` and `prefixes` are one setting for this purpose: the later source replaces both.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if a name is unknown, or if a value cannot be parsed.
    pub fn with_env(self) -> Result<Self, Error> {
        self.with_env_allowing(&[])
    }

    /// Reads the environment as [`with_env`](Self::with_env) does, and ignores the variables named
    /// in `own`, as [`Config::from_env_allowing`] does.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`with_env`](Self::with_env).
    pub fn with_env_allowing(self, own: &[&str]) -> Result<Self, Error> {
        let ours = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            name.starts_with(NAMESPACE)
                .then_some((name, value.into_string().ok()))
        });
        self.with_variables(ours, own)
    }

    /// A value is `None` if it is not Unicode.
    fn with_variables(
        mut self,
        variables: impl IntoIterator<Item = (String, Option<String>)>,
        own: &[&str],
    ) -> Result<Self, Error> {
        let below = (self.prefix.take(), self.prefixes.take());
        for (name, value) in variables {
            let Some(suffix) = name.strip_prefix(NAMESPACE) else {
                continue;
            };
            if own.contains(&name.as_str()) {
                continue;
            }
            self.set_variable(&name, suffix, value)?;
        }
        if self.prefix.is_none() && self.prefixes.is_none() {
            (self.prefix, self.prefixes) = below;
        }
        Ok(self)
    }

    /// Sets the setting of a variable.
    fn set_variable(
        &mut self,
        name: &str,
        suffix: &str,
        value: Option<String>,
    ) -> Result<(), Error> {
        let setting = SETTINGS
            .iter()
            .find(|setting| variable(setting.name) == name);
        let Some(setting) = setting else {
            if value.is_some_and(|value| is_service_link(suffix, &value)) {
                return Ok(());
            }
            let hint = suggestion(suffix, NAMES, variable);
            let message = format!("the environment variable `{name}` is not known; {hint}");
            return Err(Error::Config(message));
        };
        let value = value
            .ok_or_else(|| Error::Config(format!("`{name}` is not Unicode; write it as UTF-8")))?;
        (setting.read)(self, value).map_err(|why| Error::Config(format!("`{name}` {why}")))?;
        self.from_env.push(setting.name);
        Ok(())
    }

    /// Names variables, in place of settings, in a message about values from the environment.
    pub(super) fn name_variables(&self, error: Error) -> Error {
        let Error::Config(message) = error else {
            return error;
        };
        let named = |message: String, name: &&str| {
            message.replace(&format!("`{name}`"), &format!("`{}`", variable(name)))
        };
        Error::Config(self.from_env.iter().fold(message, named))
    }
}

/// Returns the name of a setting's variable.
fn variable(setting: &str) -> String {
    format!("{NAMESPACE}{}", setting.to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)], own: &[&str]) -> Result<Config, Error> {
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned())));
        Config::builder().with_variables(variables, own)?.build()
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
                ("ACTIX_API_KEY_EXPIRY_NOTICE_DAYS", "3, 14"),
                ("ACTIX_API_KEY_DEPRECATION_HEADERS", "true"),
                ("ACTIX_API_KEY_STORE_TIMEOUT_MS", "500"),
                ("ACTIX_API_KEY_CACHE_CAPACITY", "10"),
                ("ACTIX_API_KEY_DEFAULT_RATE_LIMIT", "100/minute burst 20"),
                ("ACTIX_API_KEY_FAILED_ATTEMPTS", "off"),
                ("ACTIX_API_KEY_LIMIT_PREFETCH", "50"),
                ("ACTIX_API_KEY_COUNTER_NAMESPACE", "orders"),
                ("ACTIX_API_KEY_USAGE_FLUSH_INTERVAL_MS", "300"),
                ("ACTIX_API_KEY_USAGE_RETENTION_HOURS", "5"),
                ("ACTIX_API_KEY_USAGE_ROLL_UP_AFTER_HOURS", "3"),
                ("ACTIX_API_KEY_USAGE_NETWORK_PRECISION", "16/32"),
                ("ACTIX_API_KEY_LIFETIME_REQUIRED", "True"),
                ("ACTIX_API_KEY_ALLOWED_SCOPES", "a, b:{id}"),
                ("ACTIX_API_KEY_AUDIT_RETENTION_HOURS", "48"),
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
        assert_eq!(config.expiry_notice_days(), [14, 3]);
        assert!(config.deprecation_headers());
        let rate = crate::limit::Rate::per_minute(100).with_burst(20);
        assert_eq!(
            (config.default_rate_limit(), config.failed_attempts()),
            (Some(rate), None)
        );
        assert_eq!(
            (config.limit_prefetch(), config.counter_namespace()),
            (50, "orders")
        );
        assert_eq!(config.usage_flush_interval().as_millis(), 300);
        assert_eq!(config.usage_retention().as_secs(), 5 * 3_600);
        assert_eq!(config.usage_roll_up_after().as_secs(), 3 * 3_600);
        let precision = config.usage_network_precision().unwrap();
        assert_eq!(precision.to_string(), "16/32");
        let policy = config.issue_policy();
        assert!(policy.lifetime_required);
        let scopes = ["a", "b:{id}"].map(str::to_owned).to_vec();
        assert_eq!(policy.allowed_scopes, Some(scopes));
        assert_eq!(config.audit_retention().as_secs(), 48 * 3_600);
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

    #[test]
    fn an_unknown_name_is_answered_with_the_unit_of_the_right_one() {
        for (name, end) in [
            (
                "STORE_TIMEOUT",
                "did you mean `ACTIX_API_KEY_STORE_TIMEOUT_MS`, in milliseconds?",
            ),
            (
                "USAGE_RETENTION_DAYS",
                "did you mean `ACTIX_API_KEY_USAGE_RETENTION_HOURS`, in hours?",
            ),
        ] {
            let name = format!("ACTIX_API_KEY_{name}");
            let error = read(&[(&name, "5")], &[]).unwrap_err().to_string();
            assert!(error.contains(&name) && error.ends_with(end), "{error}");
        }
        let file = serde_json::from_str::<ConfigBuilder>(r#"{ "store_timeout": 5 }"#);
        let error = file.unwrap_err().to_string();
        let hint = "the setting `store_timeout` is not known; did you mean `store_timeout_ms`, in milliseconds?";
        assert!(error.starts_with(hint), "{error}");
    }

    /// One of the two values is wrong for each setting but one.
    #[test]
    fn a_message_about_a_value_of_the_environment_names_the_variable() {
        let long = "ä".repeat(200);
        for name in NAMES {
            if *name == "cache_capacity" {
                // Accepts every number.
                continue;
            }
            let variable = variable(name);
            let wrong = ["0", &long].map(|value| read(&[(&variable, value)], &[]));
            let error = wrong.into_iter().find_map(Result::err).unwrap().to_string();
            assert!(error.contains(&format!("`{variable}`")), "{name}: {error}");
            assert!(!error.contains(&format!("`{name}`")), "{name}: {error}");
            assert!(!error.contains(&long), "{name}: {error}");
        }
        // Control: a value from elsewhere is named as it is written there.
        let file: ConfigBuilder = serde_json::from_str(r#"{ "body_limit": 0 }"#).unwrap();
        let error = file.build().unwrap_err().to_string();
        assert!(error.contains("`body_limit`"), "{error}");
    }

    fn layered(file: &str, variables: &[(&str, &str)]) -> ConfigBuilder {
        let file: ConfigBuilder = serde_json::from_str(file).unwrap();
        let variables = variables
            .iter()
            .map(|(name, value)| (variable(name), Some((*value).to_owned())));
        file.with_variables(variables, &[]).unwrap()
    }

    #[test]
    fn code_precedes_the_environment_and_the_environment_a_file() {
        let file =
            r#"{ "realm": "file", "header_name": "X-File", "secret_length": 40, "body_limit": 7 }"#;
        let variables = [
            ("realm", "env"),
            ("header_name", "X-Env"),
            ("body_limit", "0"),
        ];
        let builder = layered(file, &variables).realm("code").body_limit(9);
        let config = builder.build().unwrap();
        assert_eq!(
            (config.realm(), config.header_name(), config.secret_length()),
            (Some("code"), "X-Env", 40)
        );
        assert_eq!(config.body_limit(), 9);
        assert_eq!(config.param_name(), "api_key");
        // The message is about the value of the code.
        let error = layered(file, &variables).body_limit(0).build().unwrap_err();
        assert!(error.to_string().contains("`body_limit`"), "{error}");
    }

    #[test]
    fn a_later_source_replaces_both_names_of_the_prefixes() {
        let prefixes = |builder: ConfigBuilder| builder.build().unwrap().prefixes().join(",");
        let (one, several) = (r#"{ "prefix": "file" }"#, r#"{ "prefixes": ["f", "g"] }"#);
        assert_eq!(prefixes(layered(one, &[("prefixes", "e,f")])), "e,f");
        assert_eq!(prefixes(layered(several, &[("prefix", "e")])), "e");
        assert_eq!(prefixes(layered(several, &[])), "f,g");
        let env = || layered(one, &[("prefixes", "e,f")]);
        assert_eq!(prefixes(env().prefix("code")), "code");
        let env = || layered(one, &[("prefix", "e")]);
        assert_eq!(prefixes(env().prefixes(["c", "d"])), "c,d");
        // Control: two of one source are an error.
        let both = layered("{}", &[("prefix", "e"), ("prefixes", "e,f")]);
        let error = both.build().unwrap_err().to_string();
        assert!(
            error.contains("`ACTIX_API_KEY_PREFIX` and `ACTIX_API_KEY_PREFIXES` are both set"),
            "{error}"
        );
    }

    #[test]
    fn the_links_of_a_service_of_kubernetes_are_skipped() {
        let links = [
            ("ACTIX_API_KEY_SERVICE_HOST", "10.0.0.11"),
            ("ACTIX_API_KEY_SERVICE_PORT", "80"),
            ("ACTIX_API_KEY_PORT", "tcp://10.0.0.11:80"),
            ("ACTIX_API_KEY_PORT_80_TCP", "tcp://10.0.0.11:80"),
            ("ACTIX_API_KEY_PORT_80_TCP_PROTO", "tcp"),
            ("ACTIX_API_KEY_PORT_80_TCP_PORT", "80"),
            ("ACTIX_API_KEY_PORT_80_TCP_ADDR", "10.0.0.11"),
        ];
        assert_eq!(read(&links, &[]).unwrap(), Config::default());
        // Control: a slip that looks like one is an error.
        let error = read(&[("ACTIX_API_KEY_PORT", "8080")], &[]).unwrap_err();
        assert!(error.to_string().contains("ACTIX_API_KEY_PORT"), "{error}");
    }
}
