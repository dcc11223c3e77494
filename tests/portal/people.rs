//! The people that the application names, and portals with different people side by side.

use actix_http::Request;
use actix_web::body::MessageBody;
use actix_web::dev::{Service, ServiceResponse};
use actix_web::test::{TestRequest, init_service};
use actix_web::{App, Error, HttpRequest};
use apikey_portal::{BoxError, Grants, Person, Portal, PortalAuth, Role};
use apikey_runtime::{ApiKeyManager, KeyId, Scopes};
use apikey_test_support::later;
use serde_json::{Value, json};

use crate::app::{Answer, MOUNT, app, get, manager, portal, post, post_loaded, send, submit};

/// This person sends each request.
struct Always(Person);

impl PortalAuth for Always {
    async fn person(&self, _: &HttpRequest) -> Result<Option<Person>, BoxError> {
        Ok(Some(self.0.clone()))
    }
}

#[actix_web::test]
async fn an_id_that_cannot_be_an_actor_is_a_mistake_of_the_application() {
    let manager = manager().await;
    let key = manager.create("x").owner("acme").scopes(["apikeys:read"]);
    let key = key.await.unwrap();
    let long = "x".repeat(200);
    for (id, status) in [
        ("", 500),
        (&*format!("{long}x"), 500),
        ("a\nb", 500),
        ("key:2Zp4sK9bLmQw", 500),
        (&*long, 200),
        ("user:key:a", 200),
    ] {
        let person = Person::new(id).with_owner("acme");
        let app = app(Portal::new(manager.clone(), Always(person))).await;
        for path in ["", "/audit", "/v1/keys", "/v1/audit"] {
            let answer = get(&app, "", path).await;
            assert_eq!(answer.status, status, "{id:?} {path}: {}", answer.text);
        }
        // It is not nobody: a key beside it does not hide it.
        let bearer = format!("Bearer {}", key.expose_secret());
        let request = TestRequest::get().insert_header(("authorization", bearer));
        let both = send(&app, "", request, "/v1/keys").await.status;
        assert_eq!(both, if status == 200 { 400 } else { 500 }, "{id:?}");
    }
}

/// Creates a key by the API.
async fn create<B: MessageBody>(
    app: &impl Service<Request, Response = ServiceResponse<B>, Error = Error>,
    name: &str,
    body: Value,
) -> (u16, Value) {
    let request = TestRequest::post()
        .insert_header(("sec-fetch-site", "same-origin"))
        .insert_header(("idempotency-key", "\"first\""))
        .set_json(body);
    let answer = send(app, name, request, "/v1/keys").await;
    let body: Value = serde_json::from_str(&answer.text).unwrap();
    (answer.status.as_u16(), body["key"]["id"].clone())
}

#[actix_web::test]
async fn what_one_portal_made_is_not_another_ones() {
    let manager = manager().await;
    let here = app(portal(&manager)).await;
    let public = portal(&manager).public_url(format!("https://acme.example{MOUNT}"));
    let public = app(public).await;
    let there = portal(&manager).public_url("https://acme.example/staff");
    let there = app(there).await;

    let token = get(&here, "alice", "/new").await.token("/new");
    let fields = [("label", "x"), ("token", token.as_str())];
    assert_eq!(post(&public, "alice", "/new", &fields).await.status, 403);
    assert_eq!(post(&there, "alice", "/new", &fields).await.status, 403);
    assert_eq!(post(&here, "alice", "/new", &fields).await.status, 200);

    let body = json!({"label": "x"});
    assert_eq!(create(&here, "alice", body.clone()).await.0, 201);
    assert_eq!(create(&public, "alice", body.clone()).await.0, 201);
    assert_eq!(create(&there, "alice", body.clone()).await.0, 201);
    // Control: a repeat.
    assert_eq!(create(&here, "alice", body).await.0, 409);

    // By the mount path alone.
    let at = |path: &str| portal(&manager).mount(path);
    let both = App::new().service(at("/staff")).service(at(MOUNT));
    let both = init_service(both).await;
    let token = get(&both, "alice", "/new").await.token("/new");
    let form = |path: &str| {
        TestRequest::post()
            .uri(path)
            .insert_header(("sec-fetch-site", "same-origin"))
            .insert_header(("x-test-person", "alice"))
            .set_form([("label", "x"), ("token", token.as_str())])
            .to_request()
    };
    let staff = actix_web::test::call_service(&both, form("/staff/new")).await;
    assert_eq!(staff.status(), 403);
    let own = actix_web::test::call_service(&both, form(&format!("{MOUNT}/new"))).await;
    assert_eq!(own.status(), 200);
}

