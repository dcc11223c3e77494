//! Negative controls: pages with the defects that checks have to find.

use actix_web::{HttpResponse, get, web};
use serde::Deserialize;

pub(crate) fn routes(app: &mut web::ServiceConfig) {
    app.service(defect).service(keeps);
}

/// Answers with a page of the test's own, which has no policy for scripts.
pub(crate) fn page(body: &str) -> HttpResponse {
    let head = "<!doctype html><html lang=en><meta charset=utf-8><title>A test's page</title>\
        <meta name=viewport content='width=device-width'><link rel=icon href=data:,><body><main>";
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .body(format!("{head}{body}</main>"))
}

/// Shows a page with one defect.
#[get("/control/{defect}")]
async fn defect(defect: web::Path<String>) -> HttpResponse {
    page(match &**defect {
        "other-origin" => {
            "<h1>1</h1><img src='http://localhost:9/x.png' alt='An image of another origin'>"
        }
        "console-error" => "<h1>1</h1><script>console.error('this is an error')</script>",
        "image-without-alt" => "<h1>1</h1><img src='data:,'>",
        "pale" => "<style>p { color: #999; background: #fff }</style><h1>1</h1><p>This is pale.",
        "pale-in-the-dark" => {
            "<style>@media (prefers-color-scheme: dark) { p { color: #444; background: #111 } }</style><h1>1</h1><p>This is pale in the dark."
        }
        "wide" => "<style>p { width: 400px }</style><h1>1</h1><p>This is wide.",
        "markup" => "<h1>1</h1><script>window.hit = 1</script>",
        _ => return HttpResponse::NotFound().finish(),
    })
}

#[derive(Deserialize)]
struct Kept {
    secret: String,
    script: String,
}

/// Shows a secret as the portal does, in a page that the browser may keep: without `no-store`, and not the answer of a
/// form. `script` is its script.
#[get("/kept")]
async fn keeps(kept: web::Query<Kept>) -> HttpResponse {
    page(&format!(
        "<h1>1</h1><label>Secret <input data-secret value='{}'></label><button data-copy>Copy</button><p data-copied></p>\
         <a href='/login' data-kept>On</a><script src='{}'></script>",
        kept.secret, kept.script
    ))
}
