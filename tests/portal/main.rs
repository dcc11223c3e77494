//! The portal without a browser: who may do what, forged forms, hostile text, pages and the API.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod admin_pages;
mod app;
mod audit_pages;
mod bulk_pages;
mod create_pages;
mod json;
mod key_access;
mod key_edits;
mod key_pages;
mod key_secrets;
mod lacking_stores;
mod list_page;
mod mounting;
mod people;
mod refused_input;
mod store_parts;
mod system_pages;
