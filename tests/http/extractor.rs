//! `ApiKey` as an argument, and the helpers for tests of an application.

use std::future::{Ready, ready};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_web::body::MessageBody;
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::middleware::{Next, from_fn};
use actix_web::{App, FromRequest, HttpMessage, HttpRequest, get, test, web};
use apikey_runtime::clock::{Clock, ManualClock};
use apikey_runtime::testing::{ActingKey, acting_as};
use apikey_runtime::{ApiKey, ApiKeyExt, Guarded, KeyId, MemoryStore, Timestamp, api_key_required};
use apikey_test_support::http::Server;
use apikey_test_support::{forge, manager, manager_at};

/// An application's own type for its caller, derived from the key.
struct Tenant(String);

impl FromRequest for Tenant {
    type Error = actix_web::Error;
    type Future = Ready<Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let key = ApiKey::from_request(request, payload).into_inner();
        ready(key.map(|key| Self(key.owner().unwrap_or("nobody").to_owned())))
    }
}

#[get("/tenant")]
#[api_key_required]
async fn tenant(Tenant(name): Tenant) -> String {
    name
}

#[get("/unguarded_tenant")]
async fn unguarded_tenant(Tenant(name): Tenant) -> String {
    name
}

#[get("/all")]
#[api_key_required]
async fn all_of_it(key: ApiKey, again: ApiKey, maybe: Option<ApiKey>) -> String {
    assert_eq!(key.id(), again.id());
    assert_eq!(Some(key.id()), maybe.map(|key| key.id()));
    format!(
        "{} {:?} {} {} {:?} {:?} {}",
        key.label(),
        key.owner(),
        key.scopes(),
        key.has_scope("a"),
        key.metadata("plan"),
        key.environment(),
        key.expires().is_some() && key.created() < Timestamp::MAX,
    )
}

#[actix_web::test]
async fn the_key_can_be_asked_for_by_another_extractor() {
    let manager = manager().await;
    let key = manager.create("a").owner("acme").await.unwrap();
    let configured = manager.clone();
    let server = Server::start(move |app| {
        configured.init_app(app);
        app.service((tenant, unguarded_tenant));
    });
    for _ in 0..2 {
        server
            .get("/tenant", key.expose_secret())
            .await
            .says("acme");
    }
    server
        .get("/tenant", None)
        .await
        .refused(401, "missing-key");
    server
        .get("/unguarded_tenant", key.expose_secret())
        .await
        .refused(500, "misconfigured-route");
}

#[actix_web::test]
async fn the_key_tells_what_its_record_says() {
    let manager = manager().await;
    let key = manager
        .create("a")
        .owner("acme")
        .scopes(["b", "a"])
        .metadata("plan", "gold");
    let key = key
        .environment("live")
        .expires_in(Duration::from_secs(60))
        .await
        .unwrap();
    let configured = manager.clone();
    let server = Server::start(move |app| {
        configured.init_app(app);
        app.service(all_of_it);
    });
    let says = "a Some(\"acme\") a b true Some(String(\"gold\")) Some(\"live\") true";
    server.get("/all", key.expose_secret()).await.says(says);
}

/// What a middleware around the handlers saw, before and after.
type Seen = Arc<Mutex<Vec<(Option<String>, Option<String>)>>>;

async fn note(
    seen: web::Data<Seen>,
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let label = |key: Option<ApiKey>| key.map(|key| key.label().to_owned());
    let before = label(request.api_key());
    let response = next.call(request).await?;
    let after = label(response.request().api_key());
    seen.lock().unwrap().push((before, after));
    Ok(response)
}

#[actix_web::test]
async fn a_middleware_sees_the_key_after_the_check_and_the_refusal_as_an_answer() {
    let manager = manager().await;
    let key = manager.create("a").await.unwrap();
    let seen = Seen::default();
    let app = test::init_service(
        App::new()
            .configure(|app| manager.init_app(app))
            .app_data(web::Data::new(Arc::clone(&seen)))
            .wrap(from_fn(note))
            .service(tenant),
    )
    .await;
    let bearer = ("Authorization", format!("Bearer {}", key.expose_secret()));
    let accepted = test::TestRequest::get()
        .uri("/tenant")
        .insert_header(bearer)
        .to_request();
    assert_eq!(
        test::call_service(&app, accepted).await.status(),
        StatusCode::OK
    );
    let refused = test::TestRequest::get().uri("/tenant").to_request();
    assert_eq!(
        test::call_service(&app, refused).await.status(),
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(
        *seen.lock().unwrap(),
        [(None, Some("a".to_owned())), (None, None)]
    );
}

#[get("/orders/{id}")]
#[api_key_required(scope = "order:{id}", environment = "live")]
async fn order(key: ApiKey, id: web::Path<String>) -> String {
    format!("{} {id}", key.label())
}

#[get("/orders")]
#[api_key_required(scope = "orders:read", environment = "live")]
async fn orders(key: ApiKey) -> String {
    let owner = key.owner().unwrap_or("nobody");
    format!(
        "{} {owner} {:?} {}",
        key.label(),
        key.metadata("plan"),
        key.id().to_u128()
    )
}

#[get("/both")]
#[api_key_required(scope = "a")]
#[api_key_required(scope = "b")]
async fn both() -> &'static str {
    "both"
}

