//! `preview` of calls: nothing is written, and the record or the error is that of the call.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use apikey_runtime::clock::{ManualClock, Timestamp};
use apikey_runtime::limit::Rate;
use apikey_runtime::manager::IssuePolicy;
use apikey_runtime::store::AuditQuery;
use apikey_runtime::{ApiKeyManager, KeyId, KeyRecord, KeyStore, Scopes};
use apikey_test_support::fleet::Fleet;
use apikey_test_support::store::{Call, GateStore};
use apikey_test_support::{manager_at, soon};

use crate::{HOUR, fleets};

/// A store whose writes are counted, and a manager on it whose time stands still.
struct Scene {
    fleet: Fleet,
    store: Arc<GateStore>,
    manager: ApiKeyManager,
}

/// What a store was sent and holds.
#[derive(Debug, PartialEq)]
struct Content {
    writes: usize,
    keys: Vec<KeyRecord>,
    entries: usize,
}

impl Scene {
    async fn every() -> Vec<Self> {
        let mut every = Vec::new();
        for fleet in fleets().await {
            let store = GateStore::around(fleet.store());
            let clock = Arc::new(ManualClock::at(Timestamp::from(SystemTime::now())));
            let manager = manager_at(store.clone(), clock).await;
            every.push(Self {
                fleet,
                store,
                manager,
            });
        }
        every
    }

    fn name(&self) -> &'static str {
        self.fleet.name
    }

    async fn content(&self) -> Content {
        let audit = self.store.audit().unwrap();
        let page = soon(audit.read_audit(&AuditQuery::newest(100))).await;
        Content {
            writes: self.store.count(Call::Insert) + self.store.count(Call::Update),
            keys: soon(self.manager.list()).await.unwrap().keys,
            entries: page.unwrap().entries.len(),
        }
    }
}

/// Removes what is random, or set by the store, from a record.
fn comparable(mut record: KeyRecord) -> KeyRecord {
    record.digest.clear();
    record.owner_state = None;
    record
}

/// Evaluates the preview of a call and then the call, which is written out twice, and returns both results. The preview
/// does not write.
macro_rules! both {
    ($scene:expr, $call:expr) => {{
        let before = $scene.content().await;
        let previewed = soon($call.preview()).await;
        assert_eq!($scene.content().await, before, "{}", $scene.name());
        let made = soon($call).await;
        // Control: the call itself is seen.
        let after = $scene.content().await;
        let is_seen = after.keys != before.keys && after.entries > before.entries;
        assert_eq!(is_seen, made.is_ok(), "{}", $scene.name());
        (previewed, made)
    }};
}

/// Asserts that a call and its preview are refused with the same error.
macro_rules! refused {
    ($scene:expr, $call:expr) => {{
        let (previewed, made) = both!($scene, $call);
        let (previewed, made) = (previewed.unwrap_err(), made.unwrap_err());
        assert_eq!(
            format!("{previewed:?}"),
            format!("{made:?}"),
            "{}",
            $scene.name()
        );
    }};
}

#[actix_web::test]
async fn a_preview_returns_what_the_call_writes_and_writes_nothing_on_every_store() {
    for scene in Scene::every().await {
        let (manager, name) = (&scene.manager, scene.name());
        let id = KeyId::from_u128(7);
        let create = || {
            let call = manager.create("ci").id(id).owner("acme").scopes(["a", "b"]);
            let call = call.description("for tests").environment("live");
            let call = call.networks(["10.0.0.0/8".parse().unwrap()]);
            let call = call.limit("burst", Rate::per_minute(5)).methods(["GET"]);
            call.metadata("team", 7).expires_in(24 * HOUR).actor("ann")
        };
        let (previewed, made) = both!(scene, create());
        let made = made.unwrap().record().clone();
        assert_ne!(previewed.as_ref().unwrap().digest, made.digest, "{name}");
        assert_eq!(comparable(previewed.unwrap()), comparable(made), "{name}");
        let update = || {
            let call = manager.update(id).label("cd").owner("globex");
            let call = call.scopes(["a"]).networks([]).never_expires();
            call.description::<String>(None).actor("bob").if_version(1)
        };
        let (previewed, made) = both!(scene, update());
        let (previewed, made) = (previewed.unwrap(), made.unwrap());
        assert_eq!(comparable(previewed), comparable(made), "{name}");
        let (previewed, made) = both!(scene, manager.rotate(id).grace(HOUR).actor("eve"));
        let made = made.unwrap().record().clone();
        assert_ne!(previewed.as_ref().unwrap().digest, made.digest, "{name}");
        assert_eq!(comparable(previewed.unwrap()), comparable(made), "{name}");
        // An update of nothing does not change the version.
        let before = scene.content().await;
        let previewed = soon(manager.update(id).actor("eve").preview()).await;
        let made = soon(manager.update(id).actor("eve")).await;
        assert_eq!(previewed.unwrap(), made.unwrap(), "{name}");
        assert_eq!(scene.content().await, before, "{name}");
    }
}

#[actix_web::test]
async fn a_preview_is_refused_as_the_call_is_on_every_store() {
    for scene in Scene::every().await {
        let manager = &scene.manager;
        let now = manager.now();
        let later = |hours| now.checked_add(hours * HOUR).unwrap();
        let key = manager
            .create("ci")
            .owner("acme")
            .scopes(["a"])
            .await
            .unwrap();
        let ended = manager.create("ci").owner("acme").await.unwrap();
        manager.revoke(ended.id()).await.unwrap();
        let (id, ended) = (key.id(), ended.id());
        let held = Scopes::new(["a"]).unwrap();
        let short = || IssuePolicy::unrestricted().with_max_lifetime(HOUR);
        let one = || IssuePolicy::unrestricted().with_max_live_keys(1);
        refused!(scene, manager.create(""));
        refused!(scene, manager.create("a\nb"));
        refused!(scene, manager.create("a").actor("a\nb"));
        refused!(scene, manager.create("a").prefix("other"));
        refused!(scene, manager.create("a").scopes(["not a scope"]));
        refused!(scene, manager.create("a").scopes(["b"]).granted_by(&held));
        refused!(
            scene,
            manager.create("a").expires_in(2 * HOUR).policy(short())
        );
        refused!(scene, manager.create("a").expires_at(now));
        refused!(scene, manager.create("a").owner("acme").policy(one()));
        for id in [id, KeyId::from_u128(9)] {
            refused!(scene, manager.update(id).label(""));
            refused!(scene, manager.update(id).label("b").owned_by("globex"));
            refused!(scene, manager.update(id).label("b").if_version(9));
            refused!(scene, manager.update(id).scopes(["b"]).granted_by(&held));
            refused!(
                scene,
                manager.update(id).expires_at(later(1)).not_before(later(2))
            );
            refused!(scene, manager.rotate(id).owned_by("globex"));
            refused!(scene, manager.rotate(id).if_version(9));
            refused!(scene, manager.rotate(id).granted_by(&Scopes::none()));
            refused!(scene, manager.rotate(id).grace(Duration::MAX));
            refused!(scene, manager.rotate(id).actor("a\nb"));
        }
        refused!(scene, manager.rotate(ended));
        manager.create("b").owner("globex").await.unwrap();
        refused!(scene, manager.update(id).owner("globex").policy(one()));
        manager.revoke_all("acme").await.unwrap();
        refused!(scene, manager.update(id).owner("globex"));
        refused!(scene, manager.rotate(id));
    }
}
