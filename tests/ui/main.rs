//! The attribute, compiled: cases that have to pass, and the errors of cases that have to fail.
//!
//! `TRYBUILD=overwrite cargo test --test ui` rewrites the expected errors. These contain one
//! compiler's messages, so they run with the toolchain of the continuous integration.

use std::fs;

/// Without a case that runs, all cases are compiled by one call of Cargo.
#[test]
fn the_attribute_fails_as_written() {
    trybuild::TestCases::new().compile_fail("ui-tests/fail/*/*.rs");
}

#[test]
fn the_attribute_compiles_as_written() {
    trybuild::TestCases::new().pass("ui-tests/pass/*.rs");
}

#[test]
fn every_case_is_a_module_that_runs() {
    let program = fs::read_to_string("ui-tests/pass/modules.rs").unwrap();
    for case in fs::read_dir("ui-tests/pass/modules").unwrap() {
        let case = case.unwrap().file_name().into_string().unwrap();
        let name = case.strip_suffix(".rs").unwrap();
        for line in [
            format!("\n#[path = \"modules/{case}\"]\nmod {name};\n"),
            format!("\n    {name}::main();\n"),
        ] {
            assert!(program.contains(&line), "modules.rs lacks {line}");
        }
    }
}
