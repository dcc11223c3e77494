//! Servers that tests start for themselves, on free ports, and end with the process.

pub mod postgres;
pub mod redis;
