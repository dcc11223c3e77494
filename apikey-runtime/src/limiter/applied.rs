//! A limit that applies to a request.

use std::borrow::Cow;
use std::sync::Arc;

use super::plan::{DEFAULT, Plan, PreparedLimit, counter_name, hash_route};
use crate::limit::{LimitDecision, LimitRule, Rate};
use crate::store::{LimitCounter, LimitSupport};

/// A limit that a request counts against, with the request's cost and the limit's decision.
#[derive(Debug, Clone)]
pub(crate) struct AppliedLimit {
    pub(crate) source: LimitSource,
    /// Identifies the counter's name in this process.
    pub(crate) hash: u64,
    pub(crate) rule: LimitRule,
    /// Numbers the different rates of one route that a request counts against, from 1.
    pub(crate) number: u32,
    pub(crate) cost: u32,
    pub(crate) counted_by: CountedBy,
    /// The uptime at which it was charged, or at which the charge was sent.
    pub(crate) at_nanos: u64,
    /// The `tat` before the charge, of a rate that this process counts.
    pub(crate) former_tat: i64,
    /// `None` before the charge.
    pub(crate) decision: Option<LimitDecision>,
}

/// The origin of a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LimitSource {
    /// A limit of the key: the index in its plan.
    Key(u16),
    /// The default limit of the configuration, for keys without limits of their own.
    Default,
    /// The rate of a route that the policy names.
    Route(&'static str),
    /// The rate of a route, named by its pattern.
    Pattern(Arc<str>),
    /// A limit that the key had when it was charged, and may no longer have.
    FormerPlan {
        shown: Arc<str>,
        counter: Arc<LimitCounter>,
    },
}

/// What counts a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CountedBy {
    /// This process.
    Process,
    /// The key store.
    Store,
    /// Nothing: the key store does not support it.
    Unsupported,
}

impl CountedBy {
    fn of(rule: LimitRule, support: Option<LimitSupport>) -> Self {
        match (rule, support) {
            (_, Some(LimitSupport::All)) | (LimitRule::Quota(_), Some(LimitSupport::Quotas)) => {
                Self::Store
            }
            (LimitRule::Rate(_), _) => Self::Process,
            (LimitRule::Quota(_), None) => Self::Unsupported,
        }
    }
}

impl LimitSource {
    /// Returns whether the limit belongs to the key and not to a route.
    pub(crate) fn is_of_key(&self) -> bool {
        matches!(self, Self::Key(_) | Self::Default | Self::FormerPlan { .. })
    }

    /// Returns the kind of name that a route's rate has, and the name.
    fn of_route(&self) -> Option<(&'static str, &str)> {
        match self {
            Self::Route(name) => Some(("route", name)),
            Self::Pattern(name) => Some(("pattern", name)),
            Self::Key(_) | Self::Default | Self::FormerPlan { .. } => None,
        }
    }
}

/// Pins the names of limits whose plan the key no longer has.
pub(crate) fn pin_former_plan(
    applied: &mut [AppliedLimit],
    made_by: Option<&Arc<Plan>>,
    now: Option<&Arc<Plan>>,
) {
    let Some(plan) = made_by.filter(|plan| !now.is_some_and(|now| Arc::ptr_eq(plan, now))) else {
        return;
    };
    for limit in applied {
        if let LimitSource::Key(place) = limit.source
            && let Some(prepared) = plan.0.get(usize::from(place))
        {
            limit.source = LimitSource::FormerPlan {
                shown: prepared.limit.name().into(),
                counter: Arc::new(prepared.counter.clone()),
            };
        }
    }
}

impl AppliedLimit {
    /// Applies a limit of a plan.
    pub(crate) fn of_plan(
        prepared: &PreparedLimit,
        source: LimitSource,
        cost: u32,
        support: Option<LimitSupport>,
    ) -> Self {
        let rule = prepared.limit.rule();
        Self {
            source,
            hash: prepared.hash,
            rule,
            number: 1,
            cost,
            counted_by: CountedBy::of(rule, support),
            at_nanos: 0,
            former_tat: 0,
            decision: None,
        }
    }

    /// Applies the rate of a route; returns `None` if an earlier guard charged it.
    ///
    /// An app and a scope inside it may both have a rate for one route. Different rates are counted
    /// separately.
    pub(crate) fn of_route(
        source: LimitSource,
        rate: Rate,
        cost: u32,
        support: Option<LimitSupport>,
        earlier: &[Self],
    ) -> Option<Self> {
        let rule = LimitRule::Rate(rate);
        let mut number = 1;
        for charged in earlier.iter().filter(|limit| limit.source == source) {
            if charged.rule == rule {
                return None;
            }
            number += 1;
        }
        Some(Self {
            hash: hash_route(source.of_route().unwrap_or_default(), rate),
            source,
            rule,
            number,
            cost,
            counted_by: CountedBy::of(rule, support),
            at_nanos: 0,
            former_tat: 0,
            decision: None,
        })
    }

