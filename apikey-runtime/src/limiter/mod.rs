//! Limits at work: what a request counts against, and the counting of what this process counts by
//! itself.

mod applied;
mod local;
mod plan;
mod prefetch;

pub(crate) use applied::{AppliedLimit, CountedBy, DEFAULT, LimitSource, pin_former_plan};
pub(crate) use local::{LimiterTime, LocalLimiter};
pub(crate) use plan::{Plan, Plans};
pub(crate) use prefetch::{PREFETCH_TTL, Prefetch, PrefetchKey, Refund, ends};
