//! What the benches share.
//!
//! Neither divan nor criterion compares two things with each other, and a figure of one run says
//! nothing beside that of another: the machine was busy then. So what is compared here is measured
//! in turns within one run, and printed as a ratio. `parts` is the bench in divan's own form, for
//! figures that stand by themselves.
#![allow(
    dead_code,
    reason = "each bench is a crate of its own and uses a part of this"
)]

pub(crate) mod clock;
pub(crate) mod drawing;
pub(crate) mod handwritten;
pub(crate) mod keys;
pub(crate) mod measure;
pub(crate) mod memory;
pub(crate) mod poll;
pub(crate) mod routes;
pub(crate) mod spread;
pub(crate) mod table;

/// What a bench may fail with.
pub(crate) type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// Whether `cargo bench` started this: `cargo test --all-targets` runs benches too, and is not to
/// wait for them.
pub(crate) fn asked_for() -> bool {
    let asked = std::env::args().any(|argument| argument == "--bench");
    if !asked {
        println!("nothing measured: run it by `cargo bench -p apikey-runtime --bench NAME`");
    }
    asked
}
