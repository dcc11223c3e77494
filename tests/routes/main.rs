//! What an application can learn of its routes: the list of guarded handlers, the routes that a
//! middleware leaves open, and the audit that finds open ones.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod audit;
mod audit_guards;
mod audit_reach;
mod list;
mod open;
