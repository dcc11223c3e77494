//! Validation of settings into a [`Config`].

use std::time::Duration;

use super::Config;
use super::checks::{
    check, check_namespace, check_param, check_realm, check_secret, place, precision, prefixes,
    rate, token, within,
};
use super::expiry_notice;
use super::issue::MAX_HOURS;
use super::proxies::proxies;
use super::settings::ConfigBuilder;
use crate::error::Error;
use crate::key::Charset;

/// The longest interval between two writes of usage.
const MAX_FLUSH_INTERVAL_MILLIS: u64 = 3_600_000;

/// The shortest time after which an unused key is idle.
const MIN_IDLE_HOURS: u64 = 24;

// Other processes learn of a use an interval later, and the intervals in which a write fails.
const _: () = assert!(MIN_IDLE_HOURS * 3_600_000 >= 10 * MAX_FLUSH_INTERVAL_MILLIS);

impl ConfigBuilder {
    /// Validates the settings.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for the first setting that cannot work; the message says what to write. It
    /// names the environment variable if the value comes from one.
    pub fn build(mut self) -> Result<Config, Error> {
        self.prefer_code();
        self.validate().map_err(|error| self.name_variables(error))
    }

    /// Drops one of `prefix` and `prefixes` if it comes from the environment and the other was set
    /// after it.
    fn prefer_code(&mut self) {
        let from_env = |name| self.from_env.contains(&name);
        match (from_env("prefix"), from_env("prefixes")) {
            (true, false) if self.prefixes.is_some() => self.prefix = None,
            (false, true) if self.prefix.is_some() => self.prefixes = None,
            _ => {}
        }
    }

    fn validate(&self) -> Result<Config, Error> {
        let mut config = Config::default();
        self.locate(&mut config)?;
        self.shape_keys(&mut config)?;
        self.announce(&mut config)?;
        self.bound_requests(&mut config)?;
        self.count(&mut config)?;
        config.issue_policy = self.issue_policy()?;
        // Up to ten years.
        let retention = within(
            "audit_retention_hours",
            self.audit_retention_hours,
            24..=87_600,
            ("hours", "`8760`"),
        )?;
        set(
            &mut config.audit_retention,
            retention.map(Duration::from_hours),
        );
        Ok(config)
    }

    /// Sets the default location of a key.
    fn locate(&self, config: &mut Config) -> Result<(), Error> {
        config.place = place(self.location.as_deref())?;
        set(&mut config.header_name, self.header_name.clone());
        check("header_name", token(&config.header_name))?;
        config.header_key = config.header_name.to_ascii_lowercase();
        config.header_type = match self.header_type.as_deref() {
            Some("") => None,
            Some(scheme) => {
                check("header_type", token(scheme)).map(|()| Some(scheme.to_owned()))?
            }
            None => (config.header_key == "authorization").then(|| "Bearer".to_owned()),
        };
        set(&mut config.param_name, self.param_name.clone());
        check("param_name", check_param(&config.param_name))
    }

    /// Sets the form of new keys, and the accepted prefixes.
    fn shape_keys(&self, config: &mut Config) -> Result<(), Error> {
        let accepted = prefixes(self.prefix.clone(), self.prefixes.clone())?;
        set(&mut config.prefixes, accepted);
        let charset = self.secret_charset.as_deref().map(str::parse::<Charset>);
        set(&mut config.secret_charset, charset.transpose()?);
        set(&mut config.secret_length, self.secret_length);
        check_secret(config.secret_length, &config.secret_charset)
    }

    /// Sets how the end of a key is announced.
    fn announce(&self, config: &mut Config) -> Result<(), Error> {
        let days = self.expiry_notice_days.clone();
        let days = days.map(expiry_notice::sorted).transpose()?;
        set(&mut config.expiry_notice_days, days);
        let interval = within(
            "expiry_notice_interval_ms",
            self.expiry_notice_interval_ms,
            100..=3_600_000,
            ("milliseconds", "`60000`"),
        )?;
        set(
            &mut config.expiry_notice_interval,
            interval.map(Duration::from_millis),
        );
        set(&mut config.deprecation_headers, self.deprecation_headers);
        Ok(())
    }

