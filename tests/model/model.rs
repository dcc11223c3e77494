//! A model of the protocol, explored in every order within bounds. README.md states what is in it, what
//! is not, and what the counterexamples taught.
//!
//! ```text
//! cargo test --workspace --all-features --test model                   # some 8 million states
//! cargo test --workspace --all-features --test model -- --nocapture    # and each counterexample
//! # Larger bounds. Long: may take hours and some 10 GB.
//! MODEL_BOUNDS=full cargo test --release -p model-tests -- --test-threads 1
//! ```
//!
//! Each run prints the number of its states. A test that fails prints the steps. The tests call
//! `holds` for all protections, and `breaks` for the negative controls: without the protection that they
//! name, there has to be a counterexample.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unreachable_pub
)]

mod actions;
mod bounds;
mod call;
mod check;
mod faults;
mod keys;
mod node;
mod owners;
mod properties;
mod recovery;
mod report;
mod state;
mod store;
mod without;
