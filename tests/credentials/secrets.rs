//! A secret appears once: in the answer that created it.

use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use actix_web::{HttpRequest, Responder, get, post, web};
use apikey_runtime::clock::{ManualClock, SystemClock};
use apikey_runtime::events::Event;
use apikey_runtime::key::{KeyHasher, ParsedDigest, Pepper, Sha256Hasher};
use apikey_runtime::manager::{CreateKey, KeyExport, KeyPage, RotateKey, UpdateKey};
use apikey_runtime::store::{
    KeyPatch, LastUsed, ListQuery, PreviousDigest, RecordPage, Revocation, WriteOptions,
};
use apikey_runtime::testing::ActingKey;
use apikey_runtime::{
    ApiKey, ApiKeyManager, ApiKeyManagerBuilder, Config, DefaultPolicy, Guarded, KeyRecord,
    KeyStore, KeyView, MemoryStore, NewKey, PostgresStore, RedisStore, SqliteStore, Timestamp,
    api_key_required,
};
use apikey_test_support::http::{Answer, Server};
use apikey_test_support::log::Log;
use apikey_test_support::recorder::Recorder;
use apikey_test_support::{forge, manager_on, soon};
use serde::Serialize;

/// Long enough that another text does not share this many characters with a secret by chance.
const PART: usize = 12;

/// Returns how often a part of `secret` occurs in `text`: overlapping runs count once.
fn found(secret: &str, text: &str) -> usize {
    let mut count = 0;
    let mut rest = text;
    'search: loop {
        let starts = (0..=secret.len() - PART).filter_map(|at| {
            let part = &secret[at..at + PART];
            rest.find(part).map(|start| (start, at))
        });
        let Some((start, at)) = starts.min() else {
            break 'search;
        };
        count += 1;
        let run = rest[start..]
            .bytes()
            .zip(secret[at..].bytes())
            .take_while(|(a, b)| a == b)
            .count();
        rest = &rest[start + run..];
    }
    count
}

/// Returns the secret part of a key.
fn secret_of(key: &str) -> &str {
    key.rsplit_once('_').unwrap().1
}

#[test]
fn the_search_finds_a_secret_whole_in_part_and_twice() {
    let secret = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    assert_eq!(found(secret, "nothing of it: ABCDEFGHIJK"), 0);
    assert_eq!(found(secret, &format!("x{secret}y")), 1);
    assert_eq!(found(secret, &format!("{secret} {secret}")), 2);
    assert_eq!(found(secret, &format!("in part: {}", &secret[7..20])), 1);
}

