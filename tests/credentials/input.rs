//! Texts with a meaning in SQL, patterns, formats or terminals: here they are data.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use actix_web::get;
use apikey_runtime::{
    ApiKey, ApiKeyManager, DenyReason, Error, KeyId, KeyState, KeyStore, Limit, MemoryStore,
    Metadata, Rate, SqliteStore, Timestamp, api_key_required,
};
use apikey_test_support::http::Server;
use apikey_test_support::store::GateStore;
use apikey_test_support::{forge, manager_on};

/// Each of these is a valid label, owner and filter.
const TEXTS: [&str; 22] = [
    "' OR '1'='1",
    "'; DROP TABLE api_keys; --",
    "\" OR \"\"=\"",
    "a\\' OR 1=1 --",
    "%",
    "_",
    "a%",
    "*",
    "[a-z]",
    "{}",
    "{0}{name}",
    "{{",
    "%s%n%x",
    "$1",
    "?",
    ":owner",
    "/* */ -- #",
    "<script>alert(1)</script>",
    "عربي و עברית",
    "é\u{301} 漢字 🦀",
    "NULL",
    " leading and trailing ",
];

#[get("/label")]
#[api_key_required]
async fn label(key: ApiKey) -> String {
    format!("{}|{}", key.label(), key.owner().unwrap_or_default())
}

async fn managers() -> (tempfile::TempDir, [ApiKeyManager; 2]) {
    let folder = tempfile::tempdir().unwrap();
    let sqlite: Arc<dyn KeyStore> = Arc::new(SqliteStore::new(folder.path().join("keys.db")));
    let memory = Arc::new(MemoryStore::new());
    (folder, [manager_on(sqlite).await, manager_on(memory).await])
}

#[actix_web::test]
async fn i01_as_a_label_an_owner_and_a_filter_a_text_means_itself() {
    let (_folder, managers) = managers().await;
    for manager in managers {
        let configured = manager.clone();
        let server = Server::start(move |app| {
            configured.init_app(app);
            app.service(label);
        });
        let plain = manager.create("a").owner("b").await.unwrap();
        let mut keys = Vec::new();
        for text in TEXTS {
            keys.push(
                manager
                    .create(text)
                    .owner(text)
                    .metadata(text, text)
                    .await
                    .unwrap(),
            );
        }
        for (text, key) in TEXTS.iter().zip(&keys) {
            let record = manager.get(key.id()).await.unwrap();
            assert_eq!(
                (record.label.as_str(), record.owner.as_deref()),
                (*text, Some(*text))
            );
            assert_eq!(record.metadata[*text], *text);
            for page in [
                manager.list().owner(*text).await.unwrap(),
                manager.list().label(*text).await.unwrap(),
                manager
                    .list()
                    .label(*text)
                    .owner(*text)
                    .state(KeyState::Active)
                    .await
                    .unwrap(),
            ] {
                let ids: Vec<_> = page.keys.iter().map(|record| record.id).collect();
                assert_eq!(ids, [key.id()], "{text}");
            }
            server
                .get("/label", key.expose_secret())
                .await
                .says(&format!("{text}|{text}"));
        }
        assert_eq!(
            manager.list().page_size(1_000).await.unwrap().keys.len(),
            TEXTS.len() + 1
        );

        // A change of one key does not change another.
        let last = keys.last().unwrap();
        manager
            .update(last.id())
            .label("' || label || '")
            .owner("%")
            .await
            .unwrap();
        assert_eq!(
            manager.get(last.id()).await.unwrap().label,
            "' || label || '"
        );
        assert!(manager.revoke_all("%").reason("'; --").await.unwrap());
        for id in [keys[4].id(), last.id()] {
            assert!(manager.get(id).await.unwrap().revoked.is_some());
        }
        assert!(!manager.revoke_all("' OR '1'='1' --").await.unwrap());
        assert!(manager.verify(plain.expose_secret()).await.is_ok());
        let reason = manager
            .get(last.id())
            .await
            .unwrap()
            .revoked
            .unwrap()
            .reason;
        assert_eq!(reason.as_deref(), Some("'; --"));
        assert_eq!(
            manager.list().page_size(1_000).await.unwrap().keys.len(),
            TEXTS.len() + 1
        );
    }
}

#[actix_web::test]
async fn i01_a_filter_that_no_key_can_have_finds_none() {
    let (_folder, managers) = managers().await;
    for manager in managers {
        manager.create("a").owner("b").await.unwrap();
        let long = "b".repeat(100_000);
        for text in [
            "",
            "\0",
            "b\0",
            "b\n",
            "B",
            " b",
            "b ",
            "b%",
            "%b%",
            "*",
            long.as_str(),
        ] {
            assert!(
                manager.list().owner(text).await.unwrap().keys.is_empty(),
                "{text:?}"
            );
            assert!(
                manager.list().label(text).await.unwrap().keys.is_empty(),
                "{text:?}"
            );
            assert!(!manager.revoke_all(text).await.unwrap(), "{text:?}");
        }
        assert_eq!(
            manager
                .list()
                .owner("b")
                .label("a")
                .await
                .unwrap()
                .keys
                .len(),
            1
        );
    }
}

