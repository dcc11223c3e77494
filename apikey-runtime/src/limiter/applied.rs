//! One limit of a request's bill.

use std::sync::Arc;

use super::plan::{Plan, PreparedLimit, hash_route};
use crate::limit::{LimitDecision, LimitRule, Rate};
use crate::store::{LimitCounter, LimitSupport};

/// A limit that a request counts against, what it costs there, and how the limit stands.
#[derive(Debug, Clone)]
pub(crate) struct AppliedLimit {
    pub(crate) name: LimitSource,
    /// Stands for the name under which it is counted.
    pub(crate) hash: u64,
    pub(crate) rule: LimitRule,
    pub(crate) cost: u32,
    pub(crate) counted_by: CountedBy,
    /// The uptime when it was charged, or sent to be.
    pub(crate) at_nanos: u64,
    /// `None` before the limit was asked.
    pub(crate) decision: Option<LimitDecision>,
}

/// The name of the limit of keys that have none of their own.
pub(crate) const DEFAULT: &str = "default";

/// Whose limit it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LimitSource {
    /// The key's own of this place in its plan.
    Key(u16),
    /// The configuration's, for all keys that have none.
    Default,
    /// The route's, which the policy names.
    Route(&'static str),
    /// The route's, by its pattern, or by a name with a number where another rate has the name.
    Pattern(Arc<str>),
    /// A limit that the key had when it was charged, and perhaps has no more.
    FormerPlan {
        shown: Arc<str>,
        counter: Arc<LimitCounter>,
    },
}

/// Who counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CountedBy {
    /// This process.
    Process,
    /// The key store.
    Store,
    /// Nobody: the key store cannot.
    Nobody,
}

impl CountedBy {
    fn of(rule: LimitRule, counting: LimitSupport) -> Self {
        match (rule, counting) {
            (_, LimitSupport::All) | (LimitRule::Quota(_), LimitSupport::Quotas) => Self::Store,
            (LimitRule::Rate(_), _) => Self::Process,
            (LimitRule::Quota(_), LimitSupport::Nothing) => Self::Nobody,
        }
    }
}

impl LimitSource {
    /// Whether it is a limit of the key, and not of a route.
    pub(crate) fn is_of_key(&self) -> bool {
        matches!(self, Self::Key(_) | Self::Default | Self::FormerPlan { .. })
    }

    /// The name of a route's rate.
    pub(crate) fn of_route(&self) -> Option<&str> {
        match self {
            Self::Route(name) => Some(name),
            Self::Pattern(name) => Some(name),
            Self::Key(_) | Self::Default | Self::FormerPlan { .. } => None,
        }
    }
}

/// Gives the lines of a bill that was made by another plan the names that they had there.
pub(crate) fn pin_former_plan(
    applied: &mut [AppliedLimit],
    made_by: Option<&Arc<Plan>>,
    now: Option<&Arc<Plan>>,
) {
    let Some(plan) = made_by.filter(|plan| !now.is_some_and(|now| Arc::ptr_eq(plan, now))) else {
        return;
    };
    for limit in applied {
        if let LimitSource::Key(place) = limit.name
            && let Some(prepared) = plan.0.get(usize::from(place))
        {
            limit.name = LimitSource::FormerPlan {
                shown: prepared.limit.name().into(),
                counter: Arc::new(prepared.counter.clone()),
            };
        }
    }
}

impl AppliedLimit {
    /// Of the limit at this place of a plan.
    pub(crate) fn of_plan(
        prepared: &PreparedLimit,
        name: LimitSource,
        cost: u32,
        counting: LimitSupport,
    ) -> Self {
        let rule = prepared.limit.rule();
        Self {
            name,
            hash: prepared.hash,
            rule,
            cost,
            counted_by: CountedBy::of(rule, counting),
            at_nanos: 0,
            decision: None,
        }
    }

    /// Of a route's rate.
    pub(crate) fn of_route(
        name: LimitSource,
        rate: Rate,
        cost: u32,
        counting: LimitSupport,
    ) -> Self {
        let rule = LimitRule::Rate(rate);
        Self {
            hash: hash_route(name.of_route().unwrap_or_default()),
            name,
            rule,
            cost,
            counted_by: CountedBy::of(rule, counting),
            at_nanos: 0,
            decision: None,
        }
    }

    /// The limit as a store counts it. `own` are the key's plan and the configuration's.
    pub(crate) fn counter(&self, own: Option<&Plan>, default: Option<&Plan>) -> LimitCounter {
        let of_plan = |plan: Option<&Plan>, place: u16| {
            let prepared = plan.and_then(|plan| plan.0.get(usize::from(place)));
            prepared.map_or_else(
                || LimitCounter::new("", self.rule),
                |one| one.counter.clone(),
            )
        };
        // A key's limit has no `:` in its name, so that no two of these are alike.
        match &self.name {
            LimitSource::Key(place) => of_plan(own, *place),
            LimitSource::Default => of_plan(default, 0),
            LimitSource::Route(name) => LimitCounter::new(&format!("route:{name}"), self.rule),
            LimitSource::Pattern(name) => LimitCounter::new(&format!("route:{name}"), self.rule),
            LimitSource::FormerPlan { counter, .. } => LimitCounter::clone(counter),
        }
    }

    /// The name that clients and people are told.
    pub(crate) fn shown<'n>(&'n self, own: Option<&'n Plan>) -> &'n str {
        match &self.name {
            LimitSource::Key(place) => own
                .and_then(|plan| plan.0.get(usize::from(*place)))
                .map_or("", |one| one.limit.name()),
            LimitSource::Default => DEFAULT,
            // Where its code lies is nobody's business.
            LimitSource::Route(name) => name.rsplit("::").next().unwrap_or(name),
            LimitSource::Pattern(name) => name,
            LimitSource::FormerPlan { shown, .. } => shown,
        }
    }
}
