//! The attribute, compiled: what has to pass, and the errors of what has to fail.
//!
//! `TRYBUILD=overwrite cargo test --test ui` writes the expected errors anew. They hold the words of one
//! compiler, so they run with the toolchain that the continuous integration uses.

#[test]
fn the_attribute_compiles_and_fails_as_written() {
    let cases = trybuild::TestCases::new();
    cases.pass("ui-tests/pass/*.rs");
    cases.compile_fail("ui-tests/fail/*/*.rs");
}
