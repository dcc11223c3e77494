//! Input that is refused: secrets in texts, times that RFC 3339 does not have, forms of unknown sources.

use actix_web::test::{TestRequest, call_service, init_service};
use actix_web::{App, web};
use apikey_portal::SameOriginOnly;
use serde_json::{Value, json};

use crate::app::{MOUNT, app, get, manager, portal, send, submit};
use crate::json::client::Call;

#[actix_web::test]
async fn a_secret_is_not_stored_as_a_text() {
    let manager = manager().await;
    let new = manager.create("ci").owner("acme").await.unwrap();
    let (secret, id) = (new.expose_secret().to_owned(), new.id());
    let app = app(portal(&manager)).await;
    let written = format!("the key is \"{secret}\".");
    // The API.
    for (path, body) in [
        ("/keys", json!({"label": written})),
        ("/keys", json!({"label": "x", "description": written})),
        (
            "/keys",
            json!({"label": "x", "metadata": {"a": [{"b": written}]}}),
        ),
        (
            "/keys",
            json!({"label": "x", "metadata": {written.clone(): 1}}),
        ),
        ("/keys:revoke", json!({"owner": "acme", "reason": written})),
        ("/owners/acme/suspend", json!({"note": written})),
    ] {
        let answer = Call::post(path).by("root").json(body).send(&app).await;
        answer.names("A field has a key with its secret");
        assert!(!answer.text.contains(&secret), "{path}");
    }
    // The pages.
    let revoke = format!("/keys/{id}/revoke");
    let edit = format!("/keys/{id}/edit");
    for (path, field) in [
        ("/new", "label"),
        ("/new", "description"),
        (&*revoke, "reason"),
        (&*edit, "description"),
    ] {
        let fields = [("label", "x"), (field, written.as_str())];
        let answer = submit(&app, "alice", path, path, &fields).await;
        assert_eq!(answer.status, 400, "{path} {field}");
        assert!(answer.text.contains("A field has a key with its secret"));
        assert!(!answer.text.contains(&secret), "{path}");
    }
    let keys = manager.list().await.unwrap().keys;
    assert_eq!(keys.len(), 1);
    assert_eq!(keys[0].version, manager.get(id).await.unwrap().version);
    assert_eq!((&*keys[0].label, &keys[0].description), ("ci", &None));
    assert!(keys[0].revoked.is_none());
    // Control: the beginning of a key is not secret.
    let beginning = secret.rsplit_once('_').unwrap().0;
    let fields = [("label", beginning)];
    let answer = submit(&app, "alice", "/new", "/new", &fields).await;
    assert_eq!(answer.status, 200);
    let body = json!({"label": beginning});
    let answer = Call::post("/keys").by("root").json(body).send(&app).await;
    assert_eq!(answer.status, 201);
}

#[actix_web::test]
async fn times_have_years_of_four_digits() {
    let manager = manager().await;
    let id = manager.create("ci").owner("acme").await.unwrap().id();
    let app = app(portal(&manager)).await;
    let create = |name: &str, value: Value| {
        let body = json!({"label": "x", name: value});
        Call::post("/keys").by("root").json(body).send(&app)
    };
    for time in [
        "9999-12-31T23:59:60Z",
        "+999999-01-01T00:00:00Z",
        "9999-12-31T23:59:59-00:01",
        "-000001-01-01T00:00:00Z",
        "0000-01-01T00:00:00+00:01",
    ] {
        for name in ["expires_at", "not_before"] {
            create(name, json!(time)).await.names(name);
        }
        let body = json!({"unused_since": time});
        let revoke = Call::post("/keys:revoke").by("root").json(body);
        revoke.send(&app).await.names("unused_since");
        let time = time.replace('+', "%2B");
        let audit = Call::get(format!("/audit?from={time}")).by("root");
        audit.send(&app).await.names("from");
    }
    // `null` is not the same as an absent time, without which all keys of the owner would be revoked.
    let body = json!({"unused_since": null, "owner": "acme"});
    let revoke = Call::post("/keys:revoke").by("root").json(body);
    revoke.send(&app).await.names("unused_since");
    assert!(manager.get(id).await.unwrap().revoked.is_none());
    create("expires_in", json!(999_999_999_999_u64))
        .await
        .names("expires_in");
    let form = [("label", "x"), ("end", "date"), ("date", "9999-12-31")];
    let page = submit(&app, "alice", "/new", "/new", &form).await;
    assert_eq!(page.status, 422);
    let page = get(&app, "root", "/audit?from=%2B999999-01-01T00:00:00Z").await;
    assert!(!page.text.contains("+999999-01-01T00:00:00.000Z"));
    assert_eq!(manager.list().await.unwrap().keys.len(), 1);
    // Control: the last moment.
    let last = "9999-12-31T23:59:59.999Z";
    let answer = create("expires_at", json!(last)).await;
    assert_eq!(answer.json()["key"]["expires_at"], last);
}

