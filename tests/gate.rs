//! The gate, over HTTP.
use actix_web::{App, HttpResponse, Responder, get, post, test, web};
use apikey_runtime::{ApiKey, ApiKeyManager, MemoryStore, api_key_required};

#[get("/secure")]
#[api_key_required]
async fn secure(key: ApiKey) -> impl Responder {
    key.label().to_owned()
}

#[post("/orders")]
#[api_key_required(scope = "orders:write")]
async fn orders(body: web::Json<serde_json::Value>) -> impl Responder {
    HttpResponse::Created().json(body.0)
}

#[actix_web::test]
async fn smoke() {
    let manager = ApiKeyManager::builder().store(MemoryStore::new()).start().await.unwrap();
    let key = manager.create("MY_FIRST_KEY").await.unwrap();
    let writer = manager.create("w").scopes(["orders:write"]).await.unwrap();
    let app = test::init_service(App::new().configure(|app| manager.init_app(app)).service(secure).service(orders)).await;
    let call = |k: Option<&str>, r: test::TestRequest| {
        let r = if let Some(k) = k { r.insert_header(("Authorization", format!("Bearer {k}"))) } else { r };
        test::call_service(&app, r.to_request())
    };
    let r = call(None, test::TestRequest::get().uri("/secure")).await;
    println!("{:?} {:?}", r.status(), r.headers());
    println!("{:?}", test::read_body(r).await);
    for _ in 0..2 {
        let r = call(Some(key.expose_secret()), test::TestRequest::get().uri("/secure")).await;
        println!("{:?} {:?}", r.status(), test::read_body(r).await);
    }
    let r = call(Some(key.expose_secret()), test::TestRequest::post().uri("/orders").set_payload("{bad")).await;
    println!("{:?} {:?}", r.status(), r.headers());
    let r = call(Some(writer.expose_secret()), test::TestRequest::post().uri("/orders").set_json(1)).await;
    println!("{:?} {:?}", r.status(), test::read_body(r).await);
    manager.revoke(key.id()).await.unwrap();
    let r = call(Some(key.expose_secret()), test::TestRequest::get().uri("/secure")).await;
    println!("{:?} {:?}", r.status(), test::read_body(r).await);
}
