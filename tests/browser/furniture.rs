//! A site whose keys have been in use for a month.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use apikey_runtime::clock::{ManualClock, Timestamp};
use apikey_runtime::limit::{Quota, Rate};
use apikey_test_support::http::Client;
use apikey_test_support::{PATIENCE, within};

use crate::site::Site;

const DAY: Duration = Duration::from_secs(86_400);

/// Markup that must not become markup, text from right to left, and the beginning of a word that no line has room for.
const HOSTILE: &str = "'\"><script>window.hit=1</script><img src=x onerror=window.hit=1>\u{5d0}";

/// Starts a site with keys of `acme`, with hostile texts if wanted.
pub(crate) async fn furnished(hostile: bool) -> Site {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    let start = now - 29 * DAY;
    let start = Timestamp::from_millis(i64::try_from(start.as_millis()).unwrap());
    let clock = Arc::new(ManualClock::at(start));
    let mut site = Site::start_at(clock.clone()).await;
    let word = format!("{HOSTILE}{}", "W".repeat(150));
    let text = |plain: &str| {
        if hostile {
            word.clone()
        } else {
            plain.to_owned()
        }
    };
    let new = |label: &str| {
        let call = site.manager.create(text(label)).owner("acme");
        call.actor("alice")
    };

    let backup = new("Nightly backup")
        .description(text("Copies the measurements of the day"))
        .scopes(["hello:read", "orders:read"])
        .limit("daily", Quota::per_day(5_000))
        .limit("minute", Rate::per_minute(600))
        .await
        .unwrap();
    let shop = new("Web shop").scopes(["hello:read"]).await.unwrap();
    let phone = new("Mobile app").scopes(["hello:read"]);
    let phone = phone.expires_in(33 * DAY).await.unwrap();
    let laptop = new("Laptop of Carol").scopes(["hello:read"]);
    let laptop = laptop.expires_in(20 * DAY).await.unwrap();
    let runner = new("CI runner").scopes(["hello:read"]).await.unwrap();
    let importer = new("Old importer")
        .scopes(["hello:read", "hello:write"])
        .await
        .unwrap();
    let other = site.manager.create(text("Reports")).actor("bob");
    let other = other.owner(text("globex")).scopes(["hello:read"]);
    let other = other.await.unwrap();
    let unowned = site.manager.create("Without an owner");
    unowned.actor("root").await.unwrap();

    let mut client = Client::connect(site.address).await;
    for day in 0..30_usize {
        for (key, calls, denials) in [
            (&backup, 6 + day * 7 % 5, usize::from(day % 9 == 4) * 3),
            (&shop, day * 5 % 14 + day / 2, usize::from(day % 6 == 1) * 2),
            (&phone, usize::from(day > 12) * (day * 3 % 8), 0),
            (&laptop, usize::from(day < 17) * (day % 3), 0),
            (&other, day * 11 % 9, day % 2),
        ] {
            let authorization = format!("Bearer {}", key.expose_secret());
            let headers = [("Authorization", &*authorization)];
            for call in 0..calls + denials {
                let path = match call {
                    call if call >= calls => "/api/admin",
                    call if call % 3 == 2 && key.id() == backup.id() => "/api/orders",
                    _ => "/api/hello",
                };
                client.get(path, &headers).await;
            }
        }
        if day < 29 {
            clock.advance(DAY);
        }
    }
    let disabling = site.manager.disable(runner.id()).actor("alice");
    disabling.await.unwrap();
    let revocation = site.manager.revoke(importer.id()).actor("alice");
    revocation
        .reason(text("replaced by the nightly backup"))
        .await
        .unwrap();
    let rotation = site.manager.rotate(shop.id()).actor("alice");
    let renewed = rotation.grace(DAY).await.unwrap();
    clock.advance(Duration::from_secs(7_000));
    site.hello(shop.expose_secret()).await;
    site.hello(renewed.expose_secret()).await;
    clock.advance(Duration::from_secs(100));
    let seen = async || {
        let used = site.manager.last_used(shop.id()).await.unwrap();
        used.is_some()
    };
    assert!(
        within(PATIENCE, seen).await.is_some(),
        "usage is not written"
    );
    site.shown = vec![backup.id(), shop.id(), importer.id()];
    site
}
