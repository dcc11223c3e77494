//! The location of the docs that exposes `/revoke` alone to holders of keys.

use apikey_test_support::forge;
use apikey_test_support::servers::reverse_proxy::ProxyKind;

use crate::site::{ALICE, MALLORY, Request, Site};
use crate::through::few_attempts;

const GUIDE: &str = include_str!("../../apikey-portal/docs/gateways.md");

fn location() -> &'static str {
    let (_, from) = GUIDE.split_once("```nginx\n").unwrap();
    from.split_once("```").unwrap().0
}

fn revocation(token: &str) -> String {
    format!("token={token}")
}

async fn status(site: &Site, from: &str, path: &str, body: &str) -> u16 {
    let form = "application/x-www-form-urlencoded";
    let request = Request::new("POST", path).header("Content-Type", form);
    site.send(from, &request.body(body)).await.status
}

/// Has one client guess until it is blocked. Returns the status of another's revocation.
async fn after_guesses(location: &str) -> Option<u16> {
    let sample = "location /api/ {";
    let change = (sample, &*format!("{location} {sample}"));
    let kind = ProxyKind::Nginx;
    let site = Site::start(kind, "the location of /revoke", few_attempts(), &[change]).await?;
    let key = site.manager.create("a").await.unwrap();
    let guess = revocation(&forge::wrong_secret(key.expose_secret()));
    let mut statuses = Vec::new();
    for _ in 0..6 {
        statuses.push(status(&site, MALLORY, "/revoke", &guess).await);
    }
    assert_eq!(statuses, [200, 200, 200, 200, 200, 429]);
    let right = revocation(key.expose_secret());
    for other in ["/introspect", "/verify", "/gateway/revoke", "/revoke/x"] {
        assert_eq!(status(&site, ALICE, other, &right).await, 404, "{other}");
    }
    let last = status(&site, ALICE, "/revoke", &right).await;
    let is_valid = site.manager.verify(key.expose_secret()).await.is_ok();
    assert_eq!(is_valid, last != 200);
    Some(last)
}

#[actix_web::test]
async fn the_guesses_of_a_client_do_not_keep_another_from_revoking() {
    let Some(status) = after_guesses(location()).await else {
        return;
    };
    assert_eq!(status, 200);
    // Negative control: without the header, all clients are one.
    let line = "proxy_set_header X-Forwarded-For $remote_addr;";
    assert!(location().contains(line));
    let control = location().replace(line, "proxy_set_header X-Forwarded-For \"\";");
    assert_eq!(after_guesses(&control).await, Some(429));
}
