//! The attribute, compiled: cases that have to pass, and the errors of cases that have to fail.
//!
//! `TRYBUILD=overwrite cargo test --test ui` rewrites the expected errors. These contain one
//! compiler's messages, so they run with the toolchain of the continuous integration.

#[test]
fn the_attribute_compiles_and_fails_as_written() {
    let cases = trybuild::TestCases::new();
    cases.pass("ui-tests/pass/*.rs");
    cases.compile_fail("ui-tests/fail/*/*.rs");
}
