//! A cluster under faults: nodes that are processes, wires between them and the store, a schedule
//! that a seed repeats, and a checker of what happened.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file uses its own part of this"
)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

pub mod by_hand;
pub mod change;
pub mod checker;
pub mod clock;
pub mod cluster;
pub mod control;
pub mod copies;
pub mod dice;
pub mod faults;
pub mod history;
pub mod node;
pub mod place;
pub mod process;
pub mod proxy;
pub mod round;
pub mod run;
pub mod schedules;
pub mod settings;
pub mod spending;

#[path = "../../support/servers/postgres.rs"]
mod postgres_server;
#[path = "../../support/servers/redis.rs"]
mod redis_server;
