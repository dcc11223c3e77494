//! WebSockets of a browser: the key among the subprotocols.

use actix_web::http::header;
use actix_web::web::{self, Payload};
use actix_web::{HttpRequest, HttpResponse};
use apikey_runtime::{ApiKey, ApiKeyExt, KeyLocation, Policy, RequireApiKey, api_key_required};
use apikey_test_support::http::{Answer, Client, Server, get_request};
use apikey_test_support::{forge, manager};

/// Answers as a browser needs it, and sends the key's label.
async fn speak(request: &HttpRequest, body: Payload) -> actix_web::Result<HttpResponse> {
    let protocols = ["bearer", "chat"];
    let (response, mut session, _messages) =
        actix_ws::handle_with_protocols(request, body, &protocols)?;
    let label = request.api_key().unwrap().label().to_owned();
    actix_web::rt::spawn(async move { session.text(label).await });
    Ok(response)
}

#[api_key_required(location = websocket)]
async fn feed(
    request: HttpRequest,
    body: Payload,
    _key: ApiKey,
) -> actix_web::Result<HttpResponse> {
    speak(&request, body).await
}

#[api_key_required]
async fn not_named(request: HttpRequest, body: Payload) -> actix_web::Result<HttpResponse> {
    speak(&request, body).await
}

/// Says what a handler sees of the header.
async fn seen(request: HttpRequest) -> String {
    let lines = request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL);
    let lines: Vec<_> = lines.map(|line| line.to_str().unwrap()).collect();
    lines.join("; ")
}

/// A handler with its own guard, behind a middleware that took the key out.
#[api_key_required(location = websocket)]
async fn inner(request: HttpRequest) -> String {
    seen(request).await
}

fn configure(app: &mut web::ServiceConfig) {
    const WEBSOCKET: Policy = Policy::new().locations(&[KeyLocation::WebSocket]);
    let guard = RequireApiKey::with(WEBSOCKET);
    app.route("/feed", web::get().to(feed))
        .route("/not-named", web::get().to(not_named));
    for (path, guard) in [
        ("/keep", guard.clone()),
        ("/strip", guard.strip_credential()),
    ] {
        let feed = async |request: HttpRequest, body: Payload| speak(&request, body).await;
        app.service(
            web::scope(path)
                .wrap(guard)
                .route("/seen", web::get().to(seen))
                .route("/inner", web::get().to(inner))
                .route("/feed", web::get().to(feed)),
        );
    }
}

/// Opens a WebSocket as a browser does, with these lists of subprotocols.
async fn open(server: &Server, path: &str, lines: &[&str]) -> (Client, Answer) {
    let mut headers = vec![
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    headers.extend(lines.iter().map(|line| ("Sec-WebSocket-Protocol", *line)));
    let mut client = server.connect().await;
    client.send(get_request(path, &headers)).await;
    let answer = client.answer().await;
    (client, answer)
}

#[actix_web::test]
async fn a_browser_opens_a_websocket_with_its_key_among_the_subprotocols() {
    let manager = manager().await;
    let key = manager.create("hello").await.unwrap();
    let key = key.expose_secret().to_owned();
    let server = Server::start(move |app| {
        manager.init_app(app);
        configure(app);
    });
    for path in ["/feed", "/keep/feed", "/strip/feed"] {
        for (lines, selected) in [
            (&[format!("bearer, {key}")][..], "bearer"),
            (&[format!("bearer,{key}")], "bearer"),
            (&["bearer".to_owned(), key.clone()], "bearer"),
            (&[format!("chat, bearer, {key}")], "chat"),
        ] {
            let lines: Vec<_> = lines.iter().map(String::as_str).collect();
            let (mut client, answer) = open(&server, path, &lines).await;
            assert_eq!(answer.status, 101, "{path} {answer:?}");
            // The example of RFC 6455 section 1.3.
            let accept = answer.header("sec-websocket-accept");
            assert_eq!(accept, Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
            assert_eq!(answer.all("sec-websocket-protocol"), [selected]);
            assert!(!answer.timeless().contains(&key), "the key is echoed");
            // One unmasked frame of text (section 5.2).
            assert_eq!(client.bytes(7).await, b"\x81\x05hello");
        }
        for (line, reason) in [
            ("chat".to_owned(), "missing-key"),
            ("bearer".to_owned(), "missing-key"),
            (format!("chat, {key}"), "missing-key"),
            (format!("Bearer, {key}"), "missing-key"),
            ("bearer, nonsense".to_owned(), "invalid-key"),
            (format!("bearer, {}", forge::unknown()), "invalid-key"),
            (format!("bearer, , {key}"), "invalid-key"),
        ] {
            let (_, answer) = open(&server, path, &[&line]).await;
            answer.refused(401, reason);
            assert_eq!(answer.header("vary"), Some("sec-websocket-protocol"));
        }
        let twice = format!("bearer, {key}, bearer, {key}");
        let (_, answer) = open(&server, path, &[&twice]).await;
        answer.refused(400, "multiple-keys");
    }
    // A route that does not name the location does not look there.
    let (_, answer) = open(&server, "/not-named", &[&format!("bearer, {key}")]).await;
    answer.refused(401, "missing-key");
}

#[actix_web::test]
async fn a_middleware_takes_the_key_out_and_leaves_the_other_subprotocols() {
    let manager = manager().await;
    let key = manager.create("a").await.unwrap();
    let key = key.expose_secret().to_owned();
    let server = Server::start(move |app| {
        manager.init_app(app);
        configure(app);
    });
    for (line, left) in [
        (format!("bearer, {key}, chat"), "chat, bearer"),
        (format!("chat, bearer, {key}"), "chat, bearer"),
        (format!("bearer, {key}"), "bearer"),
    ] {
        for path in ["/strip/seen", "/strip/inner"] {
            let (_, answer) = open(&server, path, &[&line]).await;
            answer.says(left);
        }
        // Control: without `strip_credential`, the handler sees the key.
        let (_, answer) = open(&server, "/keep/seen", &[&line]).await;
        answer.says(&line);
    }
}
