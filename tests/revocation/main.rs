//! Revocation, and everything that could allow a revoked key: races, other nodes, a failing store.

mod bulk;
mod confirmed;
mod every_store;
mod instant;
mod marking;
mod owners;
mod owners_in_memory;
mod races;
mod slow_writes;
mod store_faults;
mod wrong_answers;
