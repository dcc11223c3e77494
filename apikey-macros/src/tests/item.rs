//! The expanded item is guarded, or unchanged with errors; and the names of policy types.

use super::*;

const HANDLER: &str = "async fn list(a: A) -> R { a.into() }";

/// Returns the name of the policy type in an expansion.
fn policy_name(arguments: &str, item: &str) -> String {
    let expansion = expand(arguments, item);
    let (_, after) = expansion.split_once("struct ").unwrap();
    after.split(';').next().unwrap().to_owned()
}

#[test]
fn with_an_error_the_item_stays_and_the_error_comes_with_it() {
    let written = guard(tokens("scop"), tokens(HANDLER)).to_string();
    assert!(written.starts_with(&tokens(HANDLER).to_string()));
    assert!(written.contains("compile_error"));
    assert!(!written.contains("Guarded"));
}

#[test]
fn errors_of_the_arguments_and_of_the_function_come_together() {
    let errors = errors("optional = true, scope = \"*\"", "unsafe fn f(&self) {}");
    assert_eq!(errors.len(), 5, "{errors:#?}");
}

#[test]
fn a_body_is_not_parsed() {
    let half_typed = "async fn list(a: A) -> R { a. ; let }";
    let expansion = guard(tokens("fresh"), tokens(half_typed));
    let expansion = expansion.to_string();
    assert!(expansion.contains("{ a . ; let }"), "{expansion}");
    assert!(!expansion.contains("compile_error"));
}

#[test]
fn every_option_but_the_path_of_the_runtime_makes_a_type() {
    for spec in crate::options::TABLE {
        let arguments = match spec.name {
            "burst" => format!("rate_limit = RATE, {}", spec.usage),
            _ => spec.usage.to_owned(),
        };
        let expansion = expand(&arguments, HANDLER);
        let plain = expansion.contains("DefaultPolicy");
        assert_eq!(plain, spec.name == "crate", "{}", spec.usage);
    }
}

#[test]
fn m_12_two_guards_with_the_same_options_have_two_names() {
    let inner = policy_name("fresh", HANDLER);
    let outer = policy_name(
        "fresh",
        &format!("#[get(\"/\")] #[apikey_runtime::api_key_required(fresh)] {HANDLER}"),
    );
    assert!(inner.starts_with("__apikey_list_0_"), "{inner}");
    assert!(outer.starts_with("__apikey_list_1_"), "{outer}");
}

#[test]
fn m_12_an_alias_of_the_attribute_has_another_name_too() {
    let below = format!("#[get(\"/\")] #[user(scope = \"user\")] {HANDLER}");
    let outer = policy_name("scope = \"admin\"", &below);
    let inner = policy_name("scope = \"user\"", HANDLER);
    assert_ne!(outer, inner);
    // Without an attribute between the two, both types are in one module.
    let same_options = format!("#[user(fresh)] {HANDLER}");
    assert_ne!(
        policy_name("fresh", &same_options),
        policy_name("fresh", HANDLER)
    );
}

#[test]
fn names_are_the_same_in_every_build() {
    assert_eq!(policy_name("fresh", HANDLER), policy_name("fresh", HANDLER));
    assert_eq!(
        crate::expand::fingerprint(&tokens("fresh"), 2),
        0x4ff3_c424_a251_9cf9
    );
}

#[test]
fn sixteen_arguments_are_taken_and_the_seventeenth_is_not() {
    let handler = |count: usize| {
        let arguments: String = (0..count).map(|index| format!("a{index}: A, ")).collect();
        format!("async fn f({arguments}) -> R {{ R }}")
    };
    expand("", &handler(16));
    assert_eq!(errors("", &handler(17)).len(), 1);
    assert_eq!(errors("", &handler(20)).len(), 1);
}

#[test]
fn return_types_that_may_be_futures_are_taken() {
    for output in [
        "impl Future<Output = R>",
        "impl Future<Output = R> + Send + 'static",
        "BoxFuture<'static, R>",
        "Pin<Box<dyn Future<Output = R>>>",
        "Ready<HttpResponse>",
        "Answer",
        "<A as B>::Future",
        "answer!()",
    ] {
        expand("", &format!("fn f() -> {output} {{ todo!() }}"));
    }
}

#[test]
fn return_types_that_are_no_futures_need_async() {
    for output in [
        "HttpResponse",
        "actix_web::Result<HttpResponse, Error>",
        "String",
        "&'static str",
        "()",
        "(String, StatusCode)",
        "impl Responder",
        "impl actix_web::Responder + 'static",
        "[u8; 4]",
    ] {
        let errors = errors("", &format!("fn f() -> {output} {{ todo!() }}"));
        assert!(errors[0].contains("write `async fn f`"), "{errors:?}");
        expand("", &format!("async fn f() -> {output} {{ todo!() }}"));
    }
}

#[test]
fn without_options_the_file_of_the_handler_is_not_read() {
    for (arguments, expected) in [
        ("", false),
        ("crate = a::b", false),
        ("fresh", true),
        ("scope = \"a:{b}\"", true),
    ] {
        let mut is_read = false;
        let surroundings = || {
            is_read = true;
            Surroundings::default()
        };
        crate::guard(
            tokens(arguments),
            tokens(HANDLER),
            surroundings,
            Features::default(),
        );
        assert_eq!(is_read, expected, "{arguments}");
    }
}
