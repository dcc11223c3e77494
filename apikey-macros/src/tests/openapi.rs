//! Expansions with the feature `openapi`. `UPDATE_EXPECT=1 cargo test -p apikey-macros` updates them.

use expect_test::{Expect, expect};
use syn::parse::Parser;

use super::*;

mod named;

const DOCUMENTED: Features = Features {
    openapi: true,
    routes: false,
};

/// Returns the expansion, formatted; `above` are the attributes that the file has above the guard.
fn expand_below(above: &str, arguments: &str, item: &str) -> String {
    let surroundings = || Surroundings {
        above: syn::Attribute::parse_outer.parse_str(above).unwrap(),
        is_complete: true,
        ..Surroundings::default()
    };
    let expansion = crate::try_guard(tokens(arguments), tokens(item), surroundings, DOCUMENTED)
        .map_err(|errors| errors.messages())
        .unwrap();
    prettyplease::unparse(&syn::parse2(expansion).unwrap())
}

fn check(arguments: &str, item: &str, expected: Expect) {
    expected.assert_eq(&expand_below("", arguments, item));
}

#[test]
fn a_guard_below_registers_itself() {
    expect![[r##"
        #[doc(hidden)]
        #[non_exhaustive]
        struct __apikey_list_0_c9194212cdd02051;
        impl ::apikey_runtime::__private::RoutePolicy for __apikey_list_0_c9194212cdd02051 {
            const POLICY: ::apikey_runtime::__private::Policy = ::apikey_runtime::__private::Policy::new()
                .scopes(::apikey_runtime::__private::ScopeExpr::One("a"));
        }
        async fn list(
            ::apikey_runtime::__private::Guarded(
                (key,),
                ..,
            ): ::apikey_runtime::__private::Guarded<__apikey_list_0_c9194212cdd02051, (ApiKey,)>,
        ) -> R {
            #![allow(dead_code)]
            ::apikey_runtime::__private::inventory::submit! {
                ::apikey_runtime::__private::GuardEntry::of:: < __apikey_list_0_c9194212cdd02051
                > (::core::module_path!(), "list", 0usize,
                ::apikey_runtime::__private::Author::Missing,
                ::apikey_runtime::__private::Option::Some(::apikey_runtime::__private::DocumentedPath::of::
                < __path_list >),)
            }
            R
        }
    "##]].assert_eq(&expand_below(
        "#[utoipa::path(responses((status = 200)))] #[get(\"/\")]",
        "scope = \"a\"",
        "async fn list(key: ApiKey) -> R { #![allow(dead_code)] R }",
    ));
    // The type of `#[utoipa::path]` may be absent, or have another name.
    let expansion = expand_below("#[get(\"/\")]", "", "async fn list() -> R { R }");
    assert!(!expansion.contains("GuardEntry"), "{expansion}");
    for above in [
        "#[cfg_attr(docs, utoipa::path)]",
        "#[utoipa::path(impl_for = List)]",
        "#[docs::path]",
    ] {
        let expansion = expand_below(above, "", "async fn r#type() -> R { R }");
        assert!(expansion.contains("GuardEntry::of"), "{expansion}");
        assert!(expansion.contains("\"r#type\""), "{expansion}");
        assert!(!expansion.contains("__path_type"), "{expansion}");
    }
}

/// `use utoipa::path as openapi;`, or an attribute of the application that adds `#[utoipa::path]`.
#[test]
fn a_guard_beside_an_attribute_that_is_not_known_registers_itself() {
    for (above, below, is_registered) in [
        ("#[get(\"/\")]", "#[openapi]", true),
        ("#[docs::get(\"/\")]", "", true),
        ("", "#[docs::get(\"/\")]", true),
        ("#[allow(unused)]", "#[actix_web::get(\"/\")]", false),
        (
            "#[api_key_required]",
            "#[get(\"/\")] #[api_key_required]",
            false,
        ),
    ] {
        let item = format!("{below} async fn list() -> R {{ R }}");
        let expansion = expand_below(above, "", &item);
        let found = expansion.contains("GuardEntry::of");
        assert_eq!(found, is_registered, "{above} {below}: {expansion}");
    }
}