#[actix_web::test]
async fn o01_debug_of_no_public_type_shows_a_secret_a_digest_or_a_pepper() {
    const PEPPER: &str = "a pepper of many bytes: 0123456789";
    let pepper = Pepper::new("v1", PEPPER).unwrap();
    let hasher = Sha256Hasher::with_peppers(vec![pepper.clone()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let sqlite = Arc::new(SqliteStore::new(folder.path().join("keys.db")));
    let memory = Arc::new(MemoryStore::new());
    for store in [sqlite.clone() as Arc<dyn KeyStore>, memory.clone()] {
        let builder = ApiKeyManager::builder()
            .hasher(hasher.clone())
            .shared_store(Arc::clone(&store));
        let mut shown = vec![format!("{builder:?}")];
        let manager = builder.start().await.unwrap();
        let key = manager
            .create("a")
            .owner("o")
            .scopes(["a"])
            .metadata("m", 1)
            .await
            .unwrap();
        let rotated = manager
            .rotate(key.id())
            .grace(Duration::from_secs(60))
            .await
            .unwrap();
        let checked = manager.verify(rotated.expose_secret()).await.unwrap();
        let denied = manager
            .verify(&forge::wrong_secret(key.expose_secret()))
            .await
            .unwrap_err();
        let record = manager.get(key.id()).await.unwrap();
        let mut patch = KeyPatch::new();
        patch.digest = Some(record.digest.clone());
        patch.previous = Some(record.previous.clone());
        let prepared = hasher.parse(&record.digest).unwrap();

        let mut show = |value: &dyn Debug| shown.push(format!("{value:?} {value:#?}"));
        show(&manager);
        show(&key);
        show(&rotated);
        show(&rotated.export());
        show(&checked);
        show(&denied);
        show(&denied.reason());
        show(&record);
        show(&record.previous);
        show(&record.view());
        show(&patch);
        show(&prepared);
        show(&hasher);
        show(&pepper);
        show(&store);
        show(&manager.create("b"));
        show(&manager.rotate(key.id()));
        show(&manager.update(key.id()).label("c"));
        show(&manager.revoke(key.id()));
        show(&manager.revoke_all("o"));
        show(&manager.purge(Timestamp::MIN).actor("o"));
        show(&manager.events());
        show(&manager.list());
        show(&soon(async { manager.list().await.unwrap() }).await);
        show(&store.list(&ListQuery::first(10)).await.unwrap());
        show(&store.find(&key.id()).await.unwrap());
        show(
            &store
                .change_log()
                .unwrap()
                .changes(None, None)
                .await
                .unwrap(),
        );
        show(manager.config());
        show(&Guarded::<DefaultPolicy, _>::for_test((
            checked.clone(),
            Some(checked.clone()),
        )));
        show(&ActingKey::new("a").scopes(["a"]).unwrap());
        show(&(
            Config::builder(),
            SystemClock::new(),
            ManualClock::starting_now(),
        ));
        show(&manager.create("c").prefix("other").await.unwrap_err());
        show(
            &store
                .insert(&record, &WriteOptions::new())
                .await
                .unwrap_err(),
        );
        manager.shutdown().await.unwrap();
        show(&manager.get(key.id()).await.unwrap_err());

        // Control: the search finds what a derived `Debug` would show.
        let all = shown.join("\n");
        let hex = |digest: &str| digest.rsplit_once('$').unwrap().1.to_owned();
        let digests = [hex(&record.digest), hex(&record.previous.unwrap().digest)];
        for hidden in [
            secret_of(key.expose_secret()),
            secret_of(rotated.expose_secret()),
            PEPPER,
        ]
        .into_iter()
        .chain(digests.iter().map(String::as_str))
        {
            assert_eq!(found(hidden, &all), 0, "{hidden}");
            assert_eq!(found(hidden, &format!("{all}{:?}", Some(hidden))), 1);
        }
        assert!(all.contains(key.id().as_str()), "the id is public");
    }
}

/// Creates a key and shows it to its owner: the only place that shows it.
#[post("/create")]
async fn create(manager: web::Data<ApiKeyManager>) -> String {
    manager
        .create("made")
        .owner("o")
        .scopes(["a"])
        .await
        .unwrap()
        .expose_secret()
        .to_owned()
}

#[post("/rotate/{id}")]
async fn rotate(manager: web::Data<ApiKeyManager>, id: web::Path<String>) -> String {
    let key = manager
        .rotate(id.parse().unwrap())
        .grace(Duration::from_secs(60))
        .await
        .unwrap();
    key.expose_secret().to_owned()
}

#[get("/who")]
#[api_key_required]
async fn who(key: ApiKey) -> String {
    format!("{key:?}")
}

#[get("/scoped")]
#[api_key_required(scope = "b")]
async fn scoped(key: ApiKey) -> String {
    format!("{key:?}")
}

#[get("/fresh")]
#[api_key_required(fresh, location = header("X-API-Key"))]
async fn fresh(key: ApiKey) -> String {
    format!("{key:?}")
}

/// For the negative control: logs a secret.
#[get("/leaks")]
#[api_key_required]
async fn leaks(request: HttpRequest) -> &'static str {
    let header = request
        .headers()
        .get("authorization")
        .unwrap()
        .to_str()
        .unwrap();
    tracing::info!(header, "a careless handler");
    "leaked"
}

/// Drives a key through its whole life; returns each secret that was issued, and all answers that
/// were sent.
async fn a_life(manager: &ApiKeyManager) -> (Vec<String>, Vec<Answer>) {
    let configured = manager.clone();
    let server = Server::start(move |app| {
        configured.init_app(app);
        app.service((create, rotate, who, scoped, fresh));
    });
    let created = server.post("/create", None, "").await;
    let key = created.text();
    let id: apikey_runtime::KeyId = forge::parts(&key).id.parse().unwrap();
    let mut answers = vec![created];
    let use_it = async |answers: &mut Vec<Answer>, key: &str| {
        let bearer = format!("Bearer {key}");
        let wrong = format!("Bearer {key}x");
        for path in ["/who", "/scoped", "/who"] {
            answers.push(server.get(path, key).await);
        }
        answers.push(server.get_with("/fresh", &[("X-API-Key", key)]).await);
        answers.push(
            server
                .get_with("/fresh", &[("X-API-Key", key), ("X-API-Key", key)])
                .await,
        );
        answers.push(server.get_with("/who", &[("Authorization", &wrong)]).await);
        answers.push(
            server
                .get_with(
                    "/who",
                    &[("Authorization", &bearer), ("Authorization", "Bearer x")],
                )
                .await,
        );
        // The secret of a key with an unknown id.
        let parts = forge::parts(key);
        let crossed = forge::key("my_api", "0000000000000000000001", &parts.secret);
        answers.push(server.get("/who", crossed.as_str()).await);
        answers.push(
            server
                .get(
                    "/who",
                    forge::key("other", &parts.id, &parts.secret).as_str(),
                )
                .await,
        );
    };
    use_it(&mut answers, &key).await;
    let rotated = server.post(&format!("/rotate/{id}"), None, "").await;
    let new = rotated.text();
    answers.push(rotated);
    for key in [&key, &new] {
        use_it(&mut answers, key).await;
    }
    manager.disable(id).await.unwrap();
    use_it(&mut answers, &new).await;
    manager.enable(id).await.unwrap();
    manager
        .update(id)
        .label("b")
        .expires_at(Timestamp::from_millis(1))
        .await
        .unwrap();
    use_it(&mut answers, &new).await;
    manager.update(id).never_expires().await.unwrap();
    manager.revoke(id).reason("done").await.unwrap();
    use_it(&mut answers, &new).await;
    manager.list().await.unwrap();
    (vec![key, new], answers)
}

/// Returns all bytes of all files of a folder.
fn contents(folder: &Path) -> Vec<(String, String)> {
    let files = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    files
        .map(|file| {
            let bytes = std::fs::read(&file).unwrap();
            // Maps each byte to a character: every byte is kept, and ASCII stays readable.
            (
                file.display().to_string(),
                bytes.into_iter().map(char::from).collect(),
            )
        })
        .collect()
}

#[actix_web::test]
async fn o02_s01_a_secret_is_found_once_in_the_answer_that_created_it() {
    let log = Log::capture();
    let folder = tempfile::tempdir().unwrap();
    let manager = manager_on(Arc::new(SqliteStore::new(folder.path().join("keys.db")))).await;
    let (secrets, answers) = a_life(&manager).await;

    let open = contents(folder.path());
    assert!(
        open.iter().any(|(name, _)| name.ends_with("-wal")),
        "{open:?}"
    );
    manager.shutdown().await.unwrap();
    let closed = contents(folder.path());
    let text = log.text();
    for key in &secrets {
        let secret = secret_of(key);
        assert_eq!(
            found(secret, &text),
            0,
            "in the log: {:?}",
            log.lines(&[&secret[..PART]])
        );
        for (name, content) in open.iter().chain(&closed) {
            assert_eq!(found(secret, content), 0, "{name}");
        }
        let all: Vec<_> = answers
            .iter()
            .map(|answer| format!("{:?} {}", answer.headers, answer.text()))
            .collect();
        assert_eq!(found(secret, &all.join("\n")), 1, "in the answers");
    }
    // Controls: the log is complete (`mio` logs through `log`; sqlx is configured not to log
    // statements), and the files are those with the keys.
    for part in [
        "TRACE",
        "actix_http",
        "mio",
        "apikey_runtime",
        forge::parts(&secrets[0]).id.as_str(),
    ] {
        assert!(text.contains(part), "no {part} in the log");
    }
    assert!(
        closed
            .iter()
            .any(|(_, content)| content.contains("sha256$"))
    );
}

#[actix_web::test]
async fn o02_no_event_and_no_figure_holds_a_secret_or_a_digest() {
    let recorder = Recorder::default();
    let store = Arc::new(MemoryStore::new());
    let builder = ApiKeyManager::builder().shared_store(store.clone());
    let manager = recorder.start(builder).await;
    let mut events = manager.events();
    let (secrets, _) = a_life(&manager).await;
    let page = store.list(&ListQuery::first(10)).await.unwrap();
    manager.shutdown().await.unwrap();
    let mut told = format!("{recorder:?}\n");
    while let Some(event) = soon(events.next()).await {
        told += &format!("{event:?} {}\n", serde_json::to_string(&event).unwrap());
    }
    let digest = page.records[0].digest.rsplit_once('$').unwrap().1;
    for hidden in secrets.iter().map(|key| secret_of(key)).chain([digest]) {
        assert_eq!(found(hidden, &told), 0);
        assert_eq!(found(hidden, &format!("{told}{hidden}")), 1, "the control");
    }
    for part in ["rotated", "multiple-keys", "apikey_decisions_total"] {
        assert!(told.contains(part), "{part} is missing in the log");
    }
    assert!(told.contains(forge::parts(&secrets[0]).id.as_str()));
}

#[actix_web::test]
async fn o02_a_handler_that_logs_the_secret_would_be_found_out() {
    let log = Log::capture();
    let manager = manager_on(Arc::new(MemoryStore::new())).await;
    let key = manager.create("a").await.unwrap();
    let configured = manager.clone();
    let server = Server::start(move |app| {
        configured.init_app(app);
        app.service(leaks);
    });
    server
        .get("/leaks", key.expose_secret())
        .await
        .says("leaked");
    assert_eq!(found(secret_of(key.expose_secret()), &log.text()), 1);
}

/// Whether a type implements a trait: an inherent constant takes precedence over a trait's.
macro_rules! implements {
    ($trait:path: $type:ty) => {{
        #[allow(dead_code, reason = "unused if the type implements the trait")]
        trait Otherwise {
            const ANSWER: bool = false;
        }
        impl<T: ?Sized> Otherwise for T {}
        struct Question<T: ?Sized>(std::marker::PhantomData<T>);
        #[allow(dead_code, reason = "unused if the type does not implement the trait")]
        impl<T: $trait + ?Sized> Question<T> {
            const ANSWER: bool = true;
        }
        <Question<$type>>::ANSWER
    }};
}

/// `web::Json(manager.get(id).await?)` would send the digest to a browser.
#[test]
fn what_holds_a_digest_or_a_secret_cannot_be_serialized() {
    macro_rules! is_serialize {
        ($($type:ty),+ $(,)?) => { [$((stringify!($type), implements!(Serialize: $type))),+] };
    }
    let hidden = is_serialize!(
        KeyRecord,
        KeyPatch,
        PreviousDigest,
        RecordPage,
        KeyPage,
        NewKey,
        KeyExport,
        ParsedDigest,
        Pepper,
        Sha256Hasher,
        ApiKeyManager,
        ApiKeyManagerBuilder,
        CreateKey,
        UpdateKey,
        RotateKey,
        ActingKey,
        ApiKey,
        MemoryStore,
        SqliteStore,
        PostgresStore,
        RedisStore,
    );
    for (name, serialize) in hidden {
        assert!(!serialize, "{name}");
    }
    assert!(!implements!(Responder: web::Json<KeyRecord>));
    // The controls.
    for (name, serialize) in is_serialize!(KeyView, Vec<KeyView>, Event, Revocation, LastUsed) {
        assert!(serialize, "{name}");
    }
    assert!(implements!(Responder: web::Json<KeyView>));
}

#[actix_web::test]
async fn s01_what_may_be_sent_of_a_key_has_neither_its_secret_nor_its_digests() {
    let manager = manager_on(Arc::new(MemoryStore::new())).await;
    let key = manager.create("a").await.unwrap();
    let old = key.record().digest.clone();
    let call = manager.rotate(key.id()).grace(Duration::from_secs(60));
    let rotated = call.await.unwrap();
    let record = manager.get(key.id()).await.unwrap();
    let written = serde_json::to_string(&record.view()).unwrap();
    assert!(written.contains(key.id().as_str()) && written.contains("previous_until"));
    let digests = [&old, &record.digest].map(|digest| digest.rsplit_once('$').unwrap().1);
    let secrets = [&key, &rotated].map(|key| secret_of(key.expose_secret()));
    for hidden in digests.into_iter().chain(secrets) {
        assert_eq!(found(hidden, &written), 0);
    }
    let all = format!(
        "{} {:?}",
        record.digest,
        record.previous.map(|previous| previous.digest)
    );
    assert_eq!(found(digests[0], &all), 1, "the control");
    assert_eq!(found(digests[1], &all), 1, "the control");
}

#[actix_web::test]
async fn every_refusal_is_one_event_that_names_the_key_and_the_reason() {
    let log = Log::capture();
    let manager = manager_on(Arc::new(MemoryStore::new())).await;
    let key = manager.create("a").await.unwrap();
    assert_eq!(log.lines(&["created", key.id().as_str()]).len(), 1);
    manager.revoke(key.id()).await.unwrap();
    assert_eq!(log.lines(&["revoked", key.id().as_str(), "newly"]).len(), 1);
    manager.verify(key.expose_secret()).await.unwrap_err();
    let lines = log.lines(&["denied", key.id().as_str(), "revoked-key"]);
    assert_eq!(lines.len(), 1, "{lines:?}");
}
