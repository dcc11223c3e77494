//! Revocation, and everything that could allow a revoked key: races, other nodes, a failing store.

mod batched_reads;
mod bulk;
mod confirmed;
mod detached;
mod every_store;
mod grace;
mod instant;
mod marking;
mod owners;
mod owners_in_memory;
mod presented;
mod races;
mod slow_writes;
mod store_faults;
mod waiting;
mod watch;
mod watch_websocket;
mod wrong_answers;
