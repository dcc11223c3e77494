//! The usage of a key, its limits, and what is known of its old secret, as its page shows them.

use apikey_runtime::limit::LimitStatus;
use apikey_runtime::usage::{LastUsed, RouteUsage, UsageReport};
use apikey_runtime::{KeyRecord, Timestamp};

use super::moment::Moment;
use super::{reserved, text};
use crate::chart::{self, Chart, DayCounts};

/// The usage of a key on the last days.
pub(super) struct UsageView {
    pub(super) chart: Chart,
    pub(super) days: Vec<DayCounts>,
    pub(super) allowed: u64,
    pub(super) denied: u64,
    /// The most that was allowed on a day.
    pub(super) most: u64,
    /// Why requests were denied, and how often.
    pub(super) reasons: Vec<(String, u64)>,
    pub(super) routes: Vec<UsedRoute>,
}

/// The usage of a route.
pub(super) struct UsedRoute {
    pub(super) route: String,
    pub(super) allowed: u64,
    pub(super) denied: u64,
    pub(super) chart: Chart,
}

impl UsageView {
    pub(super) fn of(record: &KeyRecord, report: &UsageReport, now: Timestamp) -> Self {
        let days = chart::last_days(&report.by_day(), now);
        let (allowed, denied) = chart::total(&days);
        let reasons = report.total().denied;
        let reasons = reasons
            .iter()
            .map(|(reason, count)| (reason.code().replace('-', " "), *count));
        let mut routes = report.by_route();
        let count = |route: &RouteUsage| route.counts.requests + route.counts.denials();
        routes.sort_by_key(|route| std::cmp::Reverse(count(route)));
        let most = routes.first().map_or(0, count);
        let routes = routes.into_iter().map(|usage| {
            let [allowed, denied] = [usage.counts.requests, usage.counts.denials()];
            UsedRoute {
                chart: chart::share(allowed, denied, most),
                route: route_name(usage.route),
                allowed,
                denied,
            }
        });
        Self {
            chart: chart::bars(&record.label, &days),
            allowed,
            denied,
            most: days.iter().map(|day| day.allowed).max().unwrap_or(0),
            reasons: reasons.collect(),
            routes: routes.collect(),
            days,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.allowed == 0 && self.denied == 0
    }
}

/// Returns a route as people read it: some stand for what does not have a pattern.
fn route_name(route: String) -> String {
    match route.as_str() {
        "/*" => "no route of the application".to_owned(),
        "-" => "checked by the application itself".to_owned(),
        "*" => "other routes".to_owned(),
        _ => route,
    }
}

/// A limit and what is left of it.
pub(super) struct LimitRow {
    pub(super) name: String,
    pub(super) rule: String,
    pub(super) left: u64,
    pub(super) most: u64,
    /// When all of it is available again, in words.
    pub(super) full: String,
}

impl LimitRow {
    pub(super) fn of(status: &LimitStatus) -> Self {
        let full = match status.reset_after {
            _ if status.remaining >= status.rule.largest_cost() => "unused".to_owned(),
            None => "does not come back".to_owned(),
            Some(time) => {
                let millis = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
                format!("full again in {}", text::span(millis))
            }
        };
        Self {
            name: status.name.clone(),
            rule: reserved::rule(status.rule),
            left: status.remaining,
            most: status.rule.largest_cost(),
            full,
        }
    }
}

/// The grace of the secret that a rotation replaced.
pub(super) struct GraceView {
    pub(super) until: Moment,
    /// How long it still is.
    pub(super) left: String,
    pub(super) old: Option<Moment>,
    /// The network of the old secret's last use.
    pub(super) old_network: Option<String>,
    pub(super) new: Option<Moment>,
}

impl GraceView {
    /// Returns the grace that a key has now; `None` if only its present secret works.
    pub(super) fn of(record: &KeyRecord, used: Option<&LastUsed>, now: Timestamp) -> Option<Self> {
        let previous = record.previous.as_ref()?;
        let left = previous.until.as_millis().checked_sub(now.as_millis())?;
        if left <= 0 {
            return None;
        }
        let moment = |at: Option<Timestamp>| at.map(|at| Moment::ago(at, now));
        let network = used.and_then(|used| used.superseded_network);
        Some(Self {
            until: Moment::exact(previous.until),
            left: text::span(left),
            old: moment(used.and_then(|used| used.superseded_at)),
            old_network: network.map(|network| network.to_string()),
            new: moment(used.and_then(|used| used.current_at)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use apikey_runtime::KeyId;

    #[test]
    fn a_grace_that_ended_is_not_shown() {
        let at = Timestamp::from_millis;
        let mut record = KeyRecord::new(KeyId::from_u128(1), "k", "ci", "sha256$x", at(0));
        assert!(GraceView::of(&record, None, at(0)).is_none());
        record.previous = Some(apikey_runtime::store::PreviousDigest {
            digest: "sha256$y".to_owned(),
            until: at(120_000),
        });
        let left = |now| GraceView::of(&record, None, at(now)).map(|grace| grace.left);
        assert_eq!(left(0).as_deref(), Some("2 minutes"));
        assert_eq!(left(119_999).as_deref(), Some("less than a minute"));
        assert_eq!(left(120_000), None);
    }

    #[test]
    fn what_is_not_a_route_is_told_in_words() {
        assert_eq!(route_name("/a".to_owned()), "/a");
        assert_eq!(route_name("*".to_owned()), "other routes");
    }
}
