//! Servers that tests start on free ports, and that end with the process.

pub mod postgres;
pub mod redis;
