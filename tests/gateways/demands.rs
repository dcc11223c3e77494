//! What a gateway's configuration demands, and what a caller cannot demand.

use std::pin::pin;
use std::task::{Context, Waker};

use apikey_runtime::manager::RequestFacts;
use apikey_runtime::{DenyReason, Policy, Quota, ScopeExpr, Scopes, WatchEnd};
use apikey_test_support::log::Log;
use apikey_test_support::soon;

use crate::app::{Call, manager, serve};

#[actix_web::test]
async fn each_scope_in_the_query_is_required() {
    let manager = manager().await;
    let server = serve(&manager);
    let scopes = ["a:r", "b:w"];
    let key = manager.create("a").scopes(scopes).await.unwrap();
    for (query, status) in [
        ("", 200),
        ("?scope=a:r", 200),
        ("?scope=b%3Aw", 200),
        ("?scope=b:w%20a:r", 200),
        ("?scope=b:w+a:r&cost=1", 200),
        ("?scope=c", 403),
        ("?scope=a:r%20c", 403),
        ("?scope=a", 403),
        ("?scope=A:r", 403),
    ] {
        let call = Call::to(&format!("/verify{query}")).key(key.expose_secret());
        let answer = call.send(&server).await;
        match status {
            200 => answer.says(""),
            _ => answer.refused(403, "insufficient-scope"),
        }
    }
    let call = Call::to("/verify?scope=c%20b:w").key(key.expose_secret());
    assert_eq!(
        call.send(&server).await.all("www-authenticate"),
        ["Bearer error=\"insufficient_scope\", scope=\"b:w c\""]
    );
    // A scope that is given later counts at once, as on a route.
    manager.update(key.id()).scopes(["c", "b:w"]).await.unwrap();
    call.send(&server).await.says("");
}

/// The demands of a policy and those of a request count together, for a watch of the key too.
#[actix_web::test]
async fn a_check_may_require_scopes_beside_its_policy() {
    const POLICY: Policy = Policy::new().scopes(ScopeExpr::Any(&[
        ScopeExpr::One("one"),
        ScopeExpr::One("two"),
    ]));
    let manager = manager().await;
    let given = Scopes::from_text("two three").unwrap();
    let facts = RequestFacts::new().with_required_scopes(&given);
    let key = manager.create("a").scopes(["one", "two"]).await.unwrap();
    let denied = manager.check(key.expose_secret(), &POLICY, &facts).await;
    let denied = denied.unwrap_err();
    assert_eq!(denied.reason(), DenyReason::InsufficientScope);
    assert_eq!(denied.required_scopes(), ["one", "two", "three"]);

    let update = manager.update(key.id()).scopes(["two", "three"]);
    update.await.unwrap();
    let checked = manager.check(key.expose_secret(), &POLICY, &facts).await;
    let watch = checked.unwrap().key().watch();
    // An empty set demands nothing.
    let none = Scopes::none();
    let facts = RequestFacts::new().with_required_scopes(&none);
    let checked = manager.check(key.expose_secret(), &POLICY, &facts).await;
    let unaffected = checked.unwrap().key().watch();
    manager.update(key.id()).scopes(["two"]).await.unwrap();
    assert_eq!(soon(watch).await, WatchEnd::ScopeLost);
    let mut context = Context::from_waker(Waker::noop());
    assert!(pin!(unaffected).poll(&mut context).is_pending());
}

#[actix_web::test]
async fn the_cost_in_the_query_is_charged() {
    let manager = manager().await;
    let server = serve(&manager);
    let key = manager.create("a").limit("daily", Quota::per_day(5));
    let key = key.await.unwrap();
    for (query, status, left) in [
        ("?cost=4", 200, 1),
        ("?cost=2", 429, 1),
        ("?cost=0", 200, 1),
        ("", 200, 0),
        ("?cost=0", 200, 0),
        ("", 429, 0),
    ] {
        let call = Call::to(&format!("/verify{query}")).key(key.expose_secret());
        let answer = call.send(&server).await;
        assert_eq!(answer.status, status, "{query} {answer:?}");
        let state = answer.header("ratelimit").unwrap();
        assert!(
            state.starts_with(&format!("\"daily\";r={left};t=")),
            "{state}"
        );
        assert_eq!(
            answer.header("ratelimit-policy"),
            Some("\"daily\";q=5;w=86400")
        );
        assert_eq!(answer.header("x-apikey-id").is_some(), status == 200);
    }
}