#[actix_web::test]
async fn i01_a_text_that_would_forge_a_line_is_refused() {
    let (_folder, managers) = managers().await;
    let too_long = "a".repeat(257);
    for manager in managers {
        let key = manager.create("a").await.unwrap();
        for text in [
            "",
            "a\nb",
            "a\r\nb",
            "\0",
            "a\0b",
            "\u{1b}[2J",
            "\u{7f}",
            "\u{85}",
            "\u{202e}gnp.exe",
            " ",
            "\u{2800}",
            &too_long,
        ] {
            for outcome in [
                manager.create(text).await.map(|_| ()),
                manager.create("a").owner(text).await.map(|_| ()),
                manager.update(key.id()).label(text).await.map(|_| ()),
                manager.update(key.id()).owner(text).await.map(|_| ()),
                manager.revoke(key.id()).reason(text).await.map(|_| ()),
                manager.revoke_all("a").reason(text).await.map(|_| ()),
                manager.create("a").actor(text).await.map(|_| ()),
                manager.create("a").methods([text]).await.map(|_| ()),
                manager.update(key.id()).environment(text).await.map(|_| ()),
                manager
                    .create("a")
                    .limit(text, Rate::per_minute(1))
                    .await
                    .map(|_| ()),
                manager.create("a").environment(text).await.map(|_| ()),
                manager.create("a").prefix(text).await.map(|_| ()),
                manager.create("a").scopes([text]).await.map(|_| ()),
            ] {
                assert!(
                    matches!(outcome, Err(Error::InvalidArgument(_))),
                    "{text:?}: {outcome:?}"
                );
            }
        }
        assert_eq!(manager.list().await.unwrap().keys.len(), 1);
        assert!(manager.verify(key.expose_secret()).await.is_ok());
    }
}

#[actix_web::test]
async fn i01_as_a_key_a_text_is_refused() {
    let (_folder, managers) = managers().await;
    for manager in managers {
        let key = manager.create("a").await.unwrap();
        let configured = manager.clone();
        let server = Server::start(move |app| {
            configured.init_app(app);
            app.service(label);
        });
        for text in TEXTS {
            assert_eq!(
                manager.verify(text).await.unwrap_err().reason(),
                DenyReason::InvalidKey
            );
            server.get("/label", text).await.refused(401, "invalid-key");
            // Well-formed except for the text, and with a valid checksum.
            for forged in [
                forge::key(text, key.id().as_str(), &"s".repeat(64)),
                forge::key("my_api", text, &"s".repeat(64)),
                forge::key("my_api", key.id().as_str(), text),
            ] {
                let reason = manager.verify(&forged).await.unwrap_err().reason();
                assert_eq!(reason, DenyReason::InvalidKey, "{forged}");
                server
                    .get("/label", forged.as_str())
                    .await
                    .refused(401, "invalid-key");
            }
            assert!(text.parse::<KeyId>().is_err());
        }
        for text in [
            "", "\0", "\n", "_", "__", "___", "my_api", "my_api_", "my_api__",
        ] {
            assert_eq!(
                manager.verify(text).await.unwrap_err().reason(),
                DenyReason::InvalidKey
            );
        }
        server.get("/label", key.expose_secret()).await.says("a|");
    }
}

/// Returns a value of nested arrays.
fn nested(levels: usize) -> serde_json::Value {
    (0..levels).fold(serde_json::Value::Null, |inner, _| vec![inner].into())
}

