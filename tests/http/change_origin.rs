//! The origin of a change that a request asks for.

use actix_web::{HttpRequest, Responder, web};
use apikey_runtime::audit::{ChangeChannel, ChangeOrigin};
use apikey_runtime::{ApiKeyManager, Config, KeyId, MemoryStore};
use apikey_test_support::http::{Answer, Server};
use apikey_test_support::manager;

/// Says where a change would come from.
async fn origin(request: HttpRequest) -> impl Responder {
    let origin = ChangeOrigin::of_request(&request);
    assert_eq!((&origin.actor, &origin.reason), (&None, &None));
    assert_eq!(origin.channel, ChangeChannel::Code);
    format!("{:?} {:?}", origin.address, origin.request_id)
}

/// Revokes a key on behalf of the request.
async fn revoke(
    request: HttpRequest,
    id: web::Path<KeyId>,
    manager: web::Data<ApiKeyManager>,
) -> impl Responder {
    let origin = ChangeOrigin::of_request(&request).with_actor("ann");
    let origin = origin.with_channel(ChangeChannel::Page);
    manager.revoke(*id).origin(origin).await.map(|_| "revoked")
}

fn serve(manager: &ApiKeyManager) -> Server {
    let manager = manager.clone();
    Server::start(move |app| {
        manager.init_app(app);
        app.app_data(web::Data::new(manager.clone()))
            .route("/origin", web::get().to(origin))
            .route("/revoke/{id}", web::get().to(revoke));
    })
}

async fn proxied(header: &str) -> ApiKeyManager {
    let config = Config::builder().trusted_proxies(["127.0.0.0/8"]);
    let config = config.forwarded_header(header).build().unwrap();
    let builder = ApiKeyManager::builder().config(config);
    builder.store(MemoryStore::new()).start().await.unwrap()
}

async fn asked(server: &Server, headers: &[(&str, &str)]) -> Answer {
    server.get_with("/origin", headers).await
}

#[actix_web::test]
async fn the_address_is_the_one_that_trusted_proxies_state() {
    let proxied_by = [("X-Forwarded-For", "6.6.6.6, 203.0.113.9")];
    let server = serve(&manager().await);
    asked(&server, &proxied_by)
        .await
        .says("Some(127.0.0.1) None");
    let server = serve(&proxied("X-Forwarded-For").await);
    asked(&server, &proxied_by)
        .await
        .says("Some(203.0.113.9) None");
    let mapped = [("X-Forwarded-For", "::ffff:203.0.113.9")];
    asked(&server, &mapped).await.says("Some(203.0.113.9) None");
    // An address that is not stated readably is not that of the proxy.
    let unknown = [("X-Forwarded-For", "unknown")];
    asked(&server, &unknown).await.says("None None");
    asked(&server, &[]).await.says("None None");
    // Without a manager, proxies are not trusted.
    let bare = Server::start(|app| {
        app.route("/origin", web::get().to(origin));
    });
    asked(&bare, &proxied_by).await.says("Some(127.0.0.1) None");
}

#[actix_web::test]
async fn an_id_of_a_request_is_plain_or_left_out() {
    let server = serve(&manager().await);
    let longest = "a".repeat(64);
    for id in ["4bf92f35", "A-b.c_9", "-", &longest] {
        let said = asked(&server, &[("X-Request-Id", id)]).await;
        said.says(&format!("Some(127.0.0.1) Some({id:?})"));
    }
    let long = "a".repeat(65);
    for id in [
        "", "a b", "a,b", "a;b", "a/b", "\u{e9}", "a\"", "%0d", "<b>", &long,
    ] {
        let said = asked(&server, &[("X-Request-Id", id)]).await;
        said.says("Some(127.0.0.1) None");
    }
    // Which of two is right is not known.
    let twice = [("X-Request-Id", "a"), ("X-Request-Id", "b")];
    asked(&server, &twice).await.says("Some(127.0.0.1) None");
    asked(&server, &[]).await.says("Some(127.0.0.1) None");
}

#[actix_web::test]
async fn a_change_is_audited_with_the_origin_of_its_request() {
    use apikey_runtime::KeyStore as _;
    use apikey_runtime::store::AuditQuery;

    let store = std::sync::Arc::new(MemoryStore::new());
    let config = Config::builder().trusted_proxies(["127.0.0.0/8"]);
    let config = config.forwarded_header("Forwarded").build().unwrap();
    let builder = ApiKeyManager::builder().config(config);
    let builder = builder.shared_store(std::sync::Arc::<MemoryStore>::clone(&store));
    let manager = builder.start().await.unwrap();
    let server = serve(&manager);
    let key = manager.create("a").await.unwrap();
    let headers = [
        ("Forwarded", "for=\"[2001:db8::7]\""),
        ("X-Request-Id", "r-1"),
    ];
    let answer = server
        .get_with(&format!("/revoke/{}", key.id()), &headers)
        .await;
    answer.says("revoked");
    let page = store
        .audit()
        .unwrap()
        .read_audit(&AuditQuery::newest(1))
        .await
        .unwrap();
    let origin = &page.entries[0].origin;
    let expected = ChangeOrigin::new()
        .with_actor("ann")
        .with_channel(ChangeChannel::Page)
        .with_address("2001:db8::7".parse().unwrap())
        .with_request_id("r-1");
    assert_eq!(*origin, expected);
}
