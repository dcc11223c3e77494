//! Functions that actix cannot call.

use apikey_runtime::api_key_required;
use std::future::Ready;

#[api_key_required]
async unsafe fn unsafe_fn() -> &'static str {
    "ok"
}

#[api_key_required]
async extern "C" fn extern_fn() -> &'static str {
    "ok"
}

#[api_key_required]
const fn const_fn() -> Ready<&'static str> {
    panic!()
}

#[api_key_required]
unsafe extern "C" fn variadic(_rest: ...) -> Ready<&'static str> {
    panic!()
}

fn main() {}
