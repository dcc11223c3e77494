//! Where the portal is mounted, and what its visitors see of that.

use actix_http::Request;
use actix_web::body::MessageBody;
use actix_web::dev::{Service, ServiceResponse};
use actix_web::http::Method;
use actix_web::test::{TestRequest, call_service, init_service, read_body};
use actix_web::{App, Error, HttpResponse, web};
use apikey_runtime::ApiKeyManager;
use apikey_test_support::log::Log;

use crate::app::{MOUNT, app, manager, portal, post, send};

/// Returns the status and the text of alice's page.
async fn read<B: MessageBody>(
    app: &impl Service<Request, Response = ServiceResponse<B>, Error = Error>,
    path: &str,
) -> (u16, String) {
    let request = TestRequest::get().uri(path);
    let request = request.insert_header(("x-test-person", "alice"));
    let answer = call_service(app, request.to_request()).await;
    let status = answer.status().as_u16();
    let body = read_body(answer).await;
    (status, String::from_utf8(body.to_vec()).unwrap())
}

/// Returns the targets of the links and forms of a page.
fn targets(page: &str) -> Vec<String> {
    let target = |attribute: &str| {
        let rest = page.split(attribute).skip(1);
        rest.filter_map(|rest| rest.split_once('"'))
            .map(|(target, _)| target.to_owned())
            .collect::<Vec<_>>()
    };
    let all = [" href=\"", " src=\"", " action=\""].map(target);
    all.concat()
}

/// Follows the links of a portal's list: all of them lead to the portal.
async fn follow<B: MessageBody>(
    app: &impl Service<Request, Response = ServiceResponse<B>, Error = Error>,
    list: &str,
) {
    let (status, page) = read(app, list).await;
    assert_eq!(status, 200, "{list}");
    let targets = targets(&page);
    assert!(targets.len() > 6, "{list}: {targets:?}");
    for target in targets.iter().filter(|target| !target.starts_with('#')) {
        let (status, _) = read(app, &target.replace("&amp;", "&")).await;
        assert_eq!(status, 200, "{target} of {list}");
    }
}

async fn issue(manager: &ApiKeyManager) -> String {
    let key = manager.create("ci").owner("acme").await.unwrap();
    key.record().id.to_string()
}

#[actix_web::test]
async fn a_portal_at_the_root_has_its_list_at_the_slash() {
    let manager = manager().await;
    let id = issue(&manager).await;
    for mount in ["/", ""] {
        let app = init_service(App::new().service(portal(&manager).mount(mount))).await;
        follow(&app, "/").await;
        assert_eq!(read(&app, &format!("/keys/{id}")).await.0, 200);
        assert_eq!(read(&app, "/nothing").await.0, 404);
    }
    // A proxy takes the beginning away.
    let public = portal(&manager).public_url("https://acme.example/account/keys");
    let app = init_service(App::new().service(public.mount("/"))).await;
    for path in ["/", "/new"] {
        let (status, page) = read(&app, path).await;
        assert_eq!(status, 200, "{path}");
        let targets = targets(&page);
        let own = |target: &String| target.starts_with("/account/keys") || target == "#main";
        assert!(targets.iter().all(own), "{targets:?}");
        assert!(targets.contains(&"/account/keys".to_owned()));
    }
}

#[actix_web::test]
async fn a_slash_at_the_end_of_the_mount_path_is_the_list() {
    let manager = manager().await;
    for mount in ["/keys", "/keys/"] {
        let app = init_service(App::new().service(portal(&manager).mount(mount))).await;
        follow(&app, "/keys").await;
        follow(&app, "/keys/").await;
    }
}

#[actix_web::test]
async fn links_in_a_scope_of_the_application_lead_to_the_portal() {
    let manager = manager().await;
    let id = issue(&manager).await;
    for (outer, mount, base) in [
        ("/account", "/keys", "/account/keys"),
        ("/account", "", "/account"),
        ("/account", "/", "/account"),
        // The names that the application gives to its own parts are not the portal's.
        ("/{id}", "/keys", "/7/keys"),
        ("/{owner}", "/keys", "/globex/keys"),
        ("/{name}/x", "/keys", "/a%20b/x/keys"),
        ("/{owner}", "/keys", "/caf%C3%A9%2F/keys"),
    ] {
        let scope = web::scope(outer).service(portal(&manager).mount(mount));
        let app = init_service(App::new().service(scope)).await;
        for page in ["", "/", "/new", &format!("/keys/{id}/edit")] {
            follow(&app, &format!("{base}{page}")).await;
        }
        let (status, page) = read(&app, &format!("{base}/keys/{id}")).await;
        assert_eq!(status, 200, "{outer} {page}");
        let edit = format!("href=\"{base}/keys/{id}/edit\"");
        assert!(page.contains(&edit), "{edit} in {page}");
        let (status, key) = read(&app, &format!("{base}/v1/keys/{id}")).await;
        assert_eq!(status, 200, "{outer} {key}");
    }
}

#[actix_web::test]
async fn a_path_of_a_request_does_not_lead_links_to_another_host() {
    let manager = manager().await;
    let scope = web::scope("/{tail:.*}/at").service(portal(&manager).mount("/keys"));
    let app = init_service(App::new().service(scope)).await;
    assert_eq!(read(&app, "/a/b/at/keys").await.0, 200);
    let (status, page) = read(&app, "//evil.example/at/keys").await;
    assert_eq!(status, 404);
    assert!(!page.contains("evil.example"), "{page}");
}

