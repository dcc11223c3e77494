//! Arbitrary bytes at every key location: no panic, no 5xx, and the handler is never reached.
#![no_main]

use actix_web::http::header::HeaderValue;
use actix_web::{App, test, web};
use apikey_runtime::{ApiKeyManager, Guarded, KeyLocation, MemoryStore, Policy, RoutePolicy};
use libfuzzer_sys::fuzz_target;

struct Everywhere;

impl RoutePolicy for Everywhere {
    const POLICY: Policy = Policy::new().locations(&[
        KeyLocation::BEARER,
        KeyLocation::Header {
            name: "x-api-key",
            scheme: None,
        },
        KeyLocation::Basic,
        KeyLocation::WebSocket,
        KeyLocation::Query { name: "k" },
        KeyLocation::Cookie { name: "k" },
        KeyLocation::Json { name: "k" },
        KeyLocation::Form { name: "k" },
    ]);
}

async fn handler(_: Guarded<Everywhere, ()>) -> &'static str {
    "reached"
}

fuzz_target!(|input: (u8, &str, &[u8])| {
    let (location, text, body) = input;
    // An invalid header value cannot be part of a request.
    if location % 6 < 3 && HeaderValue::from_str(text).is_err() {
        return;
    }
    let request = test::TestRequest::post();
    let request = match location % 6 {
        0 => request.append_header(("authorization", text)),
        1 => request
            .append_header(("x-api-key", text))
            .append_header(("forwarded", text)),
        2 => request.append_header(("cookie", text)),
        3 if format!("/?{text}").parse::<actix_web::http::Uri>().is_ok() => {
            request.uri(&format!("/?{text}"))
        }
        4 => request
            .append_header(("content-type", "application/json"))
            .set_payload(body.to_vec()),
        _ => request
            .append_header(("content-type", "application/x-www-form-urlencoded"))
            .set_payload(body.to_vec()),
    };
    let request = request.to_request();
    actix_web::rt::Runtime::new().unwrap().block_on(async {
        let manager = ApiKeyManager::builder()
            .store(MemoryStore::new())
            .start()
            .await
            .unwrap();
        let app = App::new()
            .configure(|app| manager.init_app(app))
            .default_service(web::to(handler));
        let app = test::init_service(app).await;
        let status = test::call_service(&app, request).await.status();
        assert!(status.is_client_error(), "{status}");
    });
});
