//! Rotating, revoking, disabling and enabling a key by its pages.

use std::sync::Arc;

use apikey_runtime::MemoryStore;
use apikey_runtime::clock::ManualClock;
use apikey_test_support::store::{Call, Fault, GateStore};
use apikey_test_support::{manager_at, manager_on};

use crate::app::{MOUNT, app, get, manager, portal, post_loaded};

#[actix_web::test]
async fn a_rotation_shows_the_new_secret_once_and_the_old_one_has_its_grace() {
    let clock = Arc::new(ManualClock::starting_now());
    let manager = manager_at(Arc::new(MemoryStore::new()), clock).await;
    let old = manager.create("ci").owner("acme").await.unwrap();
    let app = app(portal(&manager)).await;
    let action = format!("/keys/{}/rotate", old.id());
    let form = get(&app, "alice", &action).await;
    for grace in ["0", "900", "3600", "86400", "604800"] {
        let choice = format!("name=\"grace\" value=\"{grace}\"");
        assert!(form.text.contains(&choice), "{}", form.text);
    }
    let hidden = form.hidden(&action);
    // Without a choice, and with one that is not offered.
    for typed in [
        &[][..],
        &[("grace", "1")],
        &[("grace", "-1")],
        &[("grace", "")],
    ] {
        let sent = post_loaded(&app, "alice", &action, &hidden, typed).await;
        assert_eq!(sent.status, 422);
        assert!(sent.text.contains("Choose how long"), "{}", sent.text);
    }
    assert_eq!(manager.get(old.id()).await.unwrap().rotations, 0);

    let typed = [("grace", "900")];
    let shown = post_loaded(&app, "alice", &action, &hidden, &typed).await;
    assert_eq!(shown.status, 200, "{}", shown.text);
    let secret = secret_of(&shown.text);
    assert_ne!(secret, old.expose_secret());
    assert!(
        shown.text.contains("works for 15 minutes more"),
        "{}",
        shown.text
    );
    assert_eq!(shown.header("cache-control"), "private, no-store");
    manager.verify(&secret).await.unwrap();
    manager.verify(old.expose_secret()).await.unwrap();

    // A reload sends the form again.
    let again = post_loaded(&app, "alice", &action, &hidden, &typed).await;
    assert_eq!(again.status, 409);
    assert!(again.text.contains("Already rotated"), "{}", again.text);
    assert!(!again.text.contains(&secret));
    assert_eq!(manager.get(old.id()).await.unwrap().rotations, 1);

    // Without a grace, neither of the secrets before works here.
    let form = get(&app, "alice", &action).await;
    let told = "Choose this if it leaked. Other servers follow within 1 second.";
    for text in ["An earlier rotation", told] {
        assert!(form.text.contains(text), "{text} is not in {}", form.text);
    }
    let hidden = form.hidden(&action);
    let shown = post_loaded(&app, "alice", &action, &hidden, &[("grace", "0")]).await;
    let said = "This server rejects the old secret now. Other servers follow within 1 second.";
    assert!(shown.text.contains(said), "{}", shown.text);
    manager.verify(&secret_of(&shown.text)).await.unwrap();
    for gone in [&secret, old.expose_secret()] {
        manager.verify(gone).await.unwrap_err();
    }
}

fn secret_of(page: &str) -> String {
    let (_, field) = page.split_once("data-secret>").expect("a secret is shown");
    field.split_once('<').unwrap().0.to_owned()
}

/// Somebody with few scopes would get a secret of many.
#[actix_web::test]
async fn a_wide_key_is_neither_rotated_nor_enabled_by_somebody_with_few_scopes() {
    let manager = manager().await;
    let wide = ["hello:read", "admin:all"];
    let key = manager
        .create("wide")
        .owner("acme")
        .scopes(wide)
        .await
        .unwrap();
    let app = app(portal(&manager)).await;
    let path = format!("/keys/{}", key.id());
    let page = get(&app, "alice", &path).await.text;
    assert!(!page.contains(&format!("{path}/rotate")) && page.contains("/revoke"));
    assert!(page.contains("scopes that you may not give"), "{page}");
    let rotate = format!("{path}/rotate");
    let page = get(&app, "alice", &rotate).await;
    assert_eq!(page.status, 403);
    assert!(page.text.contains("scopes that you may not give"));
    let hidden = get(&app, "promoted", &rotate).await.hidden(&rotate);
    let sent = post_loaded(&app, "alice", &rotate, &hidden, &[("grace", "0")]).await;
    assert_eq!(sent.status, 403);
    assert!(
        sent.text.contains("scopes that you may not give"),
        "{}",
        sent.text
    );
    manager.verify(key.expose_secret()).await.unwrap();

    // Disabling needs no scopes, and enabling does.
    let disable = format!("{path}/disable");
    let hidden = get(&app, "alice", &path).await.hidden(&disable);
    let sent = post_loaded(&app, "alice", &disable, &hidden, &[]).await;
    assert_eq!(
        (sent.status.as_u16(), sent.header("location")),
        (303, &*format!("{MOUNT}{path}"))
    );
    assert!(!manager.get(key.id()).await.unwrap().enabled);
    let enable = format!("{path}/enable");
    assert!(!get(&app, "alice", &path).await.text.contains(&enable));
    let hidden = get(&app, "promoted", &path).await.hidden(&enable);
    let sent = post_loaded(&app, "alice", &enable, &hidden, &[]).await;
    assert_eq!(sent.status, 403);
    assert!(
        sent.text.contains("scopes that you may not give"),
        "{}",
        sent.text
    );
    assert!(!manager.get(key.id()).await.unwrap().enabled);

    // Control: who may give all of them does both.
    assert_eq!(
        post_loaded(&app, "promoted", &enable, &hidden, &[])
            .await
            .status,
        303
    );
    assert!(manager.get(key.id()).await.unwrap().enabled);
    let hidden = get(&app, "promoted", &rotate).await.hidden(&rotate);
    let sent = post_loaded(&app, "promoted", &rotate, &hidden, &[("grace", "0")]).await;
    assert_eq!(sent.status, 200, "{}", sent.text);
    manager.verify(key.expose_secret()).await.unwrap_err();
}

