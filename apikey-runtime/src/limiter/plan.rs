//! The limits of a key, prepared once and shared by all keys that have the same limits.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::{Arc, Weak};

use foldhash::quality::RandomState;
use once_cell::sync::Lazy;
use parking_lot::Mutex;

use crate::limit::{Limit, Rate};
use crate::store::LimitCounter;

/// Hashes names to 64 bits with a random seed that attackers cannot know. Two names of one key
/// collide once in 10^19 keys.
pub(super) static HASHER: Lazy<RandomState> = Lazy::new(RandomState::default);

/// Hashes the name of a counter. The hash is valid in this process only.
fn hash_name(name: &str) -> u64 {
    HASHER.hash_one((0_u8, name))
}

/// Hashes a route's rate, instead of the longer name of its counter. The hash is valid in this
/// process only.
pub(super) fn hash_route(route: (&str, &str), rate: Rate) -> u64 {
    HASHER.hash_one((1_u8, route, rate))
}

/// Names the counter of a rate that does not belong to a key, by all that distinguishes it: `kind` is
/// the kind of its source, and `name` the name in that kind.
///
/// Only `name` may contain a `:`. A name of a key's own limit cannot, so it is another one.
pub(super) fn counter_name(namespace: &str, (kind, name): (&str, &str), rate: Rate) -> String {
    format!("{namespace}:{kind}:{rate}:{name}")
}

/// The name of the limit that keys without limits of their own have.
pub(crate) const DEFAULT: &str = "default";

/// The limits of a key.
#[derive(Debug)]
pub(crate) struct Plan(pub(crate) Box<[PreparedLimit]>);

/// A limit, ready to be counted.
#[derive(Debug)]
pub(crate) struct PreparedLimit {
    pub(crate) limit: Limit,
    pub(crate) counter: LimitCounter,
    pub(crate) hash: u64,
}

impl PreparedLimit {
    fn new(limit: Limit, counter: LimitCounter) -> Self {
        Self {
            hash: hash_name(counter.name()),
            limit,
            counter,
        }
    }
}

impl Plan {
    /// Prepares `limits`; returns `None` if they are empty.
    pub(crate) fn of(limits: &[Limit]) -> Option<Self> {
        let prepare = |limit: &Limit| {
            let counter = LimitCounter::new(limit.name(), limit.rule());
            PreparedLimit::new(limit.clone(), counter)
        };
        (!limits.is_empty()).then(|| Self(limits.iter().map(prepare).collect()))
    }

    /// Prepares the rate of keys without limits of their own.
    pub(crate) fn of_default(rate: Rate, namespace: &str) -> Self {
        let counter = LimitCounter::new(&counter_name(namespace, (DEFAULT, ""), rate), rate);
        Self([PreparedLimit::new(Limit::new(DEFAULT, rate), counter)].into())
    }
}

/// The plans in use: a million keys of one tariff share one plan.
#[derive(Debug, Default)]
pub(crate) struct Plans(Mutex<SharedPlans>);

#[derive(Debug, Default)]
struct SharedPlans {
    plans: HashMap<Box<[Limit]>, Weak<Plan>>,
    /// The number of plans at which unused ones are removed.
    sweep_at: usize,
}

impl Plans {
    /// Returns the shared plan of `limits`; `None` if `limits` is empty.
    pub(crate) fn share(&self, limits: &[Limit]) -> Option<Arc<Plan>> {
        if limits.is_empty() {
            return None;
        }
        let mut shared = self.0.lock();
        if let Some(plan) = shared.plans.get(limits).and_then(Weak::upgrade) {
            return Some(plan);
        }
        let plan = Arc::new(Plan::of(limits)?);
        if shared.plans.len() >= shared.sweep_at {
            shared.plans.retain(|_, plan| plan.strong_count() > 0);
            shared.sweep_at = (shared.plans.len() * 2).max(64);
        }
        shared.plans.insert(limits.into(), Arc::downgrade(&plan));
        Some(plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::{Quota, Rate};

    #[test]
    fn keys_with_the_same_limits_share_a_plan_and_forgotten_ones_leave() {
        let plans = Plans::default();
        let limits = |amount| {
            [
                Limit::new("a", Rate::per_minute(amount)),
                Limit::new("b", Quota::per_day(9)),
            ]
        };
        let (one, two) = (
            plans.share(&limits(1)).unwrap(),
            plans.share(&limits(1)).unwrap(),
        );
        assert!(Arc::ptr_eq(&one, &two));
        assert!(!Arc::ptr_eq(&one, &plans.share(&limits(2)).unwrap()));
        assert!(plans.share(&[]).is_none());
        for amount in 1..1_000 {
            drop(plans.share(&limits(amount)));
        }
        assert!(plans.0.lock().plans.len() <= 64);
    }
}
