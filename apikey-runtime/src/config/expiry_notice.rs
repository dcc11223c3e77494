//! When the holder of a key is told that it ends.

use super::Config;
use super::checks::fault;
use crate::clock::Timestamp;
use crate::error::Error;

/// The maximum number of thresholds.
const MAX_THRESHOLDS: usize = 10;

/// The earliest threshold: ten years.
const MAX_DAYS: u32 = 3_650;

const DAY_MILLIS: i64 = 86_400_000;

/// Checks the thresholds, and sorts them, the largest first.
pub(super) fn sorted(mut days: Vec<u32>) -> Result<Vec<u32>, Error> {
    days.sort_unstable_by(|one, other| other.cmp(one));
    let bounded = days.iter().all(|days| (1..=MAX_DAYS).contains(days));
    if days.len() > MAX_THRESHOLDS || !bounded || days.windows(2).any(|pair| pair[0] == pair[1]) {
        return fault(format!(
            "`expiry_notice_days` is at most {MAX_THRESHOLDS} different numbers of days, each 1 to {MAX_DAYS}; \
             write them as in `30,7,1`"
        ));
    }
    Ok(days)
}

impl Config {
    /// Returns whether a key with this expiry is within the first threshold before it.
    #[inline]
    pub(crate) fn is_expiry_near(&self, expires: Timestamp, now: Timestamp) -> bool {
        let left = expires.as_millis().saturating_sub(now.as_millis());
        left <= self.notice_millis()
    }

    /// Returns the beginning of the first threshold before an expiry.
    pub(crate) fn notice_start(&self, expires: Timestamp) -> Timestamp {
        let start = expires.as_millis().saturating_sub(self.notice_millis());
        Timestamp::from_millis(start)
    }

    /// Returns the first threshold. Without one, a key that is not expired is never near its expiry.
    #[inline]
    fn notice_millis(&self) -> i64 {
        let days = self.expiry_notice_days.first().copied().unwrap_or(0);
        i64::from(days) * DAY_MILLIS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(days: &[u32]) -> Result<Config, Error> {
        Config::builder()
            .expiry_notice_days(days.iter().copied())
            .build()
    }

    #[test]
    fn thresholds_are_sorted_and_have_their_bounds() {
        let config = built(&[1, 3_650, 7]).unwrap();
        assert_eq!(config.expiry_notice_days(), [3_650, 7, 1]);
        assert_eq!(built(&[30, 7, 1]).unwrap(), Config::default());
        assert!(built(&[]).unwrap().expiry_notice_days().is_empty());
        let many: Vec<_> = (1..=11).collect();
        built(&many[..10]).unwrap();
        for days in [&[0][..], &[3_651], &[u32::MAX], &[7, 1, 7], &many] {
            let message = built(days).unwrap_err().to_string();
            assert!(
                message.contains("`expiry_notice_days` is at most 10"),
                "{message}"
            );
        }
    }

    #[test]
    fn thresholds_come_from_data_too() {
        let data = r#"{ "expiry_notice_days": [14], "deprecation_headers": true }"#;
        let config: Config = serde_json::from_str(data).unwrap();
        assert_eq!(config.expiry_notice_days(), [14]);
        assert!(config.deprecation_headers());
    }

    #[test]
    fn an_expiry_is_near_within_the_first_threshold_only() {
        let at = Timestamp::from_millis;
        let config = built(&[1, 2]).unwrap();
        let end = at(10 * DAY_MILLIS);
        assert!(!config.is_expiry_near(end, at(8 * DAY_MILLIS - 1)));
        assert!(config.is_expiry_near(end, at(8 * DAY_MILLIS)));
        assert_eq!(config.notice_start(end), at(8 * DAY_MILLIS));
        assert!(!config.is_expiry_near(Timestamp::MAX, at(0)));
        let off = built(&[]).unwrap();
        assert!(!off.is_expiry_near(end, at(10 * DAY_MILLIS - 1)));
        assert_eq!(off.notice_start(Timestamp::MIN), Timestamp::MIN);
    }
}
