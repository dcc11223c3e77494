//! A limit that applies to a request.

use std::sync::Arc;

use super::plan::{Plan, PreparedLimit, hash_route};
use crate::limit::{LimitDecision, LimitRule, Rate};
use crate::store::{LimitCounter, LimitSupport};

/// A limit that a request counts against, with the request's cost and the limit's decision.
#[derive(Debug, Clone)]
pub(crate) struct AppliedLimit {
    pub(crate) source: LimitSource,
    /// Identifies the counter's name in this process.
    pub(crate) hash: u64,
    pub(crate) rule: LimitRule,
    pub(crate) cost: u32,
    pub(crate) counted_by: CountedBy,
    /// The uptime at which it was charged, or at which the charge was sent.
    pub(crate) at_nanos: u64,
    /// `None` before the charge.
    pub(crate) decision: Option<LimitDecision>,
}

/// The name of the limit that keys without limits of their own have.
pub(crate) const DEFAULT: &str = "default";

/// The origin of a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LimitSource {
    /// A limit of the key: the index in its plan.
    Key(u16),
    /// The default limit of the configuration, for keys without limits of their own.
    Default,
    /// The rate of a route that the policy names.
    Route(&'static str),
    /// The rate of a route, named by its pattern, or by a numbered name if another rate has the
    /// name.
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

    /// Returns the name of a route's rate.
    pub(crate) fn of_route(&self) -> Option<&str> {
        match self {
            Self::Route(name) => Some(name),
            Self::Pattern(name) => Some(name),
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
            cost,
            counted_by: CountedBy::of(rule, support),
            at_nanos: 0,
            decision: None,
        }
    }

    /// Applies the rate of a route.
    pub(crate) fn of_route(
        source: LimitSource,
        rate: Rate,
        cost: u32,
        support: Option<LimitSupport>,
    ) -> Self {
        let rule = LimitRule::Rate(rate);
        Self {
            hash: hash_route(source.of_route().unwrap_or_default()),
            source,
            rule,
            cost,
            counted_by: CountedBy::of(rule, support),
            at_nanos: 0,
            decision: None,
        }
    }

    /// Returns the counter that a store uses. `own` is the key's plan, `default` the
    /// configuration's.
    pub(crate) fn counter(&self, own: Option<&Plan>, default: Option<&Plan>) -> LimitCounter {
        let of_plan = |plan: Option<&Plan>, place: u16| {
            let prepared = plan.and_then(|plan| plan.0.get(usize::from(place)));
            prepared.map_or_else(
                || LimitCounter::new("", self.rule),
                |one| one.counter.clone(),
            )
        };
        // A key's limit has no `:` in its name, so these names never collide.
        match &self.source {
            LimitSource::Key(place) => of_plan(own, *place),
            LimitSource::Default => of_plan(default, 0),
            LimitSource::Route(name) => LimitCounter::new(&format!("route:{name}"), self.rule),
            LimitSource::Pattern(name) => LimitCounter::new(&format!("route:{name}"), self.rule),
            LimitSource::FormerPlan { counter, .. } => LimitCounter::clone(counter),
        }
    }

    /// Returns the name that clients and people see.
    pub(crate) fn display_name<'n>(&'n self, own: Option<&'n Plan>) -> &'n str {
        match &self.source {
            LimitSource::Key(place) => own
                .and_then(|plan| plan.0.get(usize::from(*place)))
                .map_or("", |one| one.limit.name()),
            LimitSource::Default => DEFAULT,
            // Clients need not know the module of the handler.
            LimitSource::Route(name) => name.rsplit("::").next().unwrap_or(name),
            LimitSource::Pattern(name) => name,
            LimitSource::FormerPlan { shown, .. } => shown,
        }
    }
}
