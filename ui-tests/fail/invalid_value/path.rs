//! Options that take a path.

use apikey_runtime::api_key_required;

#[api_key_required(manager = "path")]
async fn handler_0() -> &'static str {
    "ok"
}

#[api_key_required(manager = manager())]
async fn handler_1() -> &'static str {
    "ok"
}

#[api_key_required(on_error = |_, _| todo!())]
async fn handler_2() -> &'static str {
    "ok"
}

#[api_key_required(on_error = 5)]
async fn handler_3() -> &'static str {
    "ok"
}

#[api_key_required(crate = "apikey_runtime")]
async fn handler_4() -> &'static str {
    "ok"
}

#[api_key_required(crate = ::apikey_runtime::<u8>)]
async fn handler_5() -> &'static str {
    "ok"
}

#[api_key_required(manager = &manager)]
async fn handler_6() -> &'static str {
    "ok"
}

fn main() {}
