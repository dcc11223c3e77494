use super::*;

fn parse(text: &str) -> SourceFile {
    SourceFile::parse((0, None), text.to_owned())
}

/// Returns the surroundings of `#[here]`.
fn surroundings(file: &str) -> Surroundings {
    let before = &file[..file.find("#[here]").unwrap()];
    let line = before.split('\n').count();
    let column = before.split('\n').next_back().unwrap().chars().count() + 1;
    parse(file).find((line, column), "#[here]").unwrap()
}

/// Returns the paths of the attributes above `#[here]`, and whether an `impl` is around it.
fn found(file: &str) -> (Vec<String>, bool) {
    let found = surroundings(file);
    let above = found.above.iter();
    let above = above.map(|one| one.path().segments[0].ident.to_string());
    (above.collect(), found.in_impl)
}

#[test]
fn attributes_above_are_found_and_those_of_other_items_are_not() {
    let file = r##"
        #![allow(unused)]
        #[post("/other")] async fn other() {}
        /// Docs: #[put("/docs")]
        // #[put("/comment")]
        #[routes]
        #[get("/{a:[0-9]{2}}")] #[get(r#"/"]"#)]
        #[here]
        #[head("/below")]
        async fn list() {}
    "##;
    let (above, in_impl) = found(file);
    assert_eq!(above, ["doc", "routes", "get", "get"]);
    assert!(!in_impl);
}

#[test]
fn only_the_nearest_item_around_it_counts() {
    for (file, expected) in [
        ("#[here] fn f() {}", false),
        ("impl A { #[here] fn f() {} }", true),
        (
            "#[x] pub unsafe trait A { const X: u8; #[here] fn f() {} }",
            true,
        ),
        (
            "struct S; impl<T> A<T> for S where T: X { fn g() {} #[get] #[here] fn f() {} }",
            true,
        ),
        ("impl A { fn g() { #[here] fn f() {} } }", false),
        ("fn g() -> impl A { #[here] fn f() {} }", false),
        ("impl A {} mod m { #[here] fn f() {} }", false),
        ("pub(crate) mod m { impl A { #[here] fn f() {} } }", true),
        ("impl A { m!(); #[here] fn f() {} }", true),
        // A macro may put the function elsewhere.
        ("m! { impl A { #[here] fn f() {} } }", false),
        ("a::m!(mod b { impl A { #[here] fn f() {} } });", false),
        (
            "macro_rules! m { () => { impl A { #[here] fn f() {} } } }",
            false,
        ),
        ("m! { #[here] fn f() {} }", false),
    ] {
        assert_eq!(found(file).1, expected, "{file}");
    }
}

#[test]
fn a_position_in_a_file() {
    let file = "ä\r\n\u{2003}#[x]\n# [y] struct S;";
    let parsed = parse(file);
    let found = |line, column, text| parsed.find((line, column), text).is_some();
    assert!(found(2, 2, "#[x]"));
    assert!(found(3, 1, "# [y]"));
    // The text of another version of the file.
    assert!(!found(2, 2, "#[z]"));
    for outside in [(0, 1), (1, 0), (1, 1), (2, 1), (2, 99), (9, 1)] {
        assert!(!found(outside.0, outside.1, "#[x]"), "{outside:?}");
    }
    // A file that cannot be parsed.
    assert!(parse("#[x] (").places.is_empty());
}

#[test]
fn texts_of_attributes_are_as_written() {
    let file = r##"#[get("/#[{a}#[")] #[get(r#"b"#)] /* #[c] */ #[d([e])] #[here] fn f() {}"##;
    let above = surroundings(file).above;
    let written = quote::quote!(#(#above)*).to_string();
    let expected: TokenStream = r##"#[get("/#[{a}#[")] #[get(r#"b"#)] #[d([e])]"##
        .parse()
        .unwrap();
    assert_eq!(written, expected.to_string());
}

#[test]
fn scopes_of_the_module_around_it() {
    for (file, expected) in [
        ("#[here] fn f() {}", 0),
        ("#[scope(\"/a\")] mod m { #[here] fn f() {} }", 1),
        (
            "#[x] #[actix_web::scope(\"/a\")] #[y] pub(crate) mod m { #[scope(\"/b\")] mod n { \
             fn g() {} #[here] fn f() {} } }",
            1,
        ),
        ("#[scope(\"/a\")] mod m { fn g() { #[here] fn f() {} } }", 0),
        (
            "#[scope(\"/a\")] mod m { fn g() {} } mod n { #[here] fn f() {} }",
            0,
        ),
        ("#[scope(\"/a\")] mod m; mod n { #[here] fn f() {} }", 0),
    ] {
        assert_eq!(surroundings(file).scopes.len(), expected, "{file}");
    }
}

#[test]
fn a_file_is_parsed_once_for_all_its_handlers() {
    let path = std::env::temp_dir().join(format!("apikey-macros-{}.rs", std::process::id()));
    let handlers = |count| "#[get(\"/\")]\n#[here]\nfn f() {}\n".repeat(count);
    let mut files = Files::default();
    for (parses, count) in [(1, 500), (2, 3)] {
        fs::write(&path, handlers(count)).unwrap();
        for handler in 0..count {
            let file = files.get(&path).unwrap();
            let found = file.find((3 * handler + 2, 1), "#[here]").unwrap();
            assert_eq!(found.above.len(), 1);
        }
        assert_eq!(files.parses, parses);
    }
    fs::remove_file(&path).unwrap();
    assert!(files.get(&path).is_none());
}
