//! Enforcement of limits: what a request counts against, and the counters of this process.

mod applied;
mod local;
mod plan;
mod prefetch;

pub(crate) use applied::{AppliedLimit, CountedBy, LimitSource, pin_former_plan};
pub(crate) use local::{LimiterTime, LocalLimiter};
pub(crate) use plan::{Plan, Plans};
pub(crate) use prefetch::{PREFETCH_TTL, Prefetch, PrefetchKey, Refund, refund_end};
