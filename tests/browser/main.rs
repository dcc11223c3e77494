//! The portal in a browser: Debian's Chromium, driven by chromedriver.
//!
//! ```text
//! # Pictures of all pages, light and dark, as wide as a phone and as a desk.
//! PORTAL_PICTURES=/tmp/pictures cargo test --workspace --all-features --test browser pictures
//! ```
#![cfg(unix)]
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod browser;
mod checks;
mod controls;
mod furniture;
mod hands;
mod keyboard;
mod pages;
mod secret;
mod site;
mod story;
