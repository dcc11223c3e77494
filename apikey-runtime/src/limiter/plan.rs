//! The limits of a key, prepared once and shared by all keys that have the same.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::{Arc, Weak};

use foldhash::quality::RandomState;
use once_cell::sync::Lazy;
use parking_lot::Mutex;

use super::applied::{AppliedLimit, CountedBy};
use crate::limit::Limit;
use crate::store::LimitCounter;

/// Names are told apart by 64 bits of a hash that nobody outside can know: two names of one key
/// would share a count once in 10^19 keys.
static HASHER: Lazy<RandomState> = Lazy::new(RandomState::default);

/// The number that stands in this process for the name of a key's limit.
fn hash_name(name: &str) -> u64 {
    HASHER.hash_one((0_u8, name))
}

/// The number that stands in this process for the name of a route's rate.
pub(super) fn hash_route(name: &str) -> u64 {
    HASHER.hash_one((1_u8, name))
}

/// The number that stands in this process for what a request is to pay in the store.
pub(super) fn hash_applied(applied: &[AppliedLimit]) -> u64 {
    let mut hasher = HASHER.build_hasher();
    for limit in applied
        .iter()
        .filter(|limit| limit.counted_by == CountedBy::Store)
    {
        (limit.hash, limit.rule, limit.cost).hash(&mut hasher);
    }
    hasher.finish()
}

/// What a key is limited to.
#[derive(Debug)]
pub(crate) struct Plan(pub(crate) Box<[PreparedLimit]>);

/// A limit, ready to be counted.
#[derive(Debug)]
pub(crate) struct PreparedLimit {
    pub(crate) limit: Limit,
    pub(crate) counter: LimitCounter,
    pub(crate) hash: u64,
}

impl Plan {
    /// `None` where there is no limit.
    pub(crate) fn of(limits: &[Limit]) -> Option<Self> {
        let prepare = |limit: &Limit| {
            let counter = LimitCounter::new(limit.name(), limit.rule());
            PreparedLimit {
                hash: hash_name(counter.name()),
                limit: limit.clone(),
                counter,
            }
        };
        (!limits.is_empty()).then(|| Self(limits.iter().map(prepare).collect()))
    }
}

/// The plans that are in use: a million keys of one tariff share one.
#[derive(Debug, Default)]
pub(crate) struct Plans(Mutex<SharedPlans>);

#[derive(Debug, Default)]
struct SharedPlans {
    plans: HashMap<Box<[Limit]>, Weak<Plan>>,
    /// How many there may be before those that nobody uses any more are thrown out.
    room: usize,
}

impl Plans {
    /// The plan of these limits; `None` where there is no limit.
    pub(crate) fn share(&self, limits: &[Limit]) -> Option<Arc<Plan>> {
        if limits.is_empty() {
            return None;
        }
        let mut known = self.0.lock();
        if let Some(plan) = known.plans.get(limits).and_then(Weak::upgrade) {
            return Some(plan);
        }
        let plan = Arc::new(Plan::of(limits)?);
        if known.plans.len() >= known.room {
            known.plans.retain(|_, plan| plan.strong_count() > 0);
            known.room = (known.plans.len() * 2).max(64);
        }
        known.plans.insert(limits.into(), Arc::downgrade(&plan));
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
