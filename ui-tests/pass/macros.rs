//! Handlers that macros generate, with every kind of fragment.

use actix_web::{App, Responder, get, web};
use apikey_runtime::api_key_required;

macro_rules! handler {
    ($name:ident, $path:literal, $scope:literal) => {
        #[get($path)]
        #[api_key_required(scope = $scope)]
        async fn $name(body: String) -> String {
            body
        }
    };
}

handler!(first, "/first", "first:read");
handler!(second, "/second", "second:read");

macro_rules! fragments {
    (
        $(#[$attribute:meta])* $visibility:vis fn $name:ident($($pattern:pat => $argument:ty),*) -> $output:ty $body:block
        scopes $scope:path, $expression:expr, $flag:ident, $prefix:expr
    ) => {
        $(#[$attribute])*
        #[api_key_required(scopes = any($scope, $expression), $flag, prefix = $prefix)]
        $visibility async fn $name($($pattern: $argument),*) -> $output $body
    };
}

mod scopes {
    pub const READ: &str = "read";
}

fragments! {
    /// Docs.
    #[get("/fragments")]
    fn fragments(web::Query(pairs) => web::Query<Vec<(String, String)>>, _body => String) -> String {
        pairs.len().to_string()
    }
    scopes scopes::READ, "write", optional, "adm"
}

fragments! {
    pub(crate) fn public() -> impl Responder { "public" }
    scopes crate::scopes::READ, "write", fresh, "adm"
}

macro_rules! whole {
    ($($item:item)*) => {
        $(
            #[api_key_required(scope = "whole:item")]
            $item
        )*
    };
}

whole! {
    async fn whole_one() -> &'static str { "one" }
    async fn whole_two(body: String) -> String { body }
}

macro_rules! local_names {
    ($name:ident) => {
        #[api_key_required(fresh)]
        async fn $name(body: String, #[allow(unused_mut)] mut other: String) -> String {
            other + &body
        }
    };
}

local_names!(local);

macro_rules! a_whole_argument_list {
    ($($arguments:tt)*) => {
        #[api_key_required($($arguments)*)]
        async fn by_tokens() -> &'static str {
            "tokens"
        }
    };
}

a_whole_argument_list!(scopes = all("a", "b"), location = header("X-API-Key"));

macro_rules! limited {
    ($name:ident, $rate:literal, $burst:literal, $cost:expr) => {
        #[api_key_required(rate_limit = $rate, burst = $burst, cost = $cost)]
        async fn $name() -> &'static str {
            "limited"
        }
    };
}

limited!(limited_one, "100/minute", 20, 5);

/// Moves the functions of an `impl` out of it.
macro_rules! hoist {
    (impl $name:ident { $($item:item)* }) => {
        struct $name;
        $($item)*
    };
}

hoist!(impl Hoisted {
    #[api_key_required(scope = "hoisted:read")]
    async fn hoisted() -> &'static str {
        "hoisted"
    }
});

fn main() {
    let _ = Hoisted;
    let _ = App::new()
        .route("/hoisted", web::get().to(hoisted))
        .service(first)
        .service(second)
        .service(fragments)
        .route("/public", web::get().to(public))
        .route("/one", web::get().to(whole_one))
        .route("/two", web::get().to(whole_two))
        .route("/local", web::get().to(local))
        .route("/tokens", web::get().to(by_tokens))
        .route("/limited", web::get().to(limited_one));
}
