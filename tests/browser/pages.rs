//! What holds on each page, and pictures of them.

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::checks::{Axe, WIDTHS, faults, since_last};
use crate::furniture::furnished;
use crate::hands::Visitor;
use crate::site::{MOUNT, Site};

/// Negative controls: each check finds its defect.
#[actix_web::test]
async fn each_check_finds_its_defect() {
    let (Some(visitor), Some(axe)) = (Visitor::start().await, Axe::installed()) else {
        return;
    };
    let site = Site::start().await;
    for (defect, said) in [
        ("other-origin", "a request to http://localhost:9/x.png"),
        ("console-error", "this is an error"),
        ("image-without-alt", "px, light: image-alt"),
        ("pale", "px, light: color-contrast"),
        ("pale-in-the-dark", "px, dark: color-contrast"),
        ("wide", "360 px, light: the page is"),
        ("markup", "a label became markup"),
    ] {
        let url = format!("{}/control/{defect}", site.origin);
        visitor.open(&url).await;
        let faults = faults(&site, &visitor, &axe).await;
        let is_found = faults.iter().any(|fault| fault.contains(said));
        assert!(is_found, "{defect}: {faults:?}");
    }
}

#[actix_web::test]
async fn no_page_has_a_fault_for_a_person() {
    look_for_faults("alice").await;
}

#[actix_web::test]
async fn no_page_has_a_fault_for_an_operator() {
    look_for_faults("root").await;
}

async fn look_for_faults(name: &str) {
    let (Some(visitor), Some(axe)) = (Visitor::start().await, Axe::installed()) else {
        return;
    };
    let site = furnished(true).await;
    let mut all = Vec::new();
    let mut pages = 0;
    each_page(&site, &visitor, name, async |page| {
        pages += 1;
        let faults = faults(&site, &visitor, &axe).await;
        all.extend(faults.iter().map(|fault| format!("{page}: {fault}")));
    })
    .await;
    assert!(pages > 9, "there are more pages than {pages}");
    assert!(all.is_empty(), "{}", all.join("\n"));
}

/// Writes a picture of each page into the folder that `PORTAL_PICTURES` names, such as `alice-key-dark-360.png`.
#[actix_web::test]
async fn pictures() {
    let Some(folder) = std::env::var_os("PORTAL_PICTURES").map(PathBuf::from) else {
        return;
    };
    for name in ["alice", "root"] {
        let Some(visitor) = Visitor::start().await else {
            return;
        };
        let site = furnished(false).await;
        each_page(&site, &visitor, name, async |page| {
            for width in WIDTHS {
                for dark in [false, true] {
                    visitor.look(width, dark).await;
                    let scheme = if dark { "dark" } else { "light" };
                    let file = folder.join(format!("{name}-{page}-{scheme}-{width}.png"));
                    std::fs::write(file, visitor.picture().await).unwrap();
                }
            }
            since_last(&site, &visitor).await;
        })
        .await;
    }
}

/// Shows a person each page that a link leads to, and pages that answer forms.
async fn each_page(site: &Site, visitor: &Visitor, name: &str, mut look: impl AsyncFnMut(String)) {
    visitor.open(&site.portal("")).await;
    look("signed-out".to_owned()).await;
    visitor.open(&format!("{}/login", site.origin)).await;
    site.sign_in(visitor, name).await;
    let mut waiting = VecDeque::from([(site.portal(""), "list".to_owned())]);
    let mut met = BTreeSet::from([String::new()]);
    for number in 0..site.shown.len() {
        let key = site.portal(&format!("/keys/{}", site.shown[number]));
        waiting.push_back((key, format!("key{number}")));
    }
    while let Some((url, page)) = waiting.pop_front() {
        visitor.open(&url).await;
        look(page).await;
        for (link, shape) in links(visitor).await {
            if met.insert(shape.clone()) {
                let page = shape.trim_matches('/').replace(['/', '?', '&'], "-");
                waiting.push_back((link, page));
            }
        }
    }
    visitor.open(&site.portal("/keys/none")).await;
    look("not-found".to_owned()).await;
    visitor.open(&site.portal("?q=none")).await;
    look("list-empty".to_owned()).await;
    after_forms(site, visitor, &mut look).await;
}

/// Returns the links of the page that lead to pages of the portal, and the same without ids and values.
async fn links(visitor: &Visitor) -> Vec<(String, String)> {
    const LINKS: &str = "
        return [...document.querySelectorAll('a[href]')]
          .filter((a) => a.origin === location.origin && a.pathname.startsWith(arguments[0]) && !a.hash && !/\\.(csv|json)$/.test(a.pathname))
          .map((a) => {
            const path = a.pathname.slice(arguments[0].length).replace(/[0-9A-Za-z]{22}/, 'id');
            const names = [...new URL(a.href).searchParams].filter((pair) => pair[1]).map((pair) => pair[0]);
            return [a.href, path === '/keys/id' ? '' : path + (names.length ? '?' + names.sort().join('&') : '')];
          });";
    let links = visitor.run(LINKS, json!([MOUNT])).await;
    serde_json::from_value(links).unwrap()
}

async fn after_forms(site: &Site, visitor: &Visitor, look: &mut impl AsyncFnMut(String)) {
    visitor.open(&site.portal("/new")).await;
    visitor.fill("Name", &"long ".repeat(40)).await;
    visitor.tick("after this day").await;
    visitor.click("Create the key").await;
    visitor.sees("Please correct this first").await;
    look("new-refused".to_owned()).await;
    visitor.fill("Name", "weather station").await;
    visitor.tick("hello:read").await;
    visitor.tick("in 7 days").await;
    visitor.click("Create the key").await;
    visitor.secret().await;
    look("secret".to_owned()).await;
    visitor.reload().await;
    look("already-created".to_owned()).await;
    visitor.click("Show the key").await;
    visitor.sees("It was not used").await;
    look("key-new".to_owned()).await;
    let key = visitor.url().await;
    visitor.open(&format!("{key}/rotate")).await;
    visitor.click("Rotate and show").await;
    visitor.secret().await;
    look("rotated".to_owned()).await;
    visitor.open(&format!("{key}/revoke")).await;
    visitor.fill("Reason", "the station is gone").await;
    visitor.tick("I know that").await;
    visitor.click("Revoke this key").await;
    visitor.sees("Confirmed on every node").await;
    look("revoked".to_owned()).await;
}

#[test]
fn the_picture_of_the_readme_is_small() {
    let picture = Path::new(env!("CARGO_MANIFEST_DIR")).join("apikey-portal/docs/portal.png");
    let size = std::fs::metadata(picture).unwrap().len();
    assert!(size < 150_000, "{size} bytes");
}