/// Before, a value that was nested 5,000 levels deep aborted the process.
#[actix_web::test]
async fn what_is_beyond_a_bound_is_refused_before_the_store_is_asked() {
    let store = GateStore::new();
    let manager = manager_on(store.clone()).await;
    let key = manager.create("a").await.unwrap();
    let (id, before) = (key.id(), store.count_all());
    let long = "x".repeat(20_000);
    let networks = || (0..257).map(|number| IpAddr::V4(Ipv4Addr::from(number)).into());
    let methods = || vec!["GET"; 33];
    let scopes = || (0..257).map(|number| format!("s{number}"));
    let limits = || (0..17).map(|number| Limit::new(format!("l{number}"), Rate::per_minute(1)));
    let metadata = |value: serde_json::Value| Metadata::from_iter([("a".to_owned(), value)]);
    for (field, outcome) in [
        (
            "metadata",
            manager
                .create("a")
                .metadata("a", nested(5_000))
                .await
                .map(drop),
        ),
        (
            "metadata",
            manager
                .create("a")
                .metadata("a", long.as_str())
                .await
                .map(drop),
        ),
        (
            "networks",
            manager.create("a").networks(networks()).await.map(drop),
        ),
        (
            "methods",
            manager.create("a").methods(methods()).await.map(drop),
        ),
        (
            "scopes",
            manager.create("a").scopes(scopes()).await.map(drop),
        ),
        (
            "limits",
            manager.create("a").limits(limits()).await.map(drop),
        ),
        ("label", manager.create(&long).await.map(drop)),
        ("owner", manager.create("a").owner(&long).await.map(drop)),
        (
            "environment",
            manager.create("a").environment(&long).await.map(drop),
        ),
        ("prefix", manager.create("a").prefix(&long).await.map(drop)),
        ("actor", manager.create("a").actor(&long).await.map(drop)),
        (
            "metadata",
            manager
                .update(id)
                .metadata(metadata(nested(5_000)))
                .await
                .map(drop),
        ),
        (
            "metadata",
            manager
                .update(id)
                .metadata(metadata(long.as_str().into()))
                .await
                .map(drop),
        ),
        (
            "networks",
            manager.update(id).networks(networks()).await.map(drop),
        ),
        (
            "methods",
            manager.update(id).methods(methods()).await.map(drop),
        ),
        (
            "scopes",
            manager.update(id).scopes(scopes()).await.map(drop),
        ),
        (
            "limits",
            manager.update(id).limits(limits()).await.map(drop),
        ),
        ("label", manager.update(id).label(&long).await.map(drop)),
        (
            "owner",
            manager.update(id).owner(long.as_str()).await.map(drop),
        ),
        (
            "environment",
            manager
                .update(id)
                .environment(long.as_str())
                .await
                .map(drop),
        ),
        ("actor", manager.update(id).actor(&long).await.map(drop)),
        ("actor", manager.rotate(id).actor(&long).await.map(drop)),
        ("actor", manager.disable(id).actor(&long).await.map(drop)),
        ("reason", manager.revoke(id).reason(&long).await.map(drop)),
        (
            "reason",
            manager.revoke_all("a").reason(&long).await.map(drop),
        ),
        (
            "actor",
            manager.purge(Timestamp::MIN).actor(&long).await.map(drop),
        ),
    ] {
        let Err(Error::InvalidArgument(message)) = outcome else {
            panic!("{field}: {outcome:?}");
        };
        assert!(
            message.contains(field) && message.len() < 300,
            "{field}: {message}"
        );
    }
    assert_eq!(store.count_all(), before);
    // The control.
    manager
        .update(id)
        .metadata(metadata(nested(31)))
        .await
        .unwrap();
    assert!(store.count_all() > before);
}

/// Too deep a value is dropped without recursion, whenever the call is dropped.
#[actix_web::test]
async fn a_call_that_is_not_awaited_drops_a_value_of_any_depth() {
    let manager = manager_on(Arc::new(MemoryStore::new())).await;
    let small = std::thread::Builder::new().stack_size(256 * 1024);
    let run = move || {
        let deep = || nested(500_000);
        drop(
            manager
                .create("a")
                .metadata("a", deep())
                .metadata("b", deep()),
        );
        let id = KeyId::from_u128(1);
        let metadata = Metadata::from_iter([("a".to_owned(), deep())]);
        drop(manager.update(id).metadata(metadata));
    };
    small.spawn(run).unwrap().join().unwrap();
}

#[actix_web::test]
async fn a_page_size_out_of_bounds_is_an_error() {
    let (_folder, managers) = managers().await;
    for manager in managers {
        manager.create("a").await.unwrap();
        for size in [0, 1_001, u32::MAX] {
            let page = manager.list().page_size(size).await;
            let Err(Error::InvalidArgument(message)) = page else {
                panic!("{size}: {page:?}");
            };
            assert!(message.contains(&size.to_string()), "{message}");
        }
        for size in [1, 1_000] {
            assert_eq!(manager.list().page_size(size).await.unwrap().keys.len(), 1);
        }
    }
}

#[actix_web::test]
async fn pages_of_a_list_hold_every_key_once() {
    let (_folder, managers) = managers().await;
    for manager in managers {
        let mut ids = Vec::new();
        for number in 0..25 {
            let key = manager
                .create(format!("{number}"))
                .owner(if number % 3 == 0 { "a" } else { "b" });
            ids.push(key.await.unwrap().id());
        }
        for id in &ids[..5] {
            manager.disable(*id).await.unwrap();
        }
        ids.sort();
        let mut seen = Vec::new();
        let mut after = None;
        loop {
            let page = manager.list().page_size(4).after(after).await.unwrap();
            assert!(page.keys.len() <= 4 && page.unreadable.is_empty());
            seen.extend(page.keys.iter().map(|record| (record.created, record.id)));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert!(
            seen.is_sorted_by(|one, next| one > next),
            "the newest first"
        );
        let mut seen: Vec<_> = seen.into_iter().map(|(_, id)| id).collect();
        seen.sort();
        assert_eq!(seen, ids);
        assert_eq!(manager.list().owner("a").await.unwrap().keys.len(), 9);
        let disabled = manager
            .list()
            .state(KeyState::Disabled)
            .page_size(2)
            .await
            .unwrap();
        assert_eq!(disabled.keys.len(), 2);
        assert!(disabled.next.is_some());
        let rest = manager
            .list()
            .state(KeyState::Disabled)
            .after(disabled.next)
            .await
            .unwrap();
        assert_eq!((rest.keys.len(), rest.next), (3, None));
    }
}
