//! The settings of the rules for issuing keys.

use std::time::Duration;

use super::checks::{fault, within};
use super::settings::ConfigBuilder;
use crate::error::Error;
use crate::policy::{IssuePolicy, MAX_LIVE_KEYS, check_allowed_scopes};

/// The longest lifetime that a setting may name, in hours: 100 years.
pub(super) const MAX_HOURS: u64 = 876_000;

impl ConfigBuilder {
    /// Returns the rules for issuing keys.
    pub(super) fn issue_policy(&self) -> Result<IssuePolicy, Error> {
        let hours = |name, value, remedy| within(name, value, 1..=MAX_HOURS, ("hours", remedy));
        let max = hours("max_lifetime_hours", self.max_lifetime_hours, "`8760`")?;
        let default = hours(
            "default_lifetime_hours",
            self.default_lifetime_hours,
            "`2160`",
        )?;
        if let (Some(default), Some(max)) = (default, max)
            && default > max
        {
            return fault(format!(
                "`default_lifetime_hours` ({default}) is above `max_lifetime_hours` ({max}); write at most {max}"
            ));
        }
        let mut policy = IssuePolicy::unrestricted();
        policy.max_lifetime = max.map(Duration::from_hours);
        policy.default_lifetime = default.map(Duration::from_hours);
        policy.lifetime_required = self.lifetime_required.unwrap_or_default();
        policy.max_live_keys = within(
            "max_keys_per_owner",
            self.max_keys_per_owner,
            1..=MAX_LIVE_KEYS,
            ("live keys", "`10`, or leave it out"),
        )?;
        policy.allowed_scopes.clone_from(&self.allowed_scopes);
        match policy.allowed_scopes.as_deref() {
            Some([]) => fault(
                "`allowed_scopes` is empty; name the scopes that keys may have, or leave it out to allow all".to_owned(),
            ),
            Some(scopes) => check_allowed_scopes(scopes)
                .or_else(|why| fault(format!("`allowed_scopes`: {why}")))
                .map(|()| policy),
            None => Ok(policy),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const HOUR: Duration = Duration::from_hours(1);

    #[test]
    fn the_rules_are_read_from_data_and_set_in_code() {
        let data = r#"{
            "max_lifetime_hours": 720, "default_lifetime_hours": 24, "lifetime_required": true,
            "max_keys_per_owner": 3, "allowed_scopes": ["orders:read", "project:{id}:read"]
        }"#;
        let by_data: Config = serde_json::from_str(data).unwrap();
        let scopes = ["orders:read", "project:{id}:read"];
        let in_code = Config::builder()
            .max_lifetime(720 * HOUR)
            .default_lifetime(24 * HOUR)
            .lifetime_required(true)
            .max_keys_per_owner(3)
            .allowed_scopes(scopes);
        let policy = IssuePolicy::unrestricted()
            .with_max_lifetime(720 * HOUR)
            .with_default_lifetime(24 * HOUR)
            .with_lifetime_required(true)
            .with_max_live_keys(3)
            .with_allowed_scopes(scopes);
        for config in [by_data, in_code.build().unwrap()] {
            assert_eq!(*config.issue_policy(), policy);
        }
        let default = Config::default();
        assert_eq!(*default.issue_policy(), IssuePolicy::unrestricted());
    }

    #[test]
    fn rules_that_cannot_be_kept_together_are_an_error_at_the_start() {
        let lifetimes = |default, max| {
            let builder = Config::builder().default_lifetime(default * HOUR);
            builder.max_lifetime(max * HOUR).build()
        };
        let message = lifetimes(25, 24).unwrap_err().to_string();
        assert!(
            message.ends_with(
                "`default_lifetime_hours` (25) is above `max_lifetime_hours` (24); write at most 24"
            ),
            "{message}"
        );
        // Negative control.
        assert!(lifetimes(24, 24).is_ok());
        for (builder, name) in [
            (
                Config::builder().max_lifetime(HOUR / 2),
                "max_lifetime_hours",
            ),
            (
                Config::builder().default_lifetime(HOUR * 876_001),
                "default_lifetime_hours",
            ),
            (
                Config::builder().max_keys_per_owner(0),
                "max_keys_per_owner",
            ),
            (
                Config::builder().max_keys_per_owner(100_001),
                "max_keys_per_owner",
            ),
            (
                Config::builder().allowed_scopes(Vec::<String>::new()),
                "allowed_scopes",
            ),
            (Config::builder().allowed_scopes(["a:*"]), "allowed_scopes"),
        ] {
            let message = builder.build().unwrap_err().to_string();
            assert!(message.contains(&format!("`{name}`")), "{message}");
        }
    }
}
