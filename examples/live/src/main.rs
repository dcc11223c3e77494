//! A WebSocket and a stream of events that end when their key may not go on.
//!
//! ```sh
//! cargo run -p live                    # creates a key, prints it, and serves
//! cargo run -p live -- revoke ID       # revokes it, from another process
//! ```
//!
//! Requests to try:
//!
//! ```sh
//! curl -N -H "Authorization: Bearer $KEY" http://127.0.0.1:8080/events
//! websocat --protocol "bearer, $KEY" ws://127.0.0.1:8080/chat
//! ```
//!
//! A browser opens the WebSocket with `new WebSocket("ws://127.0.0.1:8080/chat", ["bearer", KEY])`.
//!
//! Optional variables: `PORT` (8080 by default, 0 for a free port) and `APIKEYS_DB` (`apikeys.db`
//! by default).

use std::convert::Infallible;
use std::error::Error;
use std::pin::pin;
use std::time::Duration;

use actix_web::rt::time::{interval, timeout};
use actix_web::web::{Bytes, Payload};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, get, rt};
use actix_ws::{CloseCode, CloseReason, Message, MessageStream, Session};
use apikey_runtime::{ApiKey, ApiKeyManager, KeyId, SqliteStore, api_key_required};
use futures_util::StreamExt;
use futures_util::future::{Either, select};
use futures_util::stream::unfold;

/// Tells a client that its key may not go on, so that it does not connect again at once. Codes from
/// 4000 on are for applications (RFC 6455 section 7.4.2).
const KEY_ENDED: u16 = 4001;

/// How long a client may take to read what was sent to it before the close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Sends an event each second. The body ends with the key.
#[get("/events")]
#[api_key_required]
async fn events(key: ApiKey) -> HttpResponse {
    let seconds = unfold(interval(Duration::from_secs(1)), async |mut interval| {
        interval.tick().await;
        Some((Ok::<_, Infallible>(Bytes::from("data: tick\n\n")), interval))
    });
    HttpResponse::Ok()
        .content_type("text/event-stream")
        .streaming(seconds.take_until(key.watch()))
}

/// Echoes texts until the client leaves or the key may not go on.
#[get("/chat")]
#[api_key_required(location = websocket)]
async fn chat(
    request: HttpRequest,
    body: Payload,
    key: ApiKey,
) -> Result<HttpResponse, actix_web::Error> {
    let (response, session, messages) =
        actix_ws::handle_with_protocols(&request, body, &["bearer"])?;
    // The watch begins here, before the task runs.
    let end = key.watch();
    rt::spawn(async move {
        // The whole conversation ends, also one that waits for a client that does not read.
        let conversation = pin!(echo(session.clone(), messages));
        if let Either::Right((end, _)) = select(conversation, end).await {
            let reason = CloseReason {
                code: CloseCode::Other(KEY_ENDED),
                description: Some(end.code().to_owned()),
            };
            // An error means that the client has left.
            let _ = timeout(CLOSE_TIMEOUT, session.close(Some(reason))).await;
        }
    });
    Ok(response)
}

async fn echo(mut session: Session, mut messages: MessageStream) {
    while let Some(Ok(message)) = messages.recv().await {
        let sent = match message {
            Message::Text(text) => session.text(text).await,
            Message::Ping(bytes) => session.pong(&bytes).await,
            Message::Close(_) => break,
            _ => Ok(()),
        };
        if sent.is_err() {
            return;
        }
    }
    let _ = session.close(None).await;
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::var("APIKEYS_DB").unwrap_or_else(|_| "apikeys.db".to_owned());
    let manager = ApiKeyManager::builder()
        .store(SqliteStore::new(&path))
        .start()
        .await?;

    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => {}
        ["revoke", id] => {
            let id: KeyId = id.parse()?;
            manager.revoke(id).reason("from the command line").await?;
            return Ok(manager.shutdown().await?);
        }
        _ => return Err("usage: live [revoke ID]".into()),
    }

    let key = manager.create("live").await?;
    println!("key: {}", key.expose_secret());
    println!("Revoke it: cargo run -p live -- revoke {}", key.id());
    let app = manager.clone();
    let server = HttpServer::new(move || {
        App::new()
            .configure(|config| app.init_app(config))
            .service(events)
            .service(chat)
    })
    .bind(("127.0.0.1", port()?))?;
    for address in server.addrs() {
        println!("listening on http://{address}");
    }
    server.run().await?;
    manager.shutdown().await?;
    Ok(())
}

fn port() -> Result<u16, Box<dyn Error>> {
    match std::env::var("PORT") {
        Ok(port) => port
            .parse()
            .map_err(|_| format!("PORT is `{port}`; write a number from 0 to 65535").into()),
        Err(_) => Ok(8080),
    }
}
