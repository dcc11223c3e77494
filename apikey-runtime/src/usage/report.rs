//! Usage read from the store, in several views.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use super::tally::HOUR_MILLIS;
use crate::clock::Timestamp;
use crate::denied::DenyReason;
use crate::key::KeyId;
use crate::store::{Outcome, UsageRow};

const DAY_HOURS: i64 = 24;

/// Usage of keys in a span of time: read once, with several views. A view has only what was used:
/// an hour without a request is not in it.
#[derive(Debug, Clone, Default)]
pub struct UsageReport {
    rows: Vec<UsageRow>,
}

/// Counts of requests, by outcome.
///
/// When serialized, `denied` is a map from the reasons' [codes](DenyReason::code) to counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct UsageCounts {
    /// Allowed requests: those that passed all of their guards. A request counts once, no matter
    /// how many guards it passed. The handler's response is not considered.
    pub requests: u64,
    /// Their total cost: the routes' `cost`, in units of the key's limits.
    pub cost: u64,
    /// Requests denied although the key was right, by reason, sorted by the reasons' codes; without
    /// zero counts.
    #[serde(serialize_with = "as_map")]
    pub denied: Vec<(DenyReason, u64)>,
}

/// Usage in an hour or on a day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct UsageInterval {
    /// The start of the hour or of the day (UTC).
    pub start: Timestamp,
    /// The counts.
    #[serde(flatten)]
    pub counts: UsageCounts,
}

/// Usage of a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RouteUsage {
    /// The route's pattern, such as `/orders/{id}`.
    ///
    /// `/*` stands for requests that matched no route; a scope's pattern comes before it, if there
    /// is one. `-` stands for checks that the application made itself. `*` stands for routes beyond
    /// the number that is counted separately. If a route has several guards, the first one
    /// determines the route of an allowed request, and the guard that denied it that of a denied
    /// request.
    pub route: String,
    /// The counts.
    #[serde(flatten)]
    pub counts: UsageCounts,
}

/// Usage of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct KeyUsage {
    /// The key.
    pub key: KeyId,
    /// The counts.
    #[serde(flatten)]
    pub counts: UsageCounts,
}

/// Usage of a key per day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DailyKeyUsage {
    /// The key.
    pub key: KeyId,
    /// The days (UTC) on which it was used, in order of time.
    pub days: Vec<UsageInterval>,
}

impl UsageReport {
    pub(crate) fn new(rows: Vec<UsageRow>) -> Self {
        Self { rows }
    }

    /// Returns the counts of all rows together.
    #[must_use]
    pub fn total(&self) -> UsageCounts {
        let mut total = UsageCounts::default();
        self.rows.iter().for_each(|row| total.add(row));
        total
    }

    /// Returns the usage per hour, in order of time. A day that was
    /// [rolled up](crate::ConfigBuilder::usage_roll_up_after) is one interval, which starts with the day.
    #[must_use]
    pub fn by_hour(&self) -> Vec<UsageInterval> {
        self.by_periods_of(1)
    }

    /// Returns the usage per day (UTC), in order of time.
    #[must_use]
    pub fn by_day(&self) -> Vec<UsageInterval> {
        self.by_periods_of(DAY_HOURS)
    }

    /// Returns the usage per route, sorted by route.
    #[must_use]
    pub fn by_route(&self) -> Vec<RouteUsage> {
        let routes = self.by(|row| row.route.as_str()).into_iter();
        routes
            .map(|(route, counts)| RouteUsage {
                route: route.to_owned(),
                counts,
            })
            .collect()
    }

    /// Returns the usage per key, sorted by id.
    #[must_use]
    pub fn by_key(&self) -> Vec<KeyUsage> {
        let keys = self.by(|row| row.key).into_iter();
        keys.map(|(key, counts)| KeyUsage { key, counts }).collect()
    }

    /// Returns the usage per key and day (UTC), sorted by id.
    #[must_use]
    pub fn by_key_and_day(&self) -> Vec<DailyKeyUsage> {
        let mut keys = Vec::<DailyKeyUsage>::new();
        for ((key, day), counts) in self.by(|row| (row.key, row.hour.div_euclid(DAY_HOURS))) {
            let interval = UsageInterval::new(day, DAY_HOURS, counts);
            match keys.last_mut().filter(|last| last.key == key) {
                Some(last) => last.days.push(interval),
                None => keys.push(DailyKeyUsage {
                    key,
                    days: vec![interval],
                }),
            }
        }
        keys
    }

    /// Returns the rows themselves, in no particular order: one per key, route, hour and outcome. The row of
    /// a day that was rolled up has the first hour of the day.
    #[must_use]
    pub fn rows(&self) -> &[UsageRow] {
        &self.rows
    }

    fn by_periods_of(&self, hours: i64) -> Vec<UsageInterval> {
        let periods = self.by(|row| row.hour.div_euclid(hours)).into_iter();
        periods
            .map(|(period, counts)| UsageInterval::new(period, hours, counts))
            .collect()
    }

