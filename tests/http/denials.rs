//! Denials: their form, and that they do not inform a caller without the right secret.

use std::sync::Arc;
use std::time::Duration;

use actix_web::{get, web};
use apikey_runtime::clock::{Clock, ManualClock};
use apikey_runtime::{ApiKey, ApiKeyManager, Config, NewKey, api_key_required};
use apikey_test_support::hasher::CountingHasher;
use apikey_test_support::http::{Answer, Server};
use apikey_test_support::store::{Call, Fault, GateStore};
use apikey_test_support::{forge, later, manager, manager_on, patient};

#[get("/secure")]
#[api_key_required]
async fn secure(key: ApiKey) -> String {
    key.label().to_owned()
}

#[get("/scoped")]
#[api_key_required(scopes = all("b", any("a", "c"), not("d")))]
async fn scoped() -> &'static str {
    "scoped"
}

#[get("/header")]
#[api_key_required(location = header("X-API-Key"))]
async fn in_header() -> &'static str {
    "header"
}

#[get("/live")]
#[api_key_required(environment = "live")]
async fn live() -> &'static str {
    "live"
}

/// In a const, since the attribute rejects the text on this route.
const MISSPELLED: &str = "project:{idd}";

#[get("/template/{id}")]
#[api_key_required(scope = MISSPELLED)]
async fn template() -> &'static str {
    "template"
}

#[get("/unguarded")]
async fn unguarded(_key: ApiKey) -> &'static str {
    "unguarded"
}

fn serve(manager: &ApiKeyManager) -> Server {
    let manager = manager.clone();
    Server::start(move |app: &mut web::ServiceConfig| {
        manager.init_app(app);
        app.service((secure, scoped, in_header, live, template, unguarded));
    })
}

/// Creates keys in every state that is denied, under a clock that stands at `now`.
async fn refused_keys(manager: &ApiKeyManager, clock: &ManualClock) -> Vec<(&'static str, NewKey)> {
    let now = clock.read().now;
    let expired = manager
        .create("e")
        .expires_in(Duration::from_secs(1))
        .await
        .unwrap();
    let later = now.checked_add(Duration::from_secs(3600)).unwrap();
    let early = manager.create("n").not_before(later).await.unwrap();
    let revoked = manager.create("r").await.unwrap();
    manager.revoke(revoked.id()).await.unwrap();
    let disabled = manager.create("d").await.unwrap();
    manager.disable(disabled.id()).await.unwrap();
    clock.advance(Duration::from_secs(2));
    vec![
        ("expired-key", expired),
        ("key-not-yet-valid", early),
        ("revoked-key", revoked),
        ("disabled-key", disabled),
    ]
}

async fn manager_under(clock: &Arc<ManualClock>) -> ApiKeyManager {
    let builder = ApiKeyManager::builder().clock(clock.clone() as Arc<dyn Clock>);
    builder
        .shared_store(GateStore::new())
        .start()
        .await
        .unwrap()
}

/// Returns the answers that differ from the first as `Err`.
fn all_alike(answers: &[(String, Answer)]) -> Result<(), String> {
    let first = answers[0].1.timeless();
    let other = answers
        .iter()
        .filter(|(_, answer)| answer.timeless() != first);
    let other: Vec<_> = other
        .map(|(name, answer)| format!("{name}: {}", answer.timeless()))
        .collect();
    if other.is_empty() {
        Ok(())
    } else {
        Err(other.join("\n"))
    }
}

