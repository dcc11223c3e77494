//! `?for=nginx`: a denial is answered with a status that nginx passes on.

use apikey_runtime::{ApiKeyManager, Quota};
use apikey_test_support::forge;
use apikey_test_support::http::Answer;
use apikey_test_support::store::GateStore;

use crate::app::{Call, manager, serve, trusting};

#[actix_web::test]
async fn statuses_are_folded_and_the_real_one_is_told() {
    let manager = manager().await;
    let server = serve(&manager);
    let create = |label: &str| manager.create(label);
    let (plain, revoked) = (create("a").await.unwrap(), create("a").await.unwrap());
    manager.revoke(revoked.id()).await.unwrap();
    let limited = create("a").limit("daily", Quota::per_day(1)).await.unwrap();
    let call = Call::to("/verify").key(limited.expose_secret());
    call.send(&server).await.says("");
    let unknown = forge::unknown();
    for (keys, query, real, folded) in [
        (&[][..], "", 401, 401),
        (&[&*unknown][..], "", 401, 401),
        (&[revoked.expose_secret()][..], "", 401, 401),
        (&["a", "b"][..], "", 400, 401),
        (&[plain.expose_secret()][..], "scope=a", 403, 403),
        (&[limited.expose_secret()][..], "", 429, 403),
    ] {
        let call = |path: &str| keys.iter().fold(Call::to(path), |call, key| call.key(key));
        let plain = call(&format!("/verify?{query}")).send(&server).await;
        assert_eq!(plain.status, real, "{plain:?}");
        assert_eq!(plain.header("x-apikey-status"), None);
        let answer = call(&format!("/verify?for=nginx&{query}"));
        let answer = answer.send(&server).await;
        assert_eq!(answer.status, folded, "{answer:?}");
        assert_eq!(answer.all("x-apikey-status"), [real.to_string()]);
        // The headers of the real answer stay, with its challenge.
        for name in ["www-authenticate", "ratelimit-policy", "cache-control"] {
            assert_eq!(answer.all(name), plain.all(name), "{name} {answer:?}");
        }
        let retry = |answer: &Answer| answer.header("retry-after").is_some();
        assert_eq!(retry(&answer), retry(&plain));
        assert!(folded != 401 || answer.header("www-authenticate").is_some());
        // The body would state the real status (RFC 9457 section 3.1.2).
        assert_eq!(answer.text(), "");
    }
}

#[actix_web::test]
async fn a_success_has_the_same_answer() {
    let manager = manager().await;
    let server = serve(&manager);
    let key = manager.create("a").owner("o").scopes(["a"]).await.unwrap();
    let call = |path: &str| Call::to(path).key(key.expose_secret());
    let plain = call("/verify?scope=a").send(&server).await;
    let folded = call("/verify?scope=a&for=nginx").send(&server).await;
    plain.says("");
    assert_eq!(plain.timeless(), folded.timeless());
}

/// nginx makes 500 of it, which the sample answers with 503.
#[actix_web::test]
async fn a_store_that_is_away_is_503() {
    let store = GateStore::new();
    let builder = ApiKeyManager::builder().config(trusting("X-Forwarded-For").build().unwrap());
    let manager = builder.shared_store(store.clone()).start().await.unwrap();
    let server = serve(&manager);
    store.go_down();
    for path in ["/verify", "/verify?for=nginx", "/verify-rule/any"] {
        let answer = Call::to(path).key(&forge::unknown()).send(&server).await;
        assert_eq!(answer.status, 503, "{path}");
        assert_eq!(answer.header("retry-after"), Some("1"));
        assert_eq!(answer.header("x-apikey-id"), None);
    }
}
