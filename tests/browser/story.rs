//! The story of a key, from its making to its end, and what an operator does.

use apikey_test_support::{PATIENCE, within};
use serde_json::json;

use crate::hands::Visitor;
use crate::site::Site;

#[actix_web::test]
async fn a_person_makes_uses_rotates_and_revokes_a_key() {
    let Some(visitor) = Visitor::start().await else {
        return;
    };
    let site = Site::start().await;
    visitor.permit_clipboard(&site.origin).await;
    story(&site, &visitor, true).await;
}

#[actix_web::test]
async fn all_of_it_works_without_scripts() {
    let Some(visitor) = Visitor::start().await else {
        return;
    };
    let site = Site::start().await;
    visitor.forbid_scripts(true).await;
    story(&site, &visitor, false).await;
    // Otherwise the scripts were not forbidden, for example by a browser that does not know the command.
    visitor
        .open(&format!("{}/control/markup", site.origin))
        .await;
    let hit = visitor.run("return 'hit' in window", json!([])).await;
    assert_eq!(hit, json!(false), "scripts run");
}

async fn story(site: &Site, visitor: &Visitor, scripts: bool) {
    site.sign_in(visitor, "alice").await;
    visitor.click("New key").await;
    visitor.fill("Name", "nightly backup").await;
    visitor.fill("Description", "Copies the weather").await;
    visitor.tick("hello:read").await;
    visitor.tick("in 30 days").await;
    visitor.click("Create the key").await;
    let first = if scripts {
        copied(visitor).await
    } else {
        visitor.secret().await
    };
    visitor.click("I have kept it").await;
    visitor.sees("It was not used.").await;
    site.hello(&first).await.says("Hello, nightly backup!");
    visitor.sees_soon("1 allowed, above the line").await;
    visitor.click("Keys").await;
    visitor.sees("from 127.0.0.0/24").await;
    visitor.click("nightly backup").await;

    visitor.click("Rotate").await;
    visitor.tick("1 hour").await;
    visitor.click("Rotate and show the new secret").await;
    let second = visitor.secret().await;
    assert_ne!(first, second);
    visitor.click("I have kept it").await;
    visitor.sees("New secret: it was not used yet").await;
    site.hello(&first).await.says("Hello, nightly backup!");
    visitor.sees_soon("2 allowed, above the line").await;
    visitor
        .sees("Old secret: last used just now from 127.0.0.0/24")
        .await;
    site.hello(&second).await.says("Hello, nightly backup!");
    visitor.sees_soon("New secret: last used").await;

    visitor.click("Revoke").await;
    visitor.fill("Reason", "the backup has moved").await;
    visitor.tick("I know that this cannot be undone").await;
    visitor.click("Revoke this key").await;
    visitor.sees("Confirmed on every node.").await;
    for secret in [&first, &second] {
        site.hello(secret).await.refused(401, "revoked-key");
    }
    visitor.click("Show the key").await;
    visitor.sees("revoked").await;
    visitor.click("All entries of this key").await;
    for entry in [
        "Key created",
        "Key rotated",
        "Key revoked",
        "Reason: the backup has moved",
        "alice",
        "by a page",
    ] {
        visitor.sees(entry).await;
    }
}

#[actix_web::test]
async fn a_day_that_is_typed_is_the_end_and_another_end_removes_it() {
    let Some(visitor) = Visitor::start().await else {
        return;
    };
    let site = Site::start().await;
    site.sign_in(&visitor, "alice").await;
    visitor.open(&site.portal("/new")).await;
    let typed = "
        const date = document.querySelector('input[type=date]');
        date.value = '2099-12-31';
        date.dispatchEvent(new Event('input', { bubbles: true }));
        return document.querySelector('[name=end]:checked').value;
    ";
    assert_eq!(visitor.run(typed, json!([])).await, json!("date"));
    visitor.tick("in 30 days").await;
    let date = visitor.value("input[type=date]").await;
    assert_eq!(date.as_deref(), Some(""));
    // Control: the choice that the day belongs to leaves it.
    assert_eq!(visitor.run(typed, json!([])).await, json!("date"));
    visitor.tick("after this day").await;
    let date = visitor.value("input[type=date]").await;
    assert_eq!(date.as_deref(), Some("2099-12-31"));
}

/// Copies the secret by the button; returns what is in the clipboard.
async fn copied(visitor: &Visitor) -> String {
    let secret = visitor.secret().await;
    assert!(warns(visitor).await, "it may be left");
    visitor.click("Copy").await;
    let said = "return document.querySelector('[role=status]').innerText";
    let is_said = async || {
        visitor
            .run(said, json!([]))
            .await
            .to_string()
            .contains("Copied")
    };
    assert!(
        within(PATIENCE, is_said).await.is_some(),
        "{}",
        visitor.text().await
    );
    let clipboard = visitor
        .run("return navigator.clipboard.readText()", json!([]))
        .await;
    assert_eq!(clipboard, secret);
    assert!(!warns(visitor).await);
    secret
}

/// Returns whether the page asks before it is left. chromedriver answers the question itself, so it is not seen.
async fn warns(visitor: &Visitor) -> bool {
    let script = "return !dispatchEvent(new Event('beforeunload', { cancelable: true }))";
    visitor.run(script, json!([])).await == json!(true)
}

#[actix_web::test]
async fn an_operator_suspends_an_owner_and_ends_all_keys_by_one_click() {
    let Some(visitor) = Visitor::start().await else {
        return;
    };
    let site = Site::start().await;
    let mut keys = Vec::new();
    for owner in ["acme", "acme", "globex"] {
        let key = site
            .manager
            .create("one of many")
            .owner(owner)
            .scopes(["hello:read"]);
        keys.push(key.await.unwrap().expose_secret().to_owned());
    }
    let statuses = async || {
        let mut statuses = Vec::new();
        for key in &keys {
            statuses.push(site.hello(key).await.status);
        }
        statuses
    };
    assert_eq!(statuses().await, [200, 200, 200]);
    site.sign_in(&visitor, "root").await;
    visitor.open(&site.portal("/admin/owner?owner=acme")).await;
    visitor.click("Suspend this owner").await;
    visitor.sees("The owner is suspended").await;
    let suspended = statuses().await;
    assert!(
        suspended[0] > 400 && suspended[1] > 400 && suspended[2] == 200,
        "{suspended:?}"
    );
    visitor.click("Back to the owner").await;
    visitor.click("Resume this owner").await;
    visitor.sees("The owner is resumed").await;
    assert_eq!(statuses().await, [200, 200, 200]);
    visitor.click("Back to the owner").await;
    visitor.fill("Reason", "the contract has ended").await;
    visitor.tick("Yes, revoke all keys of this owner").await;
    visitor.click("Revoke all keys").await;
    visitor.sees("All keys are revoked").await;
    assert_eq!(statuses().await, [401, 401, 200]);
    visitor.open(&site.portal("/audit?owner=acme")).await;
    for entry in [
        "All keys of the owner suspended",
        "Keys of the owner resumed",
        "All keys of the owner revoked",
        "the contract has ended",
        "root",
    ] {
        visitor.sees(entry).await;
    }
}
