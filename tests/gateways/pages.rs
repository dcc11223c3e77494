//! Pages for errors that nginx has outside the sample, which its locations inherit. Each has its negative control: without the
//! protecting line, the page's status is the answer to the check, or to the client.

use std::time::Duration;

use apikey_test_support::servers::reverse_proxy::ProxyKind;
use apikey_test_support::store::{Call, GateStore};
use apikey_test_support::{PATIENCE, forge, within};

use crate::site::{ALICE, Request, Setup, Site};

/// Pages for errors that nginx itself makes, which `proxy_intercept_errors` does not concern.
const PAGES: [&str; 2] = [
    "error_page 502 504 =200 /away;",
    "error_page 502 504 = /away;",
];

/// Without them, the locations inherit pages.
const OWN_PAGES: &str = "error_page 599 = @apikey_denied;";

fn with_page(page: &str) -> String {
    format!("{page} location = /away {{ return 200; }} location /api/ {{")
}

/// Sends requests that the application does not answer. Returns the last status, and how many reached the service.
async fn unanswered(page: &str, is_stopped: bool, protection: &str) -> Option<(u16, u64)> {
    let store = GateStore::new();
    let mut setup = Setup::default();
    setup.config = setup.config.store_timeout(Duration::from_secs(60));
    setup.store = store.clone();
    // Long, unless the application is to be too late.
    let patience = if is_stopped { "60s" } else { "1s" };
    let changes = [
        ("location /api/ {", &*with_page(page)),
        (
            "proxy_read_timeout 5s;",
            &*format!("proxy_read_timeout {patience};"),
        ),
        (OWN_PAGES, protection),
    ];
    let mut site = Site::start(ProxyKind::Nginx, "unanswered", setup, &changes).await?;
    let mut request = Request::new("GET", "/api/orders");
    let serves = async || site.send(ALICE, &request).await.status == 401;
    assert!(within(PATIENCE, serves).await.is_some());
    let gate = store.gate_before(Call::Find);
    match is_stopped {
        true => site.application = None,
        false => request = request.key(&forge::unknown()),
    }
    let mut status = 401;
    let ended = within(PATIENCE, async || {
        status = site.send(ALICE, &request).await.status;
        status != 401
    });
    assert!(ended.await.is_some());
    gate.open();
    Some((status, site.served().await))
}

#[actix_web::test]
async fn an_inherited_page_for_an_application_that_does_not_answer_does_not_accept() {
    for (page, is_stopped) in [(PAGES[0], true), (PAGES[1], true), (PAGES[0], false)] {
        let Some((status, served)) = unanswered(page, is_stopped, OWN_PAGES).await else {
            return;
        };
        assert!(status >= 500 && served == 0, "{page} {status} {served}");
        let control = unanswered(page, is_stopped, "").await;
        assert_eq!(control, Some((200, 1)), "{page} {is_stopped}");
    }
}

/// The page would be shown with its own status, 200, to clients that are denied.
#[actix_web::test]
async fn an_inherited_page_does_not_replace_a_denial() {
    for (protection, expected) in [(OWN_PAGES, 403), ("", 200)] {
        let page = with_page("error_page 403 500 = /away; recursive_error_pages on;");
        let changes = [("location /api/ {", &*page), (OWN_PAGES, protection)];
        let (kind, setup) = (ProxyKind::Nginx, Setup::default());
        let Some(site) = Site::start(kind, "a page for denials", setup, &changes).await else {
            return;
        };
        let weak = site.manager.create("a").await.unwrap();
        let answer = site.get(ALICE, "/api/orders", weak.expose_secret()).await;
        assert_eq!(answer.status, expected, "{answer:?}");
        assert_eq!(site.served().await, 0);
    }
}