#[actix_web::test]
async fn t03_whoever_has_not_the_right_secret_sees_one_and_the_same_answer() {
    let clock = Arc::new(ManualClock::starting_now());
    let manager = manager_under(&clock).await;
    let good = manager.create("good").await.unwrap();
    let refused = refused_keys(&manager, &clock).await;
    let server = serve(&manager);

    let mut wrong = vec![
        ("unknown".to_owned(), forge::unknown()),
        ("nonsense".to_owned(), "nonsense".to_owned()),
        ("live".to_owned(), forge::wrong_secret(good.expose_secret())),
        ("checksum".to_owned(), format!("{}x", good.expose_secret())),
        (
            "prefix".to_owned(),
            forge::key("other", good.id().as_str(), &"s".repeat(64)),
        ),
    ];
    for (name, key) in &refused {
        wrong.push(((*name).to_owned(), forge::wrong_secret(key.expose_secret())));
    }
    let mut answers = Vec::new();
    // First with a cold cache, then twice warm.
    for round in 0..3 {
        for (name, key) in &wrong {
            let answer = server.get("/secure", key.as_str()).await;
            answer.refused(401, "invalid-key");
            answers.push((format!("{name} {round}"), answer));
        }
    }
    // A key of another family is an unknown key.
    answers.push((
        "family".to_owned(),
        server.get("/live", good.expose_secret()).await,
    ));
    // A route that requires a scope says so only to callers with a valid key.
    for (name, key) in &wrong {
        answers.push((
            format!("{name} scoped"),
            server.get("/scoped", key.as_str()).await,
        ));
    }
    all_alike(&answers).unwrap();

    // Control: with the right secret each state has its own answer, and the comparison detects it.
    for (reason, key) in &refused {
        let answer = server.get("/secure", key.expose_secret()).await;
        answer.refused(401, reason);
        assert_eq!(
            answer.header("www-authenticate"),
            Some("Bearer error=\"invalid_token\"")
        );
        assert!(all_alike(&[answers[0].clone(), (String::new(), answer)]).is_err());
    }
}

#[actix_web::test]
async fn t02_an_unknown_id_and_a_wrong_secret_take_one_path() {
    let hasher = CountingHasher::default();
    let store = GateStore::new();
    let builder = ApiKeyManager::builder()
        .hasher(hasher.clone())
        // Its time stands still, so the lease does not end on a busy machine.
        .clock(Arc::new(ManualClock::starting_now()))
        .config(patient())
        .shared_store(store.clone());
    let manager = builder.start().await.unwrap();
    let key = manager.create("a").await.unwrap();
    store.polled().await;
    let cost = async |text: &str| {
        let finds = store.count(Call::Find);
        hasher.take();
        manager.verify(text).await.unwrap_err();
        (hasher.take(), store.count(Call::Find) - finds)
    };

    let wrong = forge::wrong_secret(key.expose_secret());
    let cold = cost(&wrong).await;
    assert_eq!(cold, (1, 1));
    assert_eq!(cold, cost(&forge::unknown()).await, "cold");
    // Both are cached from now on, the one as an entry, the other as unknown. The wrong secret asks once what
    // changed, and is not compared again if nothing did.
    let asking = cost(&wrong).await;
    assert_eq!(asking, (1, 0));
    let warm = cost(&wrong).await;
    assert_eq!(warm, cost(&forge::unknown()).await, "warm");
    assert_eq!(warm, (1, 0));

    // Control: a key that is denied because of its form does not cost anything.
    assert_eq!(cost("my_api_x").await, (0, 0));
}

/// Returns the parts of `secret` that occur in `text`; a part is 12 characters.
fn leaked<'s>(secret: &'s str, text: &str) -> Vec<&'s str> {
    (0..secret.len() - 12)
        .map(|at| &secret[at..at + 12])
        .filter(|part| text.contains(part))
        .collect()
}

#[actix_web::test]
async fn t05_no_call_of_the_store_carries_the_secret_or_a_part_of_it() {
    let store = GateStore::new();
    let manager = manager_on(store.clone()).await;
    let key = manager
        .create("a")
        .owner("o")
        .scopes(["b"])
        .metadata("m", 1)
        .await
        .unwrap();
    let mut secrets = vec![
        key.expose_secret().to_owned(),
        forge::wrong_secret(key.expose_secret()),
    ];
    let server = serve(&manager);
    for secret in &secrets {
        server.get("/secure", secret.as_str()).await;
        server.get("/live", secret.as_str()).await;
    }
    let rotated = manager
        .rotate(key.id())
        .grace(Duration::from_secs(60))
        .await
        .unwrap();
    secrets.push(rotated.expose_secret().to_owned());
    for secret in &secrets {
        server.get("/secure", secret.as_str()).await;
    }
    manager.update(key.id()).label("b").await.unwrap();
    manager.list().owner("o").await.unwrap();
    manager.revoke(key.id()).reason("done").await.unwrap();
    manager.purge(later(&manager).await).await.unwrap();

    let transcript = store.transcript();
    for secret in &secrets {
        let tail = secret.rsplit_once('_').unwrap().1;
        assert_eq!(leaked(tail, &transcript), Vec::<&str>::new());
        // Control: the search finds a part that is there.
        assert!(!leaked(tail, &format!("{transcript}{}", &tail[20..32])).is_empty());
    }
    assert!(transcript.contains(key.id().as_str()) && transcript.contains("sha256$"));
}

