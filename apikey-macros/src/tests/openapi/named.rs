//! A guard whose policy the `#[utoipa::path]` of its handler names.

use super::*;

/// The only guard of its handler is known from the operation, and does not register itself. Both expansions
/// name its policy alike.
#[test]
fn a_guard_that_the_path_names_does_not_register_itself() {
    check(
        "scope = \"a\"",
        "#[utoipa::path] #[get(\"/\")] async fn list() -> R { R }",
        expect![[r##"
            #[utoipa::path(
                responses(
                    ::apikey_runtime::__private::GuardResponses<__apikey_list_0_702de89e5010c94b,
                    __path_list>,
                ),
                security(("api_key" = ["a"]))
            )]
            #[::apikey_runtime::__private::api_key_required(
                __documented(attribute typed 8083372672845662539),
                scope = "a"
            )]
            #[get("/")]
            async fn list() -> R {
                R
            }
        "##]],
    );
    let marked = "__documented(attribute typed 8083372672845662539), scope = \"a\"";
    let expansion = expand_below("", marked, "#[get(\"/\")] async fn list() -> R { R }");
    assert!(
        expansion.contains("struct __apikey_list_0_702de89e5010c94b;"),
        "{expansion}"
    );
    assert!(!expansion.contains("inventory"), "{expansion}");
    // Another guard, one that has its own scheme, and an attribute that may be a guard by another name.
    for (arguments, below) in [
        ("", "#[utoipa::path] #[api_key_required]"),
        ("location = basic", "#[utoipa::path]"),
        ("", "#[utoipa::path] #[admin]"),
        ("", "#[utoipa::path(security((\"own\" = [])))]"),
        ("", "#[utoipa::path(impl_for = List)]"),
        ("", "#[cfg_attr(docs, utoipa::path)]"),
    ] {
        let item = format!("{below} async fn list() -> R {{ R }}");
        let expansion = expand_below("", arguments, &item);
        assert!(!expansion.contains("GuardResponses"), "{expansion}");
    }
}
