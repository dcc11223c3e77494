//! Events and metrics.

mod events;
mod metrics;
