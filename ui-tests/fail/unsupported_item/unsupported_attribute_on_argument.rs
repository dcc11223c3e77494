//! Attributes on arguments that are not lint attributes.

use apikey_runtime::api_key_required;

#[api_key_required]
async fn with_docs(
    /// The body.
    _body: String,
) -> &'static str {
    "ok"
}

#[api_key_required]
async fn with_another(#[arg(name = "body")] _body: String) -> &'static str {
    "ok"
}

fn main() {}