/// A mark that the attribute did not write does not take an option with it.
#[test]
fn a_mark_of_another_form_is_an_unknown_option() {
    for arguments in [
        "__documented() require_https",
        "__documented(attribute) require_https",
        "__documented(attribute typed) = require_https",
        "__documented(), require_https",
        "__documented(typed), require_https",
        "__documented(attribute typed list), require_https",
        "__documented(attribute 7), require_https",
        "__documented, require_https",
        "__documented",
    ] {
        let item = tokens("async fn list() -> R { R }");
        let result = crate::try_guard(tokens(arguments), item, Surroundings::default, DOCUMENTED);
        let errors = result.unwrap_err().messages();
        assert!(errors[0].starts_with("unknown option"), "{errors:?}");
    }
    let marked = "__documented(attribute typed), require_https";
    let expansion = expand_below("", marked, "async fn list() -> R { R }");
    assert!(expansion.contains(".require_https()"), "{expansion}");
}

/// An editor's buffer, a doc test, or the tokens of a macro.
#[test]
fn a_guard_whose_file_is_not_read_registers_itself() {
    let (arguments, item) = (tokens(""), tokens("async fn list() -> R { R }"));
    let expansion = crate::guard(arguments, item, Surroundings::default, DOCUMENTED).to_string();
    assert!(expansion.contains("GuardEntry"), "{expansion}");
}

#[test]
fn a_guard_above_moves_below() {
    check(
        "scopes = all(\"a\", any(\"b\", permissions::READ)), locations = [bearer, header(\"X-API-Key\")]",
        "/// Docs.\n#[utoipa::path(get, path = \"/\", responses((status = 200)), tag = \"x\",)] #[get(\"/\")] \
         async fn list(key: ApiKey) -> R { R }",
        expect![[r##"
            #[utoipa::path(
                get,
                path = "/",
                responses(
                    ::apikey_runtime::__private::ApiKeyResponses<false,
                    false>,
                    (status = 200)
                ),
                tag = "x",
                security(
                    ("api_key_bearer" = ["a", "b"]),
                    ("api_key_bearer" = ["a", permissions::READ]),
                    ("api_key_header_x-api-key" = ["a", "b"]),
                    ("api_key_header_x-api-key" = ["a", permissions::READ])
                )
            )]
            #[::apikey_runtime::__private::api_key_required(
                __documented(attribute typed),
                scopes = all("a", any("b", permissions::READ)),
                locations = [bearer,
                header("X-API-Key")]
            )]
            /// Docs.
            #[get("/")]
            async fn list(key: ApiKey) -> R {
                R
            }
        "##]],
    );
}

