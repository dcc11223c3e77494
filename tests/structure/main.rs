//! The structure of the source: floors, cycles, names and sentences, as CONTRIBUTING states them; and
//! what the packages carry.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod errors;
mod floors;
mod names;
mod packages;
mod sentences;
mod source;
