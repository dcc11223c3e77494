//! Twenty handlers called `list`.

#![allow(dead_code)]

use actix_web::get;
use apikey_runtime::openapi::ApiKeySecurity;
use utoipa::openapi::OpenApi as Document;
use utoipa::{Modify, OpenApi};

macro_rules! modules {
    ($($module:ident: $path:literal, $scope:literal;)*) => {
        $(
            mod $module {
                use super::get;
                use apikey_runtime::api_key_required;

                #[utoipa::path(responses((status = 200, description = "All of them")))]
                #[get($path)]
                #[api_key_required(scope = $scope)]
                pub async fn list() -> &'static str {
                    "ok"
                }

                #[derive(utoipa::OpenApi)]
                #[openapi(paths(list))]
                pub struct Own;
            }
        )*

        #[derive(OpenApi)]
        #[openapi(paths($($module::list),*))]
        struct Api;

        const SCOPES: &[(&str, &str)] = &[$(($path, $scope)),*];
    };
}

modules! {
    m01: "/m01", "s01"; m02: "/m02", "s02"; m03: "/m03", "s03"; m04: "/m04", "s04";
    m05: "/m05", "s05"; m06: "/m06", "s06"; m07: "/m07", "s07"; m08: "/m08", "s08";
    m09: "/m09", "s09"; m10: "/m10", "s10"; m11: "/m11", "s11"; m12: "/m12", "s12";
    m13: "/m13", "s13"; m14: "/m14", "s14"; m15: "/m15", "s15"; m16: "/m16", "s16";
    m17: "/m17", "s17"; m18: "/list", "s18"; m19: "/list", "s19"; m20: "/x/list", "s20";
}

/// The handlers of two modules under one relative path, which only their tags tell apart.
#[derive(OpenApi)]
#[openapi(nest(
    (path = "/first", api = m18::Own, tags = ["m18"]),
    (path = "/second", api = m19::Own, tags = ["m19"]),
    (path = "/third", api = m20::Own)
))]
struct Tagged;

/// The same without tags.
#[derive(OpenApi)]
#[openapi(nest((path = "/first", api = m18::Own), (path = "/second", api = m19::Own)))]
struct Untagged;

const API_KEYS: ApiKeySecurity = ApiKeySecurity::new();

fn scope(document: &Document, path: &str) -> Option<String> {
    let document = serde_json::to_value(document).unwrap();
    let security = &document["paths"][path]["get"]["security"];
    Some(security[0]["api_key"][0].as_str()?.to_owned())
}

fn main() {
    let mut document = Api::openapi();
    API_KEYS.strict().modify(&mut document);
    for (path, expected) in SCOPES {
        // A document has one operation for each path.
        if *path != "/list" {
            assert_eq!(scope(&document, path).as_deref(), Some(*expected));
        }
    }
    // Nothing changes when it is modified twice.
    let once = document.clone();
    API_KEYS.modify(&mut document);
    assert!(once == document);

    let mut document = Tagged::openapi();
    API_KEYS.strict().modify(&mut document);
    assert_eq!(scope(&document, "/first/list").as_deref(), Some("s18"));
    assert_eq!(scope(&document, "/second/list").as_deref(), Some("s19"));
    assert_eq!(scope(&document, "/third/x/list").as_deref(), Some("s20"));

    let mut document = Untagged::openapi();
    document.paths.paths.values_mut().for_each(|item| {
        item.get.as_mut().unwrap().tags = None;
    });
    let untagged = document.clone();
    API_KEYS.modify(&mut document);
    assert_eq!(scope(&document, "/first/list"), None);
    assert_eq!(scope(&document, "/second/list"), None);
    let strict = std::panic::catch_unwind(move || API_KEYS.strict().modify(&mut untagged.clone()));
    let message = *strict.unwrap_err().downcast::<String>().unwrap();
    for part in [
        "`/first/list` may be",
        "m18::list",
        "m19::list",
        "operation_id",
    ] {
        assert!(message.contains(part), "no `{part}` in {message}");
    }
}