#[test]
fn the_guard_that_moved_registers_itself() {
    check(
        "__documented(attribute typed), fresh",
        "#[get(\"/\")] async fn list() -> R { R }",
        expect![[r##"
            #[doc(hidden)]
            #[non_exhaustive]
            struct __apikey_list_0_aed70d2bd58e3ba0;
            impl ::apikey_runtime::__private::RoutePolicy for __apikey_list_0_aed70d2bd58e3ba0 {
                const POLICY: ::apikey_runtime::__private::Policy = ::apikey_runtime::__private::Policy::new()
                    .fresh();
            }
            #[get("/")]
            async fn list(
                ::apikey_runtime::__private::Guarded(
                    (),
                    ..,
                ): ::apikey_runtime::__private::Guarded<__apikey_list_0_aed70d2bd58e3ba0, ()>,
            ) -> R {
                ::apikey_runtime::__private::inventory::submit! {
                    ::apikey_runtime::__private::GuardEntry::of:: < __apikey_list_0_aed70d2bd58e3ba0
                    > (::core::module_path!(), "list", 1usize,
                    ::apikey_runtime::__private::Author::Attribute,
                    ::apikey_runtime::__private::Option::Some(::apikey_runtime::__private::DocumentedPath::of::
                    < __path_list >),)
                }
                R
            }
        "##]],
    );
}

#[test]
fn two_guards_keep_their_order() {
    check(
        "scope = \"top\"",
        "#[user(scope = \"renamed\")] #[api_key_required(scope = \"middle\", optional)] #[utoipa::path] \
         #[routes] #[get(\"/a\")] #[get(\"/b\")] #[a::api_key_required] async fn list() -> R { R }",
        expect![[r##"
            #[utoipa::path(
                responses(::apikey_runtime::__private::ApiKeyResponses<false, false>),
                security(("api_key" = ["top", "middle"]))
            )]
            #[::apikey_runtime::__private::api_key_required(
                __documented(attribute typed),
                scope = "top"
            )]
            #[user(scope = "renamed")]
            #[api_key_required(__documented(attribute typed), scope = "middle", optional)]
            #[routes]
            #[get("/a")]
            #[get("/b")]
            #[a::api_key_required(__documented(attribute typed))]
            async fn list() -> R {
                R
            }
        "##]],
    );
}

#[test]
fn the_application_wins() {
    check(
        "scope = \"not:{written}\", on_error = answer",
        "#[utoipa::path(security((\"own\" = [])), responses((status = 401, description = \"own\")))] \
         async fn list() -> R { R }",
        expect![[r##"
            #[utoipa::path(
                security(("own" = [])),
                responses(
                    ::apikey_runtime::__private::ApiKeyResponses<false,
                    true>,
                    (status = 401, description = "own")
                )
            )]
            #[::apikey_runtime::__private::api_key_required(
                __documented(application typed),
                scope = "not:{written}",
                on_error = answer
            )]
            async fn list() -> R {
                R
            }
        "##]],
    );
}

#[test]
fn what_a_list_cannot_say() {
    check(
        "scopes = all(\"a\", \"project:{id}:read\", not(BLOCKED)), locations = [json(\"key\"), basic]",
        "#[utoipa::path(extensions((\"x-own\" = json!(1))))] async fn list() -> R { R }",
        expect![[r##"
            #[utoipa::path(
                extensions(
                    ("x-own" = json!(1)),
                    (
                        "x-required-scopes" = json!(
                            {"all":["a",
                            "project:{id}:read",
                            {"not":BLOCKED}]}
                        )
                    ),
                    ("x-api-key-in-body" = json!(["key"]))
                ),
                responses(::apikey_runtime::__private::ApiKeyResponses<true, false>),
                security(("api_key_basic" = ["a"]))
            )]
            #[::apikey_runtime::__private::api_key_required(
                __documented(attribute typed),
                scopes = all("a", "project:{id}:read", not(BLOCKED)),
                locations = [json("key"),
                basic]
            )]
            async fn list() -> R {
                R
            }
        "##]],
    );
    check(
        "location = form(\"key\")",
        "#[utoipa::path] async fn list() -> R { R }",
        expect![[r##"
            #[utoipa::path(
                responses(::apikey_runtime::__private::ApiKeyResponses<true, false>),
                extensions(("x-api-key-in-body" = json!(["key"])))
            )]
            #[::apikey_runtime::__private::api_key_required(
                __documented(attribute typed),
                location = form("key")
            )]
            async fn list() -> R {
                R
            }
        "##]],
    );
    // More than 16.
    let any = |letter: char| {
        let scopes: Vec<_> = (0..5)
            .map(|number| format!("\"{letter}{number}\""))
            .collect();
        format!("any({})", scopes.join(", "))
    };
    let arguments = format!("scopes = all({}, {})", any('a'), any('b'));
    let expansion = expand_below("", &arguments, "#[utoipa::path] async fn list() -> R { R }");
    assert!(
        expansion.contains("security((\"api_key\" = []))"),
        "{expansion}"
    );
    assert!(expansion.contains("x-required-scopes"), "{expansion}");
}