/// The scopes that the key has when it is rotated count, not those that it had when the form was shown.
#[actix_web::test]
async fn a_key_that_got_wider_since_the_form_was_shown_is_not_rotated() {
    let manager = manager().await;
    let key = manager.create("ci").owner("acme").await.unwrap();
    let app = app(portal(&manager)).await;
    let rotate = format!("/keys/{}/rotate", key.id());
    let hidden = get(&app, "alice", &rotate).await.hidden(&rotate);
    manager
        .update(key.id())
        .scopes(["admin:all"])
        .await
        .unwrap();
    let sent = post_loaded(&app, "alice", &rotate, &hidden, &[("grace", "0")]).await;
    assert_eq!(sent.status, 403);
    assert_eq!(manager.get(key.id()).await.unwrap().rotations, 0);
}

#[actix_web::test]
async fn a_revocation_needs_a_ticked_box_and_is_confirmed() {
    let store: Arc<MemoryStore> = Arc::new(MemoryStore::new());
    let manager = manager_on(Arc::clone(&store) as Arc<_>).await;
    let other = manager_on(store).await;
    let key = manager.create("ci").owner("acme").await.unwrap();
    other.verify(key.expose_secret()).await.unwrap();
    let app = app(portal(&manager)).await;
    let action = format!("/keys/{}/revoke", key.id());
    let hidden = get(&app, "alice", &action).await.hidden(&action);
    let long = "x".repeat(257);
    for (typed, fault) in [
        (vec![("reason", "it leaked")], "Tick the box"),
        (vec![("reason", "it leaked"), ("sure", "")], "Tick the box"),
        (vec![("reason", &*long), ("sure", "yes")], "256"),
    ] {
        let sent = post_loaded(&app, "alice", &action, &hidden, &typed).await;
        assert_eq!(sent.status, 422, "{}", sent.text);
        assert!(sent.text.contains(fault), "{}", sent.text);
        let kept = format!("name=\"reason\" value=\"{}\"", typed[0].1);
        assert!(sent.text.contains(&kept), "{}", sent.text);
        other.verify(key.expose_secret()).await.unwrap();
    }

    let typed = [("reason", "it leaked"), ("sure", "yes")];
    let sent = post_loaded(&app, "alice", &action, &hidden, &typed).await;
    assert_eq!(sent.status, 200, "{}", sent.text);
    assert!(
        sent.text.contains("Confirmed on every node"),
        "{}",
        sent.text
    );
    assert!(
        sent.text.contains("1 other server has confirmed"),
        "{}",
        sent.text
    );
    other.verify(key.expose_secret()).await.unwrap_err();
    let record = manager.get(key.id()).await.unwrap();
    assert_eq!(record.revoked.unwrap().reason.as_deref(), Some("it leaked"));
    let entry = &manager.audit().key(key.id()).await.unwrap().entries[0];
    assert_eq!(entry.origin.reason.as_deref(), Some("it leaked"));

    // Sent again, and from the form that is opened again; and what else was loaded before.
    let again = post_loaded(&app, "alice", &action, &hidden, &typed).await;
    assert_eq!(
        (again.status.as_u16(), again.text.contains("stays so")),
        (409, true)
    );
    assert_eq!(get(&app, "alice", &action).await.status, 409);
    for form in ["/edit", "/rotate"] {
        let page = get(&app, "alice", &format!("/keys/{}{form}", key.id())).await;
        assert_eq!(
            (page.status.as_u16(), page.text.contains("stays so")),
            (409, true)
        );
    }
}

/// A server that is cut off does not confirm, and is named.
#[actix_web::test]
async fn a_revocation_names_the_servers_that_were_waited_out() {
    let store: Arc<MemoryStore> = Arc::new(MemoryStore::new());
    let cut_off = GateStore::around(Arc::clone(&store) as Arc<_>);
    let manager = manager_on(store).await;
    let key = manager.create("ci").owner("acme").await.unwrap();
    let other = manager_on(Arc::clone(&cut_off) as Arc<_>).await;
    other.verify(key.expose_secret()).await.unwrap();
    for call in [Call::Acknowledge, Call::Changes, Call::Join] {
        cut_off.fail(call, Fault::Unavailable);
    }
    let app = app(portal(&manager)).await;
    let action = format!("/keys/{}/revoke", key.id());
    let hidden = get(&app, "alice", &action).await.hidden(&action);
    let sent = post_loaded(&app, "alice", &action, &hidden, &[("sure", "yes")]).await;
    assert_eq!(sent.status, 200, "{}", sent.text);
    assert!(sent.text.contains("did not answer"), "{}", sent.text);
    assert!(sent.text.contains("waited out"), "{}", sent.text);
    other.verify(key.expose_secret()).await.unwrap_err();
}

#[actix_web::test]
async fn a_key_that_ends_soon_has_no_grace_beyond_its_end() {
    let manager = manager().await;
    let soon = std::time::Duration::from_secs(2 * 3_600);
    let key = manager
        .create("ci")
        .owner("acme")
        .expires_in(soon)
        .await
        .unwrap();
    let app = app(portal(&manager)).await;
    let page = get(&app, "alice", &format!("/keys/{}/rotate", key.id()))
        .await
        .text;
    assert!(page.contains("value=\"3600\" checked"), "{page}");
    assert!(!page.contains("value=\"86400\""), "{page}");
}