    fn by<'r, K: Ord>(&'r self, group: impl Fn(&'r UsageRow) -> K) -> BTreeMap<K, UsageCounts> {
        let mut groups = BTreeMap::<K, UsageCounts>::new();
        for row in &self.rows {
            groups.entry(group(row)).or_default().add(row);
        }
        groups
    }
}

impl UsageInterval {
    fn new(period: i64, hours: i64, counts: UsageCounts) -> Self {
        Self {
            start: Timestamp::from_millis(period.saturating_mul(hours * HOUR_MILLIS)),
            counts,
        }
    }
}

impl UsageCounts {
    /// Returns the number of denied requests, for all reasons.
    #[must_use]
    pub fn denials(&self) -> u64 {
        let counts = self.denied.iter().map(|(_, count)| *count);
        counts.fold(0, u64::saturating_add)
    }

    /// Returns the number of requests denied for `reason`.
    #[must_use]
    pub fn denied_for(&self, reason: DenyReason) -> u64 {
        let found = self.denied.iter().find(|(known, _)| *known == reason);
        found.map_or(0, |(_, count)| *count)
    }

    fn add(&mut self, row: &UsageRow) {
        let count = match row.outcome {
            Outcome::Allowed => &mut self.requests,
            Outcome::Denied(reason) => self.count_of(reason),
        };
        *count = count.saturating_add(row.requests);
        self.cost = self.cost.saturating_add(row.cost);
    }

    fn count_of(&mut self, reason: DenyReason) -> &mut u64 {
        let place = self
            .denied
            .binary_search_by_key(&reason.code(), |(known, _)| known.code());
        let place = place.unwrap_or_else(|place| {
            self.denied.insert(place, (reason, 0));
            place
        });
        &mut self.denied[place].1
    }
}

fn as_map<S: Serializer>(denied: &[(DenyReason, u64)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(denied.iter().map(|(reason, count)| (reason.code(), count)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(key: u128, route: &str, hour: i64, outcome: Outcome, requests: u64) -> UsageRow {
        UsageRow {
            requests,
            cost: if outcome == Outcome::Allowed {
                2 * requests
            } else {
                0
            },
            ..UsageRow::new(KeyId::from_u128(key), route, hour, outcome)
        }
    }

    fn report() -> UsageReport {
        let scope = Outcome::Denied(DenyReason::InsufficientScope);
        let rate = Outcome::Denied(DenyReason::RateLimited);
        UsageReport::new(vec![
            row(2, "/b", 25, Outcome::Allowed, 4),
            row(1, "/a", 23, Outcome::Allowed, 1),
            row(1, "/a", 24, Outcome::Allowed, 2),
            row(1, "/b", 24, rate, 8),
            row(1, "/a", 24, scope, 16),
            row(1, "/a", -1, scope, 32),
        ])
    }

    #[test]
    fn each_view_adds_up_to_the_total() {
        let report = report();
        let total = report.total();
        assert_eq!((total.requests, total.cost, total.denials()), (7, 14, 56));
        assert_eq!(total.denied_for(DenyReason::InsufficientScope), 48);
        assert_eq!(total.denied_for(DenyReason::Expired), 0);
        let reasons: Vec<_> = total.denied.iter().map(|(reason, _)| *reason).collect();
        assert_eq!(
            reasons,
            [DenyReason::InsufficientScope, DenyReason::RateLimited]
        );
        let sum = |counts: Vec<UsageCounts>| {
            let both =
                |(a, b): (u64, u64), one: &UsageCounts| (a + one.requests, b + one.denials());
            counts.iter().fold((0, 0), both)
        };
        let periods =
            |view: Vec<UsageInterval>| sum(view.into_iter().map(|one| one.counts).collect());
        assert_eq!(periods(report.by_hour()), (7, 56));
        assert_eq!(periods(report.by_day()), (7, 56));
        let routes = report.by_route().into_iter().map(|one| one.counts);
        assert_eq!(sum(routes.collect()), (7, 56));
        let keys = report.by_key().into_iter().map(|one| one.counts);
        assert_eq!(sum(keys.collect()), (7, 56));
    }

    #[test]
    fn hours_and_days_are_in_their_order_and_begin_when_they_begin() {
        let starts = |view: Vec<UsageInterval>| -> Vec<i64> {
            let hour = |one: &UsageInterval| one.start.as_millis() / HOUR_MILLIS;
            view.iter().map(hour).collect()
        };
        assert_eq!(starts(report().by_hour()), [-1, 23, 24, 25]);
        assert_eq!(starts(report().by_day()), [-24, 0, 24]);
    }

    #[test]
    fn a_report_is_written_as_flat_rows_with_reasons_by_their_codes() {
        let day = &report().by_day()[2];
        assert_eq!(
            serde_json::to_string(day).unwrap(),
            r#"{"start":"1970-01-02T00:00:00.000Z","requests":6,"cost":12,"denied":{"insufficient-scope":16,"rate-limited":8}}"#
        );
    }
}
