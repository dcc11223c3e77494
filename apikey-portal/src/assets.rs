//! The portal's own style sheet, script and icon, under names that change with their content.

use std::fmt::Write as _;
use std::sync::LazyLock;

use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::{HttpResponse, web};
use sha2::{Digest as _, Sha256};

use crate::headers::IMMUTABLE;
use crate::path_part::PathPart;

/// A file that pages link to.
pub(crate) struct Asset {
    content_type: &'static str,
    content: &'static str,
    /// The name in URLs, such as `portal-0123456789abcdef.css`.
    pub(crate) name: String,
}

/// The files that pages link to.
pub(crate) struct Assets {
    pub(crate) style: Asset,
    pub(crate) script: Asset,
    pub(crate) icon: Asset,
}

pub(crate) static ASSETS: LazyLock<Assets> = LazyLock::new(|| Assets {
    style: Asset::new(
        "css",
        "text/css; charset=utf-8",
        concat!(
            include_str!("../assets/css/base.css"),
            include_str!("../assets/css/list.css"),
            include_str!("../assets/css/form.css"),
            include_str!("../assets/css/key.css"),
            include_str!("../assets/css/admin.css"),
        ),
    ),
    script: Asset::new(
        "js",
        "text/javascript; charset=utf-8",
        include_str!("../assets/portal.js"),
    ),
    icon: Asset::new("svg", "image/svg+xml", include_str!("../assets/icon.svg")),
});

impl Asset {
    fn new(extension: &str, content_type: &'static str, content: &'static str) -> Self {
        let mut name = "portal-".to_owned();
        for byte in &Sha256::digest(content)[..8] {
            // Writing into a `String` does not fail.
            let _ = write!(name, "{byte:02x}");
        }
        name.push('.');
        name.push_str(extension);
        Self {
            content_type,
            content,
            name,
        }
    }
}

/// Answers with an asset; 404 for the name of another release's.
pub(crate) async fn serve(name: web::Path<PathPart>) -> HttpResponse {
    let assets = &*ASSETS;
    let all = [&assets.style, &assets.script, &assets.icon];
    match all.into_iter().find(|asset| asset.name == **name) {
        Some(asset) => HttpResponse::Ok()
            .insert_header((CACHE_CONTROL, IMMUTABLE))
            .insert_header((CONTENT_TYPE, asset.content_type))
            .body(asset.content),
        None => HttpResponse::NotFound().finish(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn style_and_script_are_small() {
        let size = ASSETS.style.content.len() + ASSETS.script.content.len();
        assert!(size <= 20 * 1_024, "{size} bytes");
    }
}
