//! Revocation, and everything that could allow a revoked key: races, other nodes, a failing store.

mod confirmed;
mod instant;
mod races;
mod store_faults;
