//! `ApiKey::watch` beside a WebSocket, as the example `live` has it.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse, get, rt};
use actix_ws::{CloseCode, CloseReason, Message};
use apikey_runtime::{ApiKey, ApiKeyManager, MemoryStore, NewKey, api_key_required};
use apikey_test_support::http::{Client, Server, get_request};
use apikey_test_support::store::GateStore;
use apikey_test_support::{manager_on, soon};
use futures_util::future::{Either, select};

#[get("/chat")]
#[api_key_required(location = websocket)]
async fn chat(request: HttpRequest, body: Payload, key: ApiKey) -> actix_web::Result<HttpResponse> {
    let (response, session, mut messages) =
        actix_ws::handle_with_protocols(&request, body, &["bearer"])?;
    let end = key.watch();
    rt::spawn(async move {
        let mut speaker = session.clone();
        let echo = pin!(async {
            while let Some(Ok(Message::Text(text))) = messages.recv().await {
                speaker.text(text).await.unwrap();
            }
        });
        if let Either::Right((end, _)) = select(echo, end).await {
            let reason = CloseReason {
                code: CloseCode::Other(4001),
                description: Some(end.code().to_owned()),
            };
            let _ = session.close(Some(reason)).await;
        }
    });
    Ok(response)
}

/// An open WebSocket of a client that frames its messages itself (RFC 6455 section 5.2).
struct WebSocket(Client);

impl WebSocket {
    async fn open(server: &Server, key: &NewKey) -> Self {
        let protocols = format!("bearer, {}", key.expose_secret());
        let headers = [
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("Sec-WebSocket-Protocol", &protocols),
        ];
        let mut client = server.connect().await;
        client.send(get_request("/chat", &headers)).await;
        assert_eq!(client.answer().await.status, 101);
        Self(client)
    }

    /// Sends a text and waits for its echo. A client masks what it sends; a mask of zeros changes
    /// nothing.
    async fn echoes(&mut self, text: &str) {
        let length = u8::try_from(text.len()).unwrap();
        let head = [0x81, 0x80 | length, 0, 0, 0, 0];
        self.0.send([&head, text.as_bytes()].concat()).await;
        let echo = self.0.bytes(2 + text.len()).await;
        assert_eq!(echo, [&[0x81, length], text.as_bytes()].concat());
    }

    /// Waits for the server's close, and returns its code and reason.
    async fn closed(mut self) -> (u16, String) {
        let head = self.0.bytes(2).await;
        assert_eq!(head[0], 0x88, "a final frame that closes");
        let payload = self.0.bytes(usize::from(head[1])).await;
        let (code, reason) = payload.split_at(2);
        // The answer to it, after which the server closes the connection.
        let answer = [&[0x88, 0x82, 0, 0, 0, 0], code].concat();
        self.0.send_in_vain(answer).await;
        assert!(self.0.try_answer().await.is_none());
        let code = u16::from_be_bytes([code[0], code[1]]);
        (code, String::from_utf8(reason.to_vec()).unwrap())
    }
}

#[actix_web::test]
async fn a_websocket_is_closed_with_4001_when_its_key_is_revoked_by_another_manager() {
    let shared = Arc::new(MemoryStore::new());
    for is_deaf in [false, true] {
        let store = GateStore::around(Arc::clone(&shared) as _);
        if is_deaf {
            store.cut_push();
        }
        let here: ApiKeyManager = manager_on(store).await;
        let there = manager_on(Arc::clone(&shared) as _).await;
        let app = here.clone();
        let server = Server::start(move |config| {
            app.init_app(config);
            config.service(chat);
        });
        let (key, other) = (
            there.create("a").await.unwrap(),
            there.create("b").await.unwrap(),
        );
        let mut open = WebSocket::open(&server, &key).await;
        let mut control = WebSocket::open(&server, &other).await;
        open.echoes("hello").await;
        control.echoes("hello").await;
        let rotated = there.rotate(key.id()).grace(Duration::from_secs(3_600));
        soon(rotated).await.unwrap();
        open.echoes("after the rotation").await;
        there.revoke(key.id()).await.unwrap();
        assert_eq!(open.closed().await, (4001, "revoked".to_owned()));
        control.echoes("still here").await;
        there.disable(other.id()).await.unwrap();
        assert_eq!(control.closed().await, (4001, "disabled".to_owned()));
    }
}