    /// Returns whether both are the same limit, charged by two guards.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        (&self.source, self.rule) == (&other.source, other.rule)
    }

    /// Returns the counter that a store uses. `own` is the key's plan, `default` the
    /// configuration's.
    pub(crate) fn counter(
        &self,
        own: Option<&Plan>,
        default: Option<&Plan>,
        namespace: &str,
    ) -> LimitCounter {
        let of_plan = |plan: Option<&Plan>, place: u16| {
            let prepared = plan.and_then(|plan| plan.0.get(usize::from(place)));
            prepared.map(|one| one.counter.clone())
        };
        let counter = match (&self.source, self.rule) {
            (LimitSource::Key(place), _) => of_plan(own, *place),
            (LimitSource::Default, _) => of_plan(default, 0),
            (LimitSource::FormerPlan { counter, .. }, _) => Some(LimitCounter::clone(counter)),
            (route, LimitRule::Rate(rate)) => route
                .of_route()
                .map(|route| LimitCounter::new(&counter_name(namespace, route, rate), rate)),
            (_, LimitRule::Quota(_)) => None,
        };
        counter.unwrap_or_else(|| LimitCounter::new("", self.rule))
    }

    /// Returns the name that clients and people see.
    pub(crate) fn display_name<'n>(&'n self, own: Option<&'n Plan>) -> Cow<'n, str> {
        let name = match &self.source {
            LimitSource::Key(place) => own
                .and_then(|plan| plan.0.get(usize::from(*place)))
                .map_or("", |one| one.limit.name()),
            LimitSource::Default => DEFAULT,
            // Clients need not know the module of the handler.
            LimitSource::Route(name) => name.rsplit("::").next().unwrap_or(name),
            LimitSource::Pattern(name) => name,
            LimitSource::FormerPlan { shown, .. } => shown,
        };
        match self.number {
            1 => Cow::Borrowed(name),
            number => Cow::Owned(format!("{name}#{number}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::limit::{Limit, Quota};

    fn route(source: LimitSource, rate: Rate) -> AppliedLimit {
        AppliedLimit::of_route(source, rate, 1, Some(LimitSupport::All), &[]).unwrap()
    }

    /// A counter is named by all that it counts, and a name of one source is not one of another.
    #[test]
    fn each_limit_has_a_counter_of_its_own() {
        let rates = [
            Rate::per_minute(5),
            Rate::per_second(100).with_burst(5),
            Rate::per_minute(5).with_burst(1),
        ];
        let long = "/x".repeat(200);
        let routes = ["default", "a#2", "a", "", ":", "5/minute:a", long.as_str()];
        let (mut counters, mut hashes, mut count) = (HashSet::new(), HashSet::new(), 0);
        let mut add = |limit: &AppliedLimit, counter: LimitCounter, namespace: &str| {
            let name = counter.name().to_owned();
            assert!(counters.insert(name.clone()), "{name}");
            // The table of this process belongs to one service.
            assert!(!namespace.is_empty() || hashes.insert(limit.hash), "{name}");
            count += 1;
        };
        for namespace in ["", "a", "default", "route", "pattern"] {
            for rate in rates {
                let plan = Plan::of_default(rate, namespace);
                let limit = AppliedLimit::of_plan(&plan.0[0], LimitSource::Default, 1, None);
                add(
                    &limit,
                    limit.counter(None, Some(&plan), namespace),
                    namespace,
                );
                for name in routes {
                    let pattern = LimitSource::Pattern(name.into());
                    // In a test the name may live as long as the process.
                    let named = LimitSource::Route(String::leak(name.to_owned()));
                    for source in [pattern, named] {
                        let limit = route(source, rate);
                        add(&limit, limit.counter(None, None, namespace), namespace);
                    }
                }
            }
        }
        for name in ["default", "route", "a", "5", "pattern", "a-2"] {
            // Changed limits of one name and kind continue one count.
            for rule in [LimitRule::from(rates[0]), Quota::per_day(1).into()] {
                let plan = Plan::of(&[Limit::new(name, rule)]).unwrap();
                let limit = AppliedLimit::of_plan(&plan.0[0], LimitSource::Key(0), 1, None);
                add(&limit, limit.counter(Some(&plan), None, "a"), "");
            }
        }
        assert_eq!(count, 5 * 3 * 15 + 12);
    }

    #[test]
    fn two_rates_of_a_route_are_two_limits_and_one_is_charged_once() {
        let source = || LimitSource::Pattern("/x".into());
        let (fast, slow) = (Rate::per_second(9), Rate::per_minute(9));
        let first = route(source(), fast);
        let again = AppliedLimit::of_route(source(), fast, 1, None, std::slice::from_ref(&first));
        assert!(again.is_none());
        let second = AppliedLimit::of_route(source(), slow, 1, None, std::slice::from_ref(&first));
        let second = second.unwrap();
        assert!(!second.is_same(&first));
        assert_eq!(
            (first.display_name(None), second.display_name(None)),
            ("/x".into(), "/x#2".into())
        );
        // The number is for people: the counter is that of any request with this rate.
        let alone = route(source(), slow).counter(None, None, "");
        assert_eq!(second.counter(None, None, ""), alone);
    }
}
