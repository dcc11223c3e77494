//! Snapshots of expansions. `UPDATE_EXPECT=1 cargo test -p apikey-macros` updates them.

use expect_test::{Expect, expect};

use super::*;

fn check(arguments: &str, item: &str, expected: Expect) {
    expected.assert_eq(&expand(arguments, item));
}

#[test]
fn the_plain_attribute_adds_no_type() {
    check(
        "",
        "/// Docs.\nasync fn list(key: ApiKey, Json(body): Json<Order>) -> impl Responder { body.len() }",
        expect![[r#"
            /// Docs.
            async fn list(
                ::apikey_runtime::__private::Guarded(
                    (key, Json(body)),
                    ..,
                ): ::apikey_runtime::__private::Guarded<
                    ::apikey_runtime::__private::DefaultPolicy,
                    (ApiKey, Json<Order>),
                >,
            ) -> impl Responder {
                body.len()
            }
        "#]],
    );
}

#[test]
fn a_handler_without_arguments() {
    check(
        "",
        "async fn hello() -> &'static str { \"hello\" }",
        expect![[r#"
            async fn hello(
                ::apikey_runtime::__private::Guarded(
                    (),
                    ..,
                ): ::apikey_runtime::__private::Guarded<
                    ::apikey_runtime::__private::DefaultPolicy,
                    (),
                >,
            ) -> &'static str {
                "hello"
            }
        "#]],
    );
}

#[test]
fn a_scope_makes_a_type_with_the_visibility_of_the_function() {
    check(
        r#"scope = "orders:read""#,
        "pub(crate) async fn list(key: ApiKey) -> HttpResponse { HttpResponse::Ok().finish() }",
        expect![[r##"
            #[doc(hidden)]
            #[non_exhaustive]
            pub(crate) struct __apikey_list_0_86349f43e9a404bf;
            impl ::apikey_runtime::__private::RoutePolicy for __apikey_list_0_86349f43e9a404bf {
                const POLICY: ::apikey_runtime::__private::Policy = ::apikey_runtime::__private::Policy::new()
                    .scopes(::apikey_runtime::__private::ScopeExpr::One("orders:read"));
            }
            pub(crate) async fn list(
                ::apikey_runtime::__private::Guarded(
                    (key,),
                    ..,
                ): ::apikey_runtime::__private::Guarded<__apikey_list_0_86349f43e9a404bf, (ApiKey,)>,
            ) -> HttpResponse {
                HttpResponse::Ok().finish()
            }
        "##]],
    );
}

#[test]
fn every_option() {
    check(
        r#"
            scopes = all("a", any("project:{project_id}:read", permissions::READ), not("b")),
            locations = [bearer, header("X-API-Key"), header("Authorization", scheme = "ApiKey")],
            methods(POST, "PUT"), optional, fresh, require_https, prefix = "adm", environment = "live",
            rate_limit = "100/minute", burst = 20, cost = 5, on_limiter_down = "local",
            manager = tenants::manager, on_error = answers::refused, crate = crate::reexport,
        "#,
        "async fn list() -> HttpResponse { HttpResponse::Ok().finish() }",
        expect![[r##"
            #[doc(hidden)]
            #[non_exhaustive]
            struct __apikey_list_0_33cf96dc93e4ecf6;
            impl crate::reexport::__private::RoutePolicy for __apikey_list_0_33cf96dc93e4ecf6 {
                const POLICY: crate::reexport::__private::Policy = crate::reexport::__private::Policy::new()
                    .scopes(
                        crate::reexport::__private::ScopeExpr::All(
                            &[
                                crate::reexport::__private::ScopeExpr::One("a"),
                                crate::reexport::__private::ScopeExpr::Any(
                                    &[
                                        crate::reexport::__private::ScopeExpr::One(
                                            "project:{project_id}:read",
                                        ),
                                        crate::reexport::__private::ScopeExpr::One(permissions::READ),
                                    ],
                                ),
                                crate::reexport::__private::ScopeExpr::Not(
                                    &crate::reexport::__private::ScopeExpr::One("b"),
                                ),
                            ],
                        ),
                    )
                    .locations(
                        &[
                            crate::reexport::__private::KeyLocation::Header {
                                name: "authorization",
                                scheme: crate::reexport::__private::Option::Some("Bearer"),
                            },
                            crate::reexport::__private::KeyLocation::Header {
                                name: "x-api-key",
                                scheme: crate::reexport::__private::Option::None,
                            },
                            crate::reexport::__private::KeyLocation::Header {
                                name: "authorization",
                                scheme: crate::reexport::__private::Option::Some("ApiKey"),
                            },
                        ],
                    )
                    .methods(&["POST", "PUT"])
                    .optional()
                    .fresh()
                    .require_https()
                    .name(::core::concat!(::core::module_path!(), "::", "list"))
                    .rate_limit(
                        crate::reexport::__private::Rate::with_burst(
                            crate::reexport::__private::Rate::new(
                                100u32,
                                crate::reexport::__private::Duration::from_millis(60000u64),
                            ),
                            20u32,
                        ),
                    )
                    .cost(5u32)
                    .on_limiter_down(crate::reexport::__private::LimiterFallback::Local)
                    .prefix("adm")
                    .environment("live");
                const ON_ERROR: crate::reexport::__private::Option<
                    fn(
                        &crate::reexport::__private::Denied,
                        &crate::reexport::__private::HttpRequest,
                    ) -> crate::reexport::__private::HttpResponse,
                > = crate::reexport::__private::Option::Some(
                    crate::reexport::__private::on_error(answers::refused),
                );
                const MANAGER: crate::reexport::__private::Option<
                    fn(
                        &crate::reexport::__private::HttpRequest,
                    ) -> crate::reexport::__private::Option<
                        crate::reexport::__private::ApiKeyManager,
                    >,
                > = crate::reexport::__private::Option::Some(
                    crate::reexport::__private::manager(tenants::manager),
                );
            }
            const _: crate::reexport::__private::Policy = <__apikey_list_0_33cf96dc93e4ecf6 as crate::reexport::__private::RoutePolicy>::POLICY;
            async fn list(
                crate::reexport::__private::Guarded(
                    (),
                    ..,
                ): crate::reexport::__private::Guarded<__apikey_list_0_33cf96dc93e4ecf6, ()>,
            ) -> HttpResponse {
                HttpResponse::Ok().finish()
            }
        "##]],
    );
}

#[test]
fn rates() {
    check(
        r#"rate_limit = "1000/10s burst 50", on_limiter_down = "deny""#,
        "async fn f() -> R { R }",
        expect![[r##"
            #[doc(hidden)]
            #[non_exhaustive]
            struct __apikey_f_0_2ccc1e530be8815d;
            impl ::apikey_runtime::__private::RoutePolicy for __apikey_f_0_2ccc1e530be8815d {
                const POLICY: ::apikey_runtime::__private::Policy = ::apikey_runtime::__private::Policy::new()
                    .name(::core::concat!(::core::module_path!(), "::", "f"))
                    .rate_limit(
                        ::apikey_runtime::__private::Rate::with_burst(
                            ::apikey_runtime::__private::Rate::new(
                                1000u32,
                                ::apikey_runtime::__private::Duration::from_millis(10000u64),
                            ),
                            50u32,
                        ),
                    )
                    .on_limiter_down(::apikey_runtime::__private::LimiterFallback::Deny);
            }
            async fn f(
                ::apikey_runtime::__private::Guarded(
                    (),
                    ..,
                ): ::apikey_runtime::__private::Guarded<__apikey_f_0_2ccc1e530be8815d, ()>,
            ) -> R {
                R
            }
        "##]],
    );
    check(
        "rate_limit = <A as B>::RATE, burst = 0x_14",
        "#[get(\"/\")] #[api_key_required(fresh)] async fn r#type() -> R { R }",
        expect![[r##"
            #[doc(hidden)]
            #[non_exhaustive]
            struct __apikey_type_1_f987b38984e94ee2;
            impl ::apikey_runtime::__private::RoutePolicy for __apikey_type_1_f987b38984e94ee2 {
                const POLICY: ::apikey_runtime::__private::Policy = ::apikey_runtime::__private::Policy::new()
                    .name(::core::concat!(::core::module_path!(), "::", "type#2"))
                    .rate_limit(
                        ::apikey_runtime::__private::Rate::with_burst(<A as B>::RATE, 20u32),
                    );
            }
            const _: ::apikey_runtime::__private::Policy = <__apikey_type_1_f987b38984e94ee2 as ::apikey_runtime::__private::RoutePolicy>::POLICY;
            #[get("/")]
            #[api_key_required(fresh)]
            async fn r#type(
                ::apikey_runtime::__private::Guarded(
                    (),
                    ..,
                ): ::apikey_runtime::__private::Guarded<__apikey_type_1_f987b38984e94ee2, ()>,
            ) -> R {
                R
            }
        "##]],
    );
    check(
        "cost = 0",
        "async fn f() -> R { R }",
        expect![[r#"
        #[doc(hidden)]
        #[non_exhaustive]
        struct __apikey_f_0_5d25283cc4c92e2f;
        impl ::apikey_runtime::__private::RoutePolicy for __apikey_f_0_5d25283cc4c92e2f {
            const POLICY: ::apikey_runtime::__private::Policy = ::apikey_runtime::__private::Policy::new()
                .cost(0u32);
        }
        async fn f(
            ::apikey_runtime::__private::Guarded(
                (),
                ..,
            ): ::apikey_runtime::__private::Guarded<__apikey_f_0_5d25283cc4c92e2f, ()>,
        ) -> R {
            R
        }
    "#]],
    );
}

#[test]
fn every_location() {
    check(
        r#"locations = [header("X-API-Key"), basic, websocket, query("k"), cookie("c.1"), json("J"), form("f-")]"#,
        "async fn f() -> R { R }",
        expect![[r##"
            #[doc(hidden)]
            #[non_exhaustive]
            struct __apikey_f_0_ca5567fbe7860572;
            impl ::apikey_runtime::__private::RoutePolicy for __apikey_f_0_ca5567fbe7860572 {
                const POLICY: ::apikey_runtime::__private::Policy = ::apikey_runtime::__private::Policy::new()
                    .locations(
                        &[
                            ::apikey_runtime::__private::KeyLocation::Header {
                                name: "x-api-key",
                                scheme: ::apikey_runtime::__private::Option::None,
                            },
                            ::apikey_runtime::__private::KeyLocation::Basic,
                            ::apikey_runtime::__private::KeyLocation::WebSocket,
                            ::apikey_runtime::__private::KeyLocation::Query {
                                name: "k",
                            },
                            ::apikey_runtime::__private::KeyLocation::Cookie {
                                name: "c.1",
                            },
                            ::apikey_runtime::__private::KeyLocation::Json {
                                name: "J",
                            },
                            ::apikey_runtime::__private::KeyLocation::Form {
                                name: "f-",
                            },
                        ],
                    );
            }
            async fn f(
                ::apikey_runtime::__private::Guarded(
                    (),
                    ..,
                ): ::apikey_runtime::__private::Guarded<__apikey_f_0_ca5567fbe7860572, ()>,
            ) -> R {
                R
            }
        "##]],
    );
}

#[test]
fn generics_where_clauses_and_attributes_stay() {
    check(
        "fresh",
        "#[get(\"/\")] #[allow(unused)] pub async fn f<'a, T: Load, const N: usize>(mut a: T, _: [u8; N], (b, c): (B, C)) \
         -> Result<impl Responder + use<T, N>, Error> where T: 'static { #![allow(dead_code)] a.load()? }",
        expect![[r##"
            #[doc(hidden)]
            #[non_exhaustive]
            pub struct __apikey_f_0_4ff3c424a2519cf9;
            impl ::apikey_runtime::__private::RoutePolicy for __apikey_f_0_4ff3c424a2519cf9 {
                const POLICY: ::apikey_runtime::__private::Policy = ::apikey_runtime::__private::Policy::new()
                    .fresh();
            }
            #[get("/")]
            #[allow(unused)]
            pub async fn f<'a, T: Load, const N: usize>(
                ::apikey_runtime::__private::Guarded(
                    (mut a, _, (b, c)),
                    ..,
                ): ::apikey_runtime::__private::Guarded<
                    __apikey_f_0_4ff3c424a2519cf9,
                    (T, [u8; N], (B, C)),
                >,
            ) -> Result<impl Responder + use<T, N>, Error>
            where
                T: 'static,
            {
                #![allow(dead_code)]
                a.load()?
            }
        "##]],
    );
}

#[test]
fn a_function_that_returns_a_future() {
    check(
        "",
        "fn f(a: A) -> impl Future<Output = HttpResponse> { async move { a.answer() } }",
        expect![[r#"
            fn f(
                ::apikey_runtime::__private::Guarded(
                    (a,),
                    ..,
                ): ::apikey_runtime::__private::Guarded<
                    ::apikey_runtime::__private::DefaultPolicy,
                    (A,),
                >,
            ) -> impl Future<Output = HttpResponse> {
                async move { a.answer() }
            }
        "#]],
    );
}

#[test]
fn an_argument_with_a_lint_attribute_gets_a_let_of_its_own() {
    check(
        "",
        "async fn f(a: A, #[allow(unused_variables)] #[expect(unused_mut)] mut b: B, c: C) -> R \
         { #![warn(unused)] a.with(c) }",
        expect![[r#"
            async fn f(
                ::apikey_runtime::__private::Guarded(
                    (a, __apikey_argument_1, c),
                    ..,
                ): ::apikey_runtime::__private::Guarded<
                    ::apikey_runtime::__private::DefaultPolicy,
                    (A, B, C),
                >,
            ) -> R {
                #![warn(unused)]
                #[allow(unused_variables)]
                #[expect(unused_mut)]
                let mut b = __apikey_argument_1;
                { a.with(c) }
            }
        "#]],
    );
}

#[test]
fn a_cfg_below_is_also_on_the_type() {
    check(
        "optional",
        "#[cfg(unix)] #[cfg_attr(a, cfg(b), inline)] async fn f() -> R { R }",
        expect![[r#"
            #[cfg(unix)]
            #[cfg_attr(a, cfg(b))]
            #[doc(hidden)]
            #[non_exhaustive]
            struct __apikey_f_0_a7e67e9e23339337;
            #[cfg(unix)]
            #[cfg_attr(a, cfg(b))]
            impl ::apikey_runtime::__private::RoutePolicy for __apikey_f_0_a7e67e9e23339337 {
                const POLICY: ::apikey_runtime::__private::Policy = ::apikey_runtime::__private::Policy::new()
                    .optional();
            }
            #[cfg(unix)]
            #[cfg_attr(a, cfg(b), inline)]
            async fn f(
                ::apikey_runtime::__private::Guarded(
                    (),
                    ..,
                ): ::apikey_runtime::__private::Guarded<__apikey_f_0_a7e67e9e23339337, ()>,
            ) -> R {
                R
            }
        "#]],
    );
}

#[test]
fn a_raw_identifier() {
    check(
        "optional",
        "async fn r#type(r#match: Match) -> R { r#match.into() }",
        expect![[r#"
            #[doc(hidden)]
            #[non_exhaustive]
            struct __apikey_type_0_1cd8318a98e03561;
            impl ::apikey_runtime::__private::RoutePolicy for __apikey_type_0_1cd8318a98e03561 {
                const POLICY: ::apikey_runtime::__private::Policy = ::apikey_runtime::__private::Policy::new()
                    .optional();
            }
            async fn r#type(
                ::apikey_runtime::__private::Guarded(
                    (r#match,),
                    ..,
                ): ::apikey_runtime::__private::Guarded<__apikey_type_0_1cd8318a98e03561, (Match,)>,
            ) -> R {
                r#match.into()
            }
        "#]],
    );
}
