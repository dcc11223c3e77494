use actix_web::http::header::AUTHORIZATION;
use actix_web::test::TestRequest;

use super::*;
use crate::actix::policy::DefaultPolicy;
use crate::store::MemoryStore;

async fn manager() -> ApiKeyManager {
    let builder = ApiKeyManager::builder().store(MemoryStore::new());
    builder.start().await.unwrap()
}

/// Many requests may wait at once. What is only needed after the wait, or by few of them, is allocated by itself.
#[actix_web::test]
async fn a_check_that_waits_is_small() {
    let (manager, other) = (manager().await, manager().await);
    let unknown = other.create("unknown").await.unwrap();
    let bearer = format!("Bearer {}", unknown.expose_secret());
    let request = TestRequest::default()
        .app_data(manager)
        .insert_header((AUTHORIZATION, bearer))
        .to_http_request();
    let rules = const { &RouteRules::of::<DefaultPolicy>() };
    let GuardDecision::Pending(pending) =
        check(&request, &mut Payload::None, &KeptRules::OfType(rules))
    else {
        panic!("an unknown key is not decided at once");
    };
    let size = size_of_val(&*pending);
    assert!(size <= 1_032, "{size}");
}
