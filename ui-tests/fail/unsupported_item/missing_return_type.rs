//! Functions without a return type.

use apikey_runtime::api_key_required;

#[api_key_required]
async fn nothing() {}

#[api_key_required]
fn nothing_at_once() {}

fn main() {}