#[actix_web::test]
async fn w02_every_refusal_is_a_problem_and_every_401_has_a_challenge() {
    let store = GateStore::new();
    let manager = manager_on(store.clone()).await;
    let key = manager.create("a").scopes(["d"]).await.unwrap();
    let key = key.expose_secret();
    let bearer = format!("Bearer {key}");
    let server = serve(&manager);
    let challenge = |answer: &Answer| answer.header("www-authenticate").map(str::to_owned);

    let answer = server.get("/secure", None).await;
    answer.refused(401, "missing-key");
    assert_eq!(challenge(&answer).as_deref(), Some("Bearer"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));

    let answer = server.get("/secure", forge::unknown().as_str()).await;
    answer.refused(401, "invalid-key");
    assert_eq!(
        challenge(&answer).as_deref(),
        Some("Bearer error=\"invalid_token\"")
    );

    let answer = server.get("/header", None).await;
    answer.refused(401, "missing-key");
    assert_eq!(challenge(&answer).as_deref(), Some("ApiKey"));

    let answer = server
        .get_with(
            "/secure",
            &[("Authorization", &bearer), ("Authorization", "Bearer x")],
        )
        .await;
    answer.refused(400, "multiple-keys");
    assert_eq!(
        challenge(&answer).as_deref(),
        Some("Bearer error=\"invalid_request\"")
    );

    let answer = server.get("/scoped", key).await;
    answer.refused(403, "insufficient-scope");
    assert_eq!(
        challenge(&answer).as_deref(),
        Some("Bearer error=\"insufficient_scope\", scope=\"b a c\"")
    );

    server
        .get("/template/7", key)
        .await
        .refused(500, "misconfigured-route");
    server
        .get("/unguarded", key)
        .await
        .refused(500, "misconfigured-route");

    store.fail(Call::Find, Fault::Unavailable);
    // Another unknown key, because the first one is cached.
    let other = forge::key("my_api", "0000000000000000000009", &"s".repeat(64));
    let answer = server.get("/secure", other.as_str()).await;
    answer.refused(503, "store-unavailable");
    assert_eq!(answer.header("retry-after"), Some("1"));
    store.heal();
    server.get("/secure", key).await.says("a");
}

#[actix_web::test]
async fn w02_nothing_of_the_request_is_echoed() {
    let manager = manager().await;
    let server = serve(&manager);
    let planted = "<script>planted";
    let path = "/secure?x=planted";
    for value in [format!("Bearer {planted}"), format!("planted {planted}")] {
        let answer = server
            .get_with(path, &[("Authorization", &value), ("X-Planted", planted)])
            .await;
        assert_eq!(answer.status, 401);
        assert!(!answer.timeless().contains("planted"), "{answer:?}");
    }
}

#[actix_web::test]
async fn a_wrong_key_and_no_key_are_told_apart_by_program() {
    let config = Config::builder().header_name("X-API-Key").build().unwrap();
    let builder = ApiKeyManager::builder()
        .config(config)
        .shared_store(GateStore::new());
    let server = serve(&builder.start().await.unwrap());
    let absent = server.get("/secure", None).await;
    let wrong = server.get_with("/secure", &[("X-API-Key", "x")]).await;
    assert_eq!(
        (absent.problem(), wrong.problem()),
        ("missing-key".to_owned(), "invalid-key".to_owned())
    );
    assert_eq!(absent.header("www-authenticate"), Some("ApiKey"));
    assert_eq!(
        wrong.header("www-authenticate"),
        Some("ApiKey error=\"invalid_token\"")
    );
}