#[actix_web::test]
async fn a_mount_path_with_patterns_is_a_fault_that_is_answered() {
    let manager = manager().await;
    for mount in [
        "/with/{id}/keys",
        "/with/{key_id}/keys",
        "/with/{x/keys",
        "/with/*",
    ] {
        let app = App::new()
            .service(portal(&manager).mount(mount))
            .route("/other", web::get().to(HttpResponse::Ok));
        let app = init_service(app).await;
        let path = mount.replace(['{', '}', '*'], "a");
        assert_eq!(read(&app, &path).await.0, 500, "{mount}");
        assert_eq!(read(&app, "/other").await.0, 200, "{mount}");
    }
}

#[actix_web::test]
async fn people_come_back_from_signing_in_to_the_page_as_they_see_it() {
    let manager = manager().await;
    let portal = |url: Option<&str>| {
        let portal = portal(&manager).sign_in("/login");
        url.into_iter()
            .fold(portal, |portal, url| portal.public_url(url))
    };
    let wanted = async |portal: apikey_portal::Portal, mount: &str, path: &str| {
        let outer = web::scope("/shop").service(portal.mount(mount));
        let app = init_service(App::new().service(outer)).await;
        let request = TestRequest::get().uri(path).to_request();
        let answer = call_service(&app, request).await;
        assert_eq!(answer.status(), 303, "{path}");
        let location = answer.headers().get("location").unwrap();
        location.to_str().unwrap().to_owned()
    };
    let public = Some("https://acme.example/account/keys");
    for (url, mount, path, next) in [
        (public, "/keys", "/shop/keys", "/account/keys"),
        (public, "/keys", "/shop/keys/new", "/account/keys/new"),
        (
            public,
            "/keys",
            "/shop/keys?q=a%20b",
            "/account/keys%3Fq%3Da%2520b",
        ),
        (
            public,
            "",
            "/shop/audit?key=a",
            "/account/keys/audit%3Fkey%3Da",
        ),
        (Some("https://acme.example"), "/keys", "/shop/keys", "/"),
        // Not a path of this origin.
        (
            Some("https://acme.example"),
            "/keys",
            "/shop/keys//evil.example/x?y",
            "/",
        ),
        // A path that is written in another way leads to the list.
        (public, "/keys", "/shop/%6Beys/new", "/account/keys"),
    ] {
        let location = wanted(portal(url), mount, path).await;
        assert_eq!(location, format!("/login?next={next}"), "{path}");
    }
    // A target with a host, as proxies get it, names that host.
    let app = init_service(App::new().service(portal(None).mount("/keys"))).await;
    let request = TestRequest::get()
        .uri("http://evil.example/keys")
        .to_request();
    let answer = call_service(&app, request).await;
    assert_eq!(
        answer.headers().get("location").unwrap(),
        "/login?next=/keys"
    );
}

/// A browser does not follow a redirection of a form to another origin, and says nothing.
#[actix_web::test]
async fn a_form_of_somebody_who_is_signed_out_is_answered_with_a_link() {
    let manager = manager().await;
    let key = manager.create("ci").owner("acme").await.unwrap();
    let with = app(portal(&manager).sign_in("/login?to=keys")).await;
    let without = app(portal(&manager)).await;
    let path = format!("/keys/{}/disable", key.id());
    for (path, link) in [(&*path, true), ("/new", true), (&*path, false)] {
        let sent = match link {
            true => post(&with, "", path, &[("label", "x")]).await,
            false => post(&without, "", path, &[("label", "x")]).await,
        };
        assert_eq!(sent.status, 403, "{path}");
        assert!(sent.text.contains("Please sign in"), "{}", sent.text);
        let has_link = sent.text.contains("href=\"/login?to=keys\"");
        assert_eq!(has_link, link, "{}", sent.text);
    }
    assert!(manager.get(key.id()).await.unwrap().enabled);
    // Control: what is read is redirected, and comes back.
    for request in [
        TestRequest::get(),
        TestRequest::default().method(Method::HEAD),
    ] {
        let read = send(&with, "", request, "/new").await;
        assert_eq!(read.status, 303);
        let next = format!("/login?to=keys&next={MOUNT}/new");
        assert_eq!(read.header("location"), next);
    }
}

#[actix_web::test]
async fn a_wrong_public_url_is_logged_with_the_origin_that_forms_state() {
    let manager = manager().await;
    let portal = portal(&manager).public_url("https://wrong-url.example/keys");
    let app = init_service(App::new().service(portal.mount("/keys"))).await;
    let log = Log::capture();
    let request = TestRequest::post()
        .uri("/keys/new")
        .insert_header(("x-test-person", "alice"));
    let request = request.insert_header(("origin", "https://right-url.example"));
    let answer = call_service(&app, request.to_request()).await;
    assert_eq!(answer.status(), 403);
    let words = [
        "WARN",
        "https://wrong-url.example",
        "https://right-url.example",
    ];
    assert_eq!(log.lines(&words).len(), 1);
}

#[actix_web::test]
async fn a_page_that_does_not_exist_has_the_links_of_the_person() {
    let manager = manager().await;
    let app =
        init_service(App::new().service(portal(&manager).sign_out("/out").mount("/keys"))).await;
    for path in ["/keys/nothing", "/keys/keys/nothing"] {
        let (status, page) = read(&app, path).await;
        assert_eq!(status, 404, "{path}");
        for text in ["<bdi>alice</bdi>", "Sign out", "href=\"/keys/audit\""] {
            assert!(page.contains(text), "{text} in {page}");
        }
    }
}
