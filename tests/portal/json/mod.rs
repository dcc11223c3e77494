//! The API for programs.

mod callers;
pub mod client;
mod described;
mod document;
mod many;
mod matrix;
mod meanwhile;
mod order;
mod races;
mod restricted;
mod story;
