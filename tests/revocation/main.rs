//! Revocation, and all that could let a revoked key through: races, other nodes, a store that fails.

mod confirmed;
mod instant;
mod races;
mod store_faults;
