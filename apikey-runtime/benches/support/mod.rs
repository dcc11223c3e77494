//! Shared code of the benches.
//!
//! Neither divan nor criterion compares two subjects with each other, and figures of different runs
//! are not comparable, because the load of the machine differs. So subjects to compare are measured
//! in turns within one run, and printed as a ratio. `parts` uses divan itself, for figures that
//! stand alone.
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
pub(crate) mod observer;
pub(crate) mod poll;
pub(crate) mod routes;
pub(crate) mod spread;
pub(crate) mod table;
pub(crate) mod watch;

/// The result of a bench.
pub(crate) type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// Returns whether `cargo bench` started this bench: `cargo test --all-targets` runs benches too,
/// and should not wait for them.
pub(crate) fn asked_for() -> bool {
    let asked = std::env::args().any(|argument| argument == "--bench");
    if !asked {
        println!("not measured; run `cargo bench -p apikey-runtime --bench NAME`");
    }
    asked
}
