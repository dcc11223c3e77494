//! A cost above the burst of a const, which only rustc can evaluate.

use apikey_runtime::{Rate, api_key_required};

const SLOW: Rate = Rate::per_minute(10);

#[api_key_required(rate_limit = SLOW, cost = 11)]
async fn handler_0() -> &'static str {
    "ok"
}

fn main() {}
