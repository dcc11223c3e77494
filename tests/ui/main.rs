//! The attribute, compiled: cases that have to pass, and the errors of cases that have to fail.
//!
//! `TRYBUILD=overwrite cargo test --test ui` rewrites the expected errors. These contain one
//! compiler's messages, so they run with the toolchain of the continuous integration.

/// Without a case that runs, all cases are compiled by one call of Cargo.
#[test]
fn the_attribute_fails_as_written() {
    trybuild::TestCases::new().compile_fail("ui-tests/fail/*/*.rs");
}

#[test]
fn the_attribute_compiles_as_written() {
    trybuild::TestCases::new().pass("ui-tests/pass/*.rs");
}