/// Stacked guards are bounded: these have 96 to the power of 5 ways together.
#[test]
fn many_ways_are_not_built() {
    let scopes: Vec<_> = (0..16).map(|number| format!("\"s{number}\"")).collect();
    let arguments = format!(
        "locations = [bearer, basic, websocket, query(\"a\"), query(\"b\"), query(\"c\")], \
         scopes = any({})",
        scopes.join(", ")
    );
    let below = format!("#[api_key_required({arguments})]").repeat(4);
    let item = format!("{below} #[utoipa::path] async fn list() -> R {{ R }}");
    let expansion = expand_below("", &arguments, &item);
    assert!(expansion.contains("x-required-scopes"), "{expansion}");
    for scheme in [
        "bearer",
        "basic",
        "websocket",
        "query_a",
        "query_b",
        "query_c",
    ] {
        let requirement = format!("(\"api_key_{scheme}\" = [])");
        assert!(expansion.contains(&requirement), "{scheme}: {expansion}");
    }
}

#[test]
fn conditions_are_looked_through() {
    check(
        "crate = crate::keys",
        "#[cfg(a)] #[cfg_attr(docs, inline, utoipa::path(get, path = \"/\"), cfg_attr(b, cold))] \
         #[cfg(b)] async fn list() -> R { R }",
        expect![[r##"
            #[cfg(a)]
            #[cfg_attr(
                docs,
                utoipa::path(
                    get,
                    path = "/",
                    responses(crate::keys::__private::ApiKeyResponses<false, false>),
                    security(("api_key" = []))
                )
            )]
            #[crate::keys::__private::api_key_required(__documented(attribute), crate = crate::keys)]
            #[cfg(a)]
            #[cfg_attr(docs, inline, cfg_attr(b, cold))]
            #[cfg(b)]
            async fn list() -> R {
                R
            }
        "##]],
    );
    let only = "#[cfg_attr(docs, utoipa::path)] async fn list() -> R { R }";
    let expansion = expand_below("", "", only);
    assert_eq!(expansion.matches("cfg_attr").count(), 1, "{expansion}");
}

#[test]
fn an_unfinished_attribute_still_has_its_handler() {
    let unfinished = "#[utoipa::path(get, path = , responses)] async fn list() -> R { R }";
    let expansion = crate::guard(
        tokens("scope = "),
        tokens(unfinished),
        Surroundings::default,
        DOCUMENTED,
    );
    let expansion = expansion.to_string();
    assert!(expansion.contains("async fn list"), "{expansion}");
    assert!(expansion.contains("compile_error"), "{expansion}");
    // The guard is valid, and utoipa reports what is wrong with its own attribute.
    let expansion = expand_below("", "fresh", unfinished);
    assert!(
        expansion.contains("path = , responses, security("),
        "{expansion}"
    );
}

#[test]
fn without_the_feature_the_attribute_has_to_move() {
    let item = "#[utoipa::path(get, path = \"/\")] async fn list() -> R { R }";
    assert_eq!(
        errors("", item),
        [
            "`#[utoipa::path]` would read or change arguments outside the guard; move it above `#[api_key_required]`"
        ]
    );
    // The mark is an unknown option then.
    let marked = errors("__documented(attribute)", "async fn list() -> R { R }");
    assert!(marked[0].starts_with("unknown option"), "{marked:?}");
    let with = crate::try_guard(
        tokens(""),
        tokens("#[protect] async fn list() -> R { R }"),
        Surroundings::default,
        DOCUMENTED,
    );
    assert_eq!(with.unwrap_err().messages().len(), 1);
}