/// Removes the record of a key.
async fn purge(manager: &ApiKeyManager, id: KeyId) {
    manager.revoke(id).await.unwrap();
    let now = later(manager).await;
    assert_eq!(manager.purge(now).await.unwrap(), 1);
}

#[actix_web::test]
async fn a_repeat_after_a_purge_does_not_give_the_id_to_another_owner() {
    let manager = manager().await;
    let app = app(portal(&manager)).await;
    let of = |owner: &str| json!({"label": "x", "owner": owner});
    let (_, first) = create(&app, "root", of("acme")).await;
    let id = first.as_str().unwrap().parse().unwrap();
    purge(&manager, id).await;
    let (status, second) = create(&app, "root", of("globex")).await;
    assert_eq!(status, 201);
    assert_ne!(first, second);
    // Control: the same owner.
    assert_eq!(create(&app, "root", of("acme")).await, (201, first));

    let token = get(&app, "root", "/new").await.token("/new");
    let form = async |owner: &str| {
        let fields = [("label", "y"), ("owner", owner), ("token", token.as_str())];
        let page = post(&app, "root", "/new", &fields).await;
        assert_eq!(page.status, 200, "{}", page.text);
        made(&page)
    };
    let first = form("acme").await;
    purge(&manager, first).await;
    assert_ne!(form("globex").await, first);
    assert_eq!(form("acme").await, first, "control");
}

/// The id of the key that a page shows the secret of.
fn made(page: &Answer) -> KeyId {
    let (_, rest) = page.text.split_once(&format!("{MOUNT}/keys/")).unwrap();
    rest.split_once('"').unwrap().0.parse().unwrap()
}

#[actix_web::test]
async fn an_admin_who_grants_them_by_name_makes_keys_that_manage_keys() {
    let manager = manager().await;
    let scopes = Scopes::new(["apikeys:read", "apikeys:create"]).unwrap();
    let root = |grants| {
        let root = Person::new("root").with_role(Role::Admin);
        let portal = Portal::new(manager.clone(), Always(root.with_grants(grants)));
        portal.scopes([
            "hello:read",
            "apikeys:read",
            "apikeys:create",
            "apikeys:manage",
        ])
    };
    let with = app(root(Grants::AllWith(scopes))).await;
    let without = app(root(Grants::All)).await;
    let fields = |scope: &'static str| {
        let all = [("label", "ci"), ("owner", "acme"), ("end", "never")];
        all.into_iter()
            .chain([("scope", "hello:read"), ("scope", scope)])
    };
    for (app, scope, status) in [
        (&without, "apikeys:read", 403),
        (&with, "apikeys:manage", 403),
        (&with, "apikeys:read", 200),
    ] {
        let fields: Vec<_> = fields(scope).collect();
        let page = submit(app, "", "/new", "/new", &fields).await;
        assert_eq!(page.status, status, "{scope}: {}", page.text);
    }
    let keys = manager.list().await.unwrap().keys;
    let [record] = &keys[..] else {
        panic!("{keys:?}")
    };
    let path = format!("/keys/{}/rotate", record.id);
    let hidden = get(&with, "", &path).await.hidden(&path);
    assert_eq!(get(&without, "", &path).await.status, 403);
    let rotated = post_loaded(&with, "", &path, &hidden, &[("grace", "0")]).await;
    assert_eq!(rotated.status, 200, "{}", rotated.text);

    let (_, rest) = rotated.text.split_once("id=\"secret\"").unwrap();
    let (_, rest) = rest.split_once('>').unwrap();
    let bearer = format!("Bearer {}", rest.split_once('<').unwrap().0.trim());
    let programs = app(portal(&manager)).await;
    let request = TestRequest::get().insert_header(("authorization", bearer));
    let listed = send(&programs, "", request, "/v1/keys").await;
    assert_eq!(listed.status, 200, "{}", listed.text);
}