    /// Sets the realm, the trusted proxies, and the bounds of a request.
    fn bound_requests(&self, config: &mut Config) -> Result<(), Error> {
        self.realm.as_deref().map_or(Ok(()), check_realm)?;
        config.realm.clone_from(&self.realm);
        (config.trusted_proxies, config.forwarded_header) = proxies(
            self.trusted_proxies.as_deref(),
            self.forwarded_header.as_deref(),
        )?;
        let bytes = ("bytes", "`65536`");
        let limit = within("body_limit", self.body_limit, 1..=16 * 1024 * 1024, bytes)?;
        set(&mut config.body_limit, limit);
        let millis = ("milliseconds", "`2000`");
        let body = within("body_timeout_ms", self.body_timeout_ms, 1..=60_000, millis)?;
        set(&mut config.body_timeout, body.map(Duration::from_millis));
        let store = within(
            "store_timeout_ms",
            self.store_timeout_ms,
            1..=60_000,
            millis,
        )?;
        set(&mut config.store_timeout, store.map(Duration::from_millis));
        let start = within(
            "start_timeout_ms",
            self.start_timeout_ms,
            1..=3_600_000,
            ("milliseconds", "`30000`"),
        )?;
        set(&mut config.start_timeout, start.map(Duration::from_millis));
        let patience = within(
            "watch_patience_ms",
            self.watch_patience_ms,
            1..=3_600_000,
            ("milliseconds", "`5000`"),
        )?;
        set(
            &mut config.watch_patience,
            patience.map(Duration::from_millis),
        );
        set(&mut config.cache_capacity, self.cache_capacity);
        Ok(())
    }

    /// Sets limits, and the collection of usage.
    fn count(&self, config: &mut Config) -> Result<(), Error> {
        let default = rate("default_rate_limit", self.default_rate_limit.as_deref())?;
        set(&mut config.default_rate_limit, default);
        let failed = rate("failed_attempts", self.failed_attempts.as_deref())?;
        set(&mut config.failed_attempts, failed);
        let requests = ("requests", "`1` to disable prefetching");
        let prefetch = within("limit_prefetch", self.limit_prefetch, 1..=1_000, requests)?;
        set(&mut config.limit_prefetch, prefetch);
        set(
            &mut config.counter_namespace,
            self.counter_namespace.clone(),
        );
        check(
            "counter_namespace",
            check_namespace(&config.counter_namespace),
        )?;
        let interval = within(
            "usage_flush_interval_ms",
            self.usage_flush_interval_ms,
            100..=MAX_FLUSH_INTERVAL_MILLIS,
            ("milliseconds", "`10000`"),
        )?;
        set(
            &mut config.usage_flush_interval,
            interval.map(Duration::from_millis),
        );
        // Up to ten years.
        let retention = within(
            "usage_retention_hours",
            self.usage_retention_hours,
            1..=87_600,
            ("hours", "`2160`"),
        )?;
        set(
            &mut config.usage_retention,
            retention.map(Duration::from_hours),
        );
        let age = within(
            "usage_roll_up_after_hours",
            self.usage_roll_up_after_hours,
            1..=87_600,
            ("hours", "`168`"),
        )?;
        set(
            &mut config.usage_roll_up_after,
            age.map(Duration::from_hours),
        );
        let bits = precision(self.usage_network_precision.as_deref())?;
        set(&mut config.usage_network_precision, bits);
        let idle = within(
            "idle_expiry_hours",
            self.idle_expiry_hours,
            MIN_IDLE_HOURS..=MAX_HOURS,
            ("hours", "`2160`, or leave it out"),
        )?;
        config.idle_expiry = idle.map(Duration::from_hours);
        Ok(())
    }
}

/// Replaces the default if the setting is given.
fn set<T>(target: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *target = given;
    }
}

impl TryFrom<ConfigBuilder> for Config {
    type Error = Error;

    fn try_from(builder: ConfigBuilder) -> Result<Self, Error> {
        builder.build()
    }
}
