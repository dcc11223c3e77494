//! Snapshots of expansions with the feature `routes`. Without it, those of `expansion.rs` hold.

use expect_test::{Expect, expect};
use syn::{Attribute, parse::Parser};

use super::*;

fn check(arguments: &str, above: &str, item: &str, expected: Expect) {
    let surroundings = || Surroundings {
        above: Attribute::parse_outer.parse_str(above).unwrap(),
        ..Surroundings::default()
    };
    let features = Features {
        openapi: false,
        routes: true,
    };
    let expansion = crate::try_guard(tokens(arguments), tokens(item), surroundings, features)
        .map_err(|errors| errors.messages())
        .unwrap();
    expected.assert_eq(&prettyplease::unparse(&syn::parse2(expansion).unwrap()));
}

#[test]
fn a_handler_registers_itself_in_its_body() {
    check(
        "",
        "#[get(\"/orders/{id}\")]",
        "async fn r#type() -> R { #![allow(unused)] R }",
        expect![[r#"
            async fn r#type(
                ::apikey_runtime::__private::Guarded(
                    (),
                    ..,
                ): ::apikey_runtime::__private::Guarded<
                    ::apikey_runtime::__private::DefaultPolicy,
                    (),
                >,
            ) -> R {
                #![allow(unused)]
                ::apikey_runtime::__private::inventory::submit! {
                    ::apikey_runtime::__private::RouteRegistration { module : ::core::module_path!(),
                    name : "type", place : (::core::file!(), ::core::line!(), ::core::column!()),
                    attributes_below : 0usize, policy : < ::apikey_runtime::__private::DefaultPolicy
                    as ::apikey_runtime::__private::RoutePolicy > ::POLICY, routes : & [("GET",
                    "/orders/{id}")], }
                }
                R
            }
        "#]],
    );
}

#[test]
fn with_options_it_registers_the_policy_of_its_own_type() {
    check(
        "scope = \"a\", crate = keys",
        "",
        "#[post(\"/a\")] #[api_key_required] async fn f(#[allow(unused)] body: String) -> R { R }",
        expect![[r##"
            #[doc(hidden)]
            #[non_exhaustive]
            struct __apikey_f_1_6df54a6b3c2b8a2d;
            impl keys::__private::RoutePolicy for __apikey_f_1_6df54a6b3c2b8a2d {
                const POLICY: keys::__private::Policy = keys::__private::Policy::new()
                    .scopes(keys::__private::ScopeExpr::One("a"));
            }
            #[post("/a")]
            #[api_key_required]
            async fn f(
                keys::__private::Guarded(
                    (__apikey_argument_0,),
                    ..,
                ): keys::__private::Guarded<__apikey_f_1_6df54a6b3c2b8a2d, (String,)>,
            ) -> R {
                #[allow(unused)]
                let body = __apikey_argument_0;
                {
                    keys::__private::inventory::submit! {
                        keys::__private::RouteRegistration { module : ::core::module_path!(), name :
                        "f", place : (::core::file!(), ::core::line!(), ::core::column!()),
                        attributes_below : 2usize, policy : < __apikey_f_1_6df54a6b3c2b8a2d as
                        keys::__private::RoutePolicy > ::POLICY, routes : & [("POST", "/a")], }
                    }
                    R
                }
            }
        "##]],
    );
}

#[test]
fn without_the_feature_a_handler_does_not_register_itself() {
    let expansion = expand("", "#[get(\"/\")] async fn f() -> R { R }");
    assert!(!expansion.contains("inventory"), "{expansion}");
}
