//! Missing and misplaced values.

use apikey_runtime::api_key_required;

#[api_key_required(scope)]
async fn handler_0() -> &'static str {
    "ok"
}

#[api_key_required(scope =)]
async fn handler_1() -> &'static str {
    "ok"
}

#[api_key_required(scope =, fresh)]
async fn handler_2() -> &'static str {
    "ok"
}

#[api_key_required(scope("orders:read"))]
async fn handler_3() -> &'static str {
    "ok"
}

#[api_key_required(scopes(all("a")))]
async fn handler_4() -> &'static str {
    "ok"
}

#[api_key_required(prefix)]
async fn handler_5() -> &'static str {
    "ok"
}

#[api_key_required(location)]
async fn handler_6() -> &'static str {
    "ok"
}

#[api_key_required(locations(bearer))]
async fn handler_7() -> &'static str {
    "ok"
}

#[api_key_required(manager(path))]
async fn handler_8() -> &'static str {
    "ok"
}

#[api_key_required(crate)]
async fn handler_9() -> &'static str {
    "ok"
}

#[api_key_required(scope == "a")]
async fn handler_10() -> &'static str {
    "ok"
}

#[api_key_required(methods)]
async fn handler_11() -> &'static str {
    "ok"
}

#[api_key_required(methods = POST)]
async fn handler_12() -> &'static str {
    "ok"
}

#[api_key_required(methods = POST, PUT, fresh)]
async fn handler_13() -> &'static str {
    "ok"
}

#[api_key_required(methods = [POST, PUT])]
async fn handler_14() -> &'static str {
    "ok"
}

#[api_key_required(methods["POST"])]
async fn handler_15() -> &'static str {
    "ok"
}

fn main() {}
