//! The endpoints for gateways: `/verify`, `/verify-rule`, `/introspect` and `/revoke`, asked by nginx and Caddy, and by
//! what other gateways send; and what a caller or a client cannot do with them.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod app;
mod attempts;
mod callers;
mod demands;
mod facts;
mod inherited;
mod mounting;
mod nginx_answers;
mod oauth;
mod pages;
mod paths;
mod replayed;
mod revocation;
mod revoke_location;
mod samples;
mod site;
mod through;
mod through_controls;
mod verify;
