//! All of it by the keyboard alone.

use std::collections::BTreeSet;

use serde_json::json;

use crate::hands::{BACKSPACE, DELETE, ENTER, SPACE, TAB, Visitor};
use crate::site::Site;

/// Numbers the controls of a page in `window.controls`; one of a group of radio buttons stands for all.
const CONTROLS: &str = "
    const all = [...document.querySelectorAll('a[href], button, input:not([type=hidden]), select, textarea, summary')];
    const seen = all.filter((e) => e.checkVisibility() && !e.disabled);
    const groups = new Map();
    for (const e of seen) groups.set(e.type === 'radio' ? e.name : groups.size, e.type === 'radio' && groups.get(e.name)?.checked ? groups.get(e.name) : e);
    window.controls = [...groups.values()];
    return window.controls.map((e) => e.outerHTML.slice(0, 120));
";

/// The number of the control that has the focus, and whether its focus is visible. A part of a control, such as the
/// button of a date, has a ring of the browser's own.
const FOCUSED: &str = "
    const e = document.activeElement, style = getComputedStyle(e);
    return [window.controls.indexOf(e), !e.matches(':focus') || style.outlineStyle !== 'none' || style.boxShadow !== 'none'];
";

#[actix_web::test]
async fn a_key_is_made_rotated_and_revoked_by_the_keyboard() {
    let Some(visitor) = Visitor::start().await else {
        return;
    };
    let site = Site::start().await;
    visitor.permit_clipboard(&site.origin).await;
    site.sign_in(&visitor, "alice").await;
    go(&visitor, "a New key", "What will use the key").await;
    reaches_each_control(&visitor).await;

    // The form is refused: the focus is on the reason.
    to(&visitor, "input Name").await;
    visitor.press("by keys").await;
    to(&visitor, "input hello:read").await;
    visitor.press(SPACE).await;
    go(&visitor, "summary Restrictions", "Networks").await;
    to(&visitor, "textarea Networks").await;
    visitor.press("nowhere").await;
    go(
        &visitor,
        "button Create the key",
        "Please correct this first",
    )
    .await;
    let focus = visitor.focus().await;
    assert!(
        focus.starts_with("div Please correct this first"),
        "{focus}"
    );
    reaches_each_control(&visitor).await;
    // What was typed is still there.
    to(&visitor, "textarea Networks").await;
    visitor
        .press(&format!("{BACKSPACE}{DELETE}").repeat("nowhere".len()))
        .await;
    go(&visitor, "button Create the key", "Copy the key now").await;

    reaches_each_control(&visitor).await;
    go(&visitor, "button Copy", "Copied").await;
    go(&visitor, "a I have kept it", "Usage in 30 days").await;
    reaches_each_control(&visitor).await;
    go(&visitor, "a Rotate", "How long does the old secret").await;
    reaches_each_control(&visitor).await;
    go(&visitor, "button Rotate and show", "Copy the key now").await;
    let secret = visitor.secret().await;
    site.hello(&secret).await.says("Hello, by keys!");
    go(&visitor, "a I have kept it", "Two secrets work").await;
    go(&visitor, "a Revoke", "this cannot be undone").await;
    reaches_each_control(&visitor).await;
    to(&visitor, "input I know that").await;
    visitor.press(SPACE).await;
    go(
        &visitor,
        "button Revoke this key",
        "Confirmed on every node.",
    )
    .await;
    site.hello(&secret).await.refused(401, "revoked-key");
}

/// Presses Tab until an element has the focus.
async fn to(visitor: &Visitor, wanted: &str) {
    let mut met = Vec::new();
    for _ in 0..60 {
        visitor.press(TAB).await;
        let focus = visitor.focus().await;
        if focus.starts_with(wanted) {
            return;
        }
        met.push(focus);
    }
    panic!("Tab does not come to {wanted:?}, but to {met:?}");
}

/// Goes to an element and presses Enter; then the page, or the next one, says something.
async fn go(visitor: &Visitor, wanted: &str, said: &str) {
    to(visitor, wanted).await;
    visitor.press(ENTER).await;
    visitor.sees(said).await;
}

async fn reaches_each_control(visitor: &Visitor) {
    let controls = visitor.run(CONTROLS, json!([])).await;
    let controls = controls.as_array().unwrap();
    let mut left: BTreeSet<usize> = (0..controls.len()).collect();
    // The focus begins anywhere, and goes around once; a date has several fields.
    for _ in 0..2 * controls.len() + 20 {
        if left.is_empty() {
            return;
        }
        visitor.press(TAB).await;
        let focused = visitor.run(FOCUSED, json!([])).await;
        if let Some(number) = focused[0].as_u64() {
            left.remove(&(number as usize));
            assert_eq!(
                focused[1], true,
                "the focus is not visible on {}",
                controls[number as usize]
            );
        }
    }
    let left: Vec<_> = left.iter().map(|number| &controls[*number]).collect();
    panic!("Tab does not reach {left:?} of {}", visitor.url().await);
}