/// The client's query is a part of Envoy's call.
#[actix_web::test]
async fn the_query_of_a_rule_demands_nothing() {
    let manager = manager().await;
    let server = serve(&manager);
    let limited = manager.create("a").limit("daily", Quota::per_day(2));
    let limited = limited.await.unwrap();
    let plain = manager.create("a").await.unwrap();
    for (status, left) in [(200, 1), (200, 0), (429, 0)] {
        let call = Call::to("/verify-rule/any/x?cost=0&cost=0&scope=&for=nginx&%zz");
        let answer = call.key(limited.expose_secret()).send(&server).await;
        assert_eq!(answer.status, status, "{answer:?}");
        let state = answer.header("ratelimit").unwrap();
        assert!(
            state.starts_with(&format!("\"daily\";r={left};t=")),
            "{state}"
        );
        assert_eq!(answer.header("x-apikey-status"), None);
    }
    // A rule's rate has one count, whatever the path.
    for (tail, status) in [
        ("", 200),
        ("/x?cost=0", 200),
        ("/y", 429),
        ("?scope=a", 429),
    ] {
        let call = Call::to(&format!("/verify-rule/rated{tail}"));
        let answer = call.key(plain.expose_secret()).send(&server).await;
        assert_eq!(answer.status, status, "{tail} {answer:?}");
    }
}

#[actix_web::test]
async fn a_wrong_query_is_500_with_a_line_in_the_log() {
    let log = Log::capture();
    let manager = manager().await;
    let key = manager.create("a").scopes(["a:r"]).await.unwrap();
    let secret = key.expose_secret();
    for (query, words) in [
        ("path=/x", "a parameter is not known"),
        (secret, "a parameter is not known"),
        ("scope=a:r&scope=a:r", "a parameter stands twice"),
        ("cost=1&cost=0", "a parameter stands twice"),
        ("cost=-1", "`cost` is not a number"),
        ("scope=a:r,b", "`scope` is not a list of scopes"),
        ("for=envoy", "`for` is not known"),
    ] {
        // One that has not logged anything.
        let server = serve(&manager);
        let before = log.lines(&["ERROR", "`/verify` is wrong", words]).len();
        let call = Call::to(&format!("/verify?{query}")).key(secret);
        let answer = call.send(&server).await;
        answer.refused(500, "misconfigured-route");
        assert_eq!(answer.header("x-apikey-id"), None);
        let after = log.lines(&["ERROR", "`/verify` is wrong", words]).len();
        assert!(after > before, "{query}");
    }
    // The query may have a key.
    assert!(log.lines(&[&secret[secret.len() - 20..]]).is_empty());
    let server = serve(&manager);
    let call = Call::to("/verify-rule/unknown").key(secret);
    call.send(&server).await.refused(500, "misconfigured-route");
    assert!(
        !log.lines(&["ERROR", "names a rule that there is not"])
            .is_empty()
    );
}

/// Whoever reaches the endpoints can make wrong calls.
#[actix_web::test]
async fn wrong_calls_do_not_fill_the_log() {
    const CALLS: usize = 200;
    let log = Log::capture();
    let manager = manager().await;
    let server = serve(&manager);
    for (path, words) in [
        ("/verify?for=", "`for` is not known"),
        ("/verify?cost=a", "`cost` is not a number"),
        ("/verify-rule/unknown", "names a rule that there is not"),
    ] {
        let lines = || log.lines(&["ERROR", words]).len();
        let before = lines();
        for number in 0..CALLS {
            let answer = Call::to(&format!("{path}{number}")).send(&server).await;
            answer.refused(500, "misconfigured-route");
        }
        // Other tests log, too.
        let logged = lines() - before;
        assert!((1..CALLS / 4).contains(&logged), "{path} {logged}");
    }
}
