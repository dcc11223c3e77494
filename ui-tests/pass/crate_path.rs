//! The runtime under another path.

use actix_web::{App, web};

extern crate apikey_runtime as renamed;

mod reexport {
    pub use apikey_runtime::*;
    pub mod deeper {
        pub use apikey_runtime as keys;
    }
}

/// Would be found by a path that is not absolute.
mod apikey_runtime_is_not_here {}

#[reexport::api_key_required(crate = reexport)]
async fn plain() -> &'static str {
    "plain"
}

#[reexport::api_key_required(scope = "a", crate = crate::reexport::deeper::keys)]
async fn with_options() -> &'static str {
    "options"
}

#[renamed::api_key_required(crate = renamed, optional)]
async fn renamed_crate() -> &'static str {
    "renamed"
}

mod inside {
    #[super::renamed::api_key_required(fresh, crate = super::renamed)]
    pub(super) async fn relative() -> &'static str {
        "relative"
    }
}

fn main() {
    let _ = App::new()
        .route("/1", web::get().to(plain))
        .route("/2", web::get().to(with_options))
        .route("/3", web::get().to(renamed_crate))
        .route("/4", web::get().to(inside::relative));
}
