//! A secret is shown once, and no browser keeps it.

use std::path::PathBuf;

use serde_json::json;

use crate::checks::{files_with, places};
use crate::hands::Visitor;
use crate::site::Site;

/// A text like a secret, which is in no page of the portal.
const SAMPLE: &str = "sk_0123456789abcdefghijklmnopqrstuvwxyz";

/// Negative control: a page that keeps a secret anywhere is found.
#[actix_web::test]
async fn a_page_that_keeps_a_secret_is_found() {
    let Some(visitor) = Visitor::start().await else {
        return;
    };
    let site = Site::start().await;
    visitor.open(&format!("{}/login", site.origin)).await;
    assert_eq!(places(&visitor, SAMPLE).await, [""; 0]);
    for (place, script) in [
        ("document", "document.body.append(secret)"),
        ("field", "document.querySelector('input').value = secret"),
        ("history state", "history.replaceState({ secret }, '')"),
        ("window name", "window.name = secret"),
        ("cookie of scripts", "document.cookie = 'a=' + secret"),
        ("local storage", "localStorage.setItem('a', secret)"),
        ("session storage", "sessionStorage.setItem('a', secret)"),
        (
            "databases",
            "const open = indexedDB.open(secret); \
             await new Promise((done, failed) => { open.onsuccess = done; open.onerror = failed })",
        ),
        (
            "cache",
            "await (await caches.open('a')).put('/a', new Response(secret))",
        ),
        ("address", "history.pushState(null, '', '?' + secret)"),
    ] {
        let script = format!("const secret = arguments[0]; {script}");
        visitor.run(&script, json!([SAMPLE])).await;
        let places = places(&visitor, SAMPLE).await;
        assert!(
            places.iter().any(|found| found == place),
            "{place}: {places:?}"
        );
    }
    for place in ["history", "cookie"] {
        let places = places(&visitor, SAMPLE).await;
        assert!(
            places.iter().any(|found| found == place),
            "{place}: {places:?}"
        );
    }
    let profile = visitor.into_browser().close().await;
    let files = files_with(profile.path(), SAMPLE);
    for folder in [
        "Local Storage",
        "Session Storage",
        "CacheStorage",
        "Sessions",
    ] {
        let has = |file: &PathBuf| file.iter().any(|part| part == folder);
        assert!(files.iter().any(has), "{folder}: {files:?}");
    }
}

/// A page may come back from the browser's memory, as it was left.
#[actix_web::test]
async fn a_page_from_the_memory_of_the_browser_has_no_secret() {
    let Some(visitor) = Visitor::start().await else {
        return;
    };
    let site = Site::start().await;
    site.sign_in(&visitor, "alice").await;
    let script = "return document.querySelector('script[src]').getAttribute('src')";
    let script = visitor.run(script, json!([])).await;
    // With another script the page keeps it: the negative control.
    for (script, left) in [(script.as_str().unwrap(), ""), ("/login", SAMPLE)] {
        let kept = format!("{}/kept?secret={SAMPLE}&script={script}", site.origin);
        visitor.open(&kept).await;
        visitor.run("window.mark = 1", json!([])).await;
        assert_eq!(visitor.secret().await, SAMPLE);
        visitor.open(&site.portal("")).await;
        visitor.back().await;
        let mark = visitor.run("return window.mark", json!([])).await;
        assert_eq!(mark, json!(1), "this is not the page that was left");
        assert_eq!(visitor.value("[data-secret]").await.as_deref(), Some(left));
    }
}

#[actix_web::test]
async fn no_place_of_the_browser_keeps_a_secret() {
    let Some(visitor) = Visitor::start().await else {
        return;
    };
    let site = Site::start().await;
    visitor.permit_clipboard(&site.origin).await;
    site.sign_in(&visitor, "alice").await;
    let reloaded = made(&site, &visitor).await;
    // It is in the page, and the check finds it there.
    assert_eq!(places(&visitor, &reloaded).await, ["document", "field"]);
    visitor.reload().await;
    visitor.sees("Already created").await;
    assert_eq!(places(&visitor, &reloaded).await, [""; 0]);

    let left = made(&site, &visitor).await;
    visitor.click("Copy").await;
    visitor.click("I have kept it").await;
    visitor.sees("Usage in 30 days").await;
    let key = visitor.url().await;
    assert_eq!(places(&visitor, &left).await, [""; 0]);
    visitor.back().await;
    assert_eq!(places(&visitor, &left).await, [""; 0]);
    visitor.forward().await;
    assert_eq!(visitor.url().await, key);
    assert_eq!(places(&visitor, &left).await, [""; 0]);

    visitor.click("Rotate").await;
    visitor.click("Rotate and show").await;
    let rotated = visitor.secret().await;
    visitor.open(&site.portal("")).await;
    visitor.back().await;
    assert_eq!(places(&visitor, &rotated).await, [""; 0]);

    let profile = visitor.into_browser().close().await;
    for secret in [&reloaded, &left, &rotated] {
        let files = files_with(profile.path(), secret);
        assert!(files.is_empty(), "{files:?}");
    }
}

/// The answer to the second form would say that the key is rotated already, and not show the secret.
#[actix_web::test]
async fn a_form_that_is_clicked_twice_is_sent_once() {
    let Some(visitor) = Visitor::start().await else {
        return;
    };
    let site = Site::start().await;
    let key = site.manager.create("ci").owner("acme").await.unwrap();
    site.sign_in(&visitor, "alice").await;
    for page in ["/rotate", "/edit"] {
        visitor
            .open(&site.portal(&format!("/keys/{}{page}", key.id())))
            .await;
        let script = "
            const button = document.querySelector('button.primary');
            const isSent = [];
            const note = (event) => { isSent.push(!event.defaultPrevented); event.preventDefault(); };
            const shown = (persisted) => dispatchEvent(new PageTransitionEvent('pageshow', { persisted }));
            addEventListener('submit', note);
            const { setTimeout } = window;
            let later;
            window.setTimeout = (call) => { later = call; };
            button.click();
            button.click();
            shown(false);
            button.click();
            // Without an answer for long, as after the browser's Stop.
            later();
            button.click();
            // The page came back from the memory of the browser.
            shown(true);
            button.click();
            shown(true);
            window.setTimeout = setTimeout;
            removeEventListener('submit', note);
            return isSent;
        ";
        let sent = visitor.run(script, json!([])).await;
        assert_eq!(sent, json!([true, false, false, true, true]), "{page}");
    }
    visitor
        .open(&site.portal(&format!("/keys/{}/rotate", key.id())))
        .await;
    let script =
        "const button = document.querySelector('button.primary'); button.click(); button.click()";
    visitor.run(script, json!([])).await;
    assert_ne!(visitor.secret().await, key.expose_secret());
    let rotations = site.manager.get(key.id()).await.unwrap().rotations;
    assert_eq!(rotations, 1);
}

/// Makes a key; returns its secret.
async fn made(site: &Site, visitor: &Visitor) -> String {
    visitor.open(&site.portal("/new")).await;
    visitor.fill("Name", "kept nowhere").await;
    visitor.click("Create the key").await;
    visitor.secret().await
}
