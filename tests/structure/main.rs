//! The structure of the source: floors, cycles, names and sentences, as CONTRIBUTING states them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod floors;
mod names;
mod sentences;
mod source;
