//! Rate limits, quotas, and the limit on failed attempts (family R).

mod attribute;
mod counted_by_store;
mod every_store;
mod failed_attempts;
mod over_http;
mod repeated_denials;
mod separate_counters;
mod server_faults;