/// Over HTTP/2, requests do not have the header `Host`.
#[actix_web::test]
async fn the_host_of_the_target_is_that_of_forms_without_a_public_url() {
    let manager = manager().await;
    let app = init_service(
        App::new().service(portal(&manager).mount(MOUNT)).service(
            web::resource("/name")
                .wrap(SameOriginOnly::new())
                .route(web::post().to(async || "changed")),
        ),
    )
    .await;
    let token = get(&app, "alice", "/new").await.token("/new");
    for (path, host, origin, status) in [
        (MOUNT, None, "https://acme.example:8443", 200),
        (MOUNT, None, "https://evil.example", 403),
        (MOUNT, None, "https://acme.example", 403),
        (
            MOUNT,
            Some("evil.example"),
            "https://acme.example:8443",
            403,
        ),
        ("/name", None, "https://acme.example:8443", 200),
        ("/name", None, "https://evil.example", 403),
    ] {
        let path = if path == MOUNT {
            format!("{MOUNT}/new")
        } else {
            path.to_owned()
        };
        let request = TestRequest::post()
            .uri(&format!("https://acme.example:8443{path}"))
            .insert_header(("x-test-person", "alice"))
            .insert_header(("origin", origin))
            .set_form([("label", "x"), ("token", &*token)]);
        let request = host.into_iter().fold(request, |request, host: &str| {
            request.insert_header(("host", host))
        });
        let answer = call_service(&app, request.to_request()).await;
        assert_eq!(answer.status(), status, "{path} {host:?} {origin}");
    }
}

/// A program has a credential that a browser does not add by itself, and not a session.
#[actix_web::test]
async fn an_own_form_without_a_source_is_served_to_programs_alone() {
    let form = web::resource("/name").wrap(SameOriginOnly::new());
    let form = form.route(web::post().to(async || "changed"));
    let app = init_service(App::new().service(form)).await;
    let (bearer, cookie) = (("authorization", "Bearer x"), ("cookie", "session=1"));
    for (headers, status) in [
        (vec![], 403),
        (vec![cookie], 403),
        (vec![bearer, cookie], 403),
        (vec![bearer, ("cookie", "")], 403),
        (vec![bearer], 200),
        (vec![cookie, ("sec-fetch-site", "same-origin")], 200),
    ] {
        let request = TestRequest::post().uri("/name");
        let with = |request: TestRequest, header: &(&'static str, &'static str)| {
            request.insert_header(*header)
        };
        let request = headers.iter().fold(request, with).to_request();
        let answer = call_service(&app, request).await;
        assert_eq!(answer.status(), status, "{headers:?}");
    }
}

#[actix_web::test]
async fn a_form_that_cannot_be_read_is_told_why() {
    let manager = manager().await;
    let app = app(portal(&manager)).await;
    let form = |media_type: &str, body: String| {
        TestRequest::post()
            .insert_header(("sec-fetch-site", "same-origin"))
            .insert_header(("content-type", media_type.to_owned()))
            .set_payload(body)
    };
    let fields = "application/x-www-form-urlencoded";
    let long = |length: usize| format!("label={}", "x".repeat(length - "label=".len()));
    for (media_type, body, status, why) in [
        (
            fields,
            long(32 * 1_024 + 1),
            413,
            "A form has at most 32 KiB.",
        ),
        (
            "text/plain",
            "label=x".to_owned(),
            400,
            "read: Content type error.<",
        ),
        // Control: it is read, and does not have a token.
        (fields, long(32 * 1_024), 403, "Form expired"),
    ] {
        let sent = send(&app, "alice", form(media_type, body), "/new").await;
        assert_eq!(sent.status, status, "{why}");
        assert!(sent.text.contains(why), "{why} is not in {}", sent.text);
    }
}