#[actix_web::test]
async fn a_test_can_act_as_a_key_and_is_judged_by_its_scopes_and_environment() {
    // Without any manager.
    let app = test::init_service(App::new().service((orders, order, both))).await;
    let call = async |path: &str, key: Option<ActingKey>| {
        let request = test::TestRequest::get().uri(path).to_request();
        if let Some(key) = key {
            acting_as(&request, key);
        }
        let response = test::call_service(&app, request).await;
        let status = response.status().as_u16();
        (
            status,
            String::from_utf8(test::read_body(response).await.to_vec()).unwrap(),
        )
    };
    let live = || ActingKey::new("tester").environment("live");

    let key = live()
        .scopes(["orders:read"])
        .unwrap()
        .owner("acme")
        .metadata("plan", 1);
    let key = key.id(KeyId::from_u128(7));
    let says = "tester acme Some(Number(1)) 7".to_owned();
    assert_eq!(call("/orders", Some(key)).await, (200, says));
    assert_eq!(call("/orders", Some(live())).await.0, 403);
    let elsewhere = ActingKey::new("tester").scopes(["orders:read"]).unwrap();
    assert_eq!(call("/orders", Some(elsewhere)).await.0, 401);
    assert_eq!(
        call("/both", Some(live().scopes(["a", "b"]).unwrap()))
            .await
            .0,
        200
    );
    assert_eq!(
        call("/both", Some(live().scopes(["a"]).unwrap())).await.0,
        403
    );
    assert_eq!(
        call("/both", Some(live().scopes(["b"]).unwrap())).await.0,
        403
    );
    assert_eq!(
        call("/orders", None).await.0,
        500,
        "without an acting key and a manager"
    );
    assert!(ActingKey::new("tester").scopes(["*"]).is_err());
}

#[actix_web::test]
async fn a_test_that_acts_as_a_key_is_judged_by_the_path_too() {
    let app = test::init_service(App::new().service(order)).await;
    for (path, status) in [("/orders/7", 200), ("/orders/8", 403), ("/orders/%2A", 403)] {
        let request = test::TestRequest::get().uri(path).to_request();
        acting_as(
            &request,
            ActingKey::new("t")
                .environment("live")
                .scopes(["order:7"])
                .unwrap(),
        );
        assert_eq!(
            test::call_service(&app, request).await.status().as_u16(),
            status,
            "{path}"
        );
    }
}

#[actix_web::test]
async fn no_request_from_outside_can_act_as_a_key() {
    let manager = manager().await;
    let app = App::new()
        .configure(|app| manager.init_app(app))
        .service(tenant);
    let app = test::init_service(app).await;
    let request = test::TestRequest::get().uri("/tenant").to_request();
    // A value that an application can insert is not what the guard looks for.
    request.extensions_mut().insert(ActingKey::new("a"));
    assert_eq!(
        test::call_service(&app, request).await.status(),
        StatusCode::UNAUTHORIZED
    );
}

#[api_key_required(scope = "a")]
async fn doubled(n: web::Path<u32>, web::Query(more): web::Query<Vec<(String, u32)>>) -> String {
    (n.into_inner() * 2 + more.len() as u32).to_string()
}

#[api_key_required]
async fn nothing() -> &'static str {
    "nothing"
}

#[actix_web::test]
async fn a_unit_test_can_call_a_guarded_handler() {
    let arguments = (web::Path::from(21), web::Query(Vec::new()));
    assert_eq!(doubled(Guarded::for_test(arguments)).await, "42");
    assert_eq!(nothing(Guarded::for_test(())).await, "nothing");
}

#[actix_web::test]
async fn a_test_can_set_the_clock() {
    let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_000_000)));
    let store = Arc::new(MemoryStore::new());
    let manager = manager_at(store, clock.clone() as Arc<dyn Clock>).await;
    let key = manager
        .create("a")
        .expires_in(Duration::from_secs(60))
        .await
        .unwrap();
    assert_eq!(key.record().created.as_millis(), 1_000_000);
    assert_eq!(key.record().expires.unwrap().as_millis(), 1_060_000);
    assert!(manager.verify(key.expose_secret()).await.is_ok());
    clock.advance(Duration::from_secs(60));
    assert!(manager.verify(key.expose_secret()).await.is_err());
    assert!(manager.verify(&forge::unknown()).await.is_err());
}
