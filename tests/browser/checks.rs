//! What is looked for on each page: errors in the console, requests to another origin, what axe-core reports, a page
//! that is wider than its window, markup that came from a label; and the places in which a browser keeps a secret.

use std::fs;
use std::path::{Path, PathBuf};

use apikey_test_support::skip::Requirement;
use serde_json::{Value, json};

use crate::hands::Visitor;
use crate::site::Site;

const AXE: Requirement = Requirement {
    program: "target/browser-tools",
    remedy: "run `bash tests/browser/tools/install`",
};

/// The widths of a phone and of a desk, in pixels.
pub(crate) const WIDTHS: [u32; 2] = [360, 1280];

/// The script of axe-core.
pub(crate) struct Axe(String);

impl Axe {
    /// Returns `None` if the version that `tools/` locks is not installed, and records that the running test is
    /// skipped.
    pub(crate) fn installed() -> Option<Self> {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = repository.join(AXE.program);
        let wanted = fs::read(repository.join("tests/browser/tools/package-lock.json")).unwrap();
        if fs::read(folder.join("package-lock.json")).is_ok_and(|lock| lock == wanted) {
            let script = folder.join("node_modules/axe-core/axe.min.js");
            return Some(Self(fs::read_to_string(script).unwrap()));
        }
        AXE.is_missing(std::thread::current().name().unwrap_or("a test"));
        None
    }

    /// Returns what axe-core reports of the page as it looks now: the rule, and the elements. `rules` are all if empty.
    pub(crate) async fn faults(&self, visitor: &Visitor, rules: &[&str]) -> Vec<String> {
        let is_there = visitor.run("return 'axe' in window", json!([])).await;
        if is_there != json!(true) {
            visitor.run(&self.0, json!([])).await;
        }
        let report = visitor
            .run(
                "const rules = arguments[0];
                 const report = await axe.run(rules.length ? { runOnly: rules } : {});
                 return report.violations.map((fault) => fault.id + ': '
                   + fault.nodes.map((node) => node.html.slice(0, 200) + ' ' + node.any.map((one) => one.message)).join('; '))",
                json!([rules]),
            )
            .await;
        texts(&report)
    }
}

/// Returns what is wrong with the page in all widths and colours, and since the last call.
pub(crate) async fn faults(site: &Site, visitor: &Visitor, axe: &Axe) -> Vec<String> {
    let mut faults = since_last(site, visitor).await;
    for width in WIDTHS {
        for dark in [false, true] {
            visitor.look(width, dark).await;
            // Colours depend on the scheme, and nothing else.
            let rules: &[&str] = if dark { &["color-contrast"] } else { &[] };
            let mut seen = axe.faults(visitor, rules).await;
            seen.extend(too_wide(visitor, width).await);
            let scheme = if dark { "dark" } else { "light" };
            faults.extend(
                seen.iter()
                    .map(|fault| format!("{width} px, {scheme}: {fault}")),
            );
        }
    }
    faults
}

/// Returns errors in the console and requests to other origins, since the last call.
pub(crate) async fn since_last(site: &Site, visitor: &Visitor) -> Vec<String> {
    let own = format!("{}/", site.origin);
    let mut faults = Vec::new();
    let page = visitor.url().await;
    for entry in visitor.log("browser").await {
        let message = entry["message"].as_str().unwrap();
        // The status of a page itself, such as 404.
        let is_status = message.starts_with(&format!("{page} - Failed to load resource"));
        if entry["level"] == "SEVERE" && !is_status {
            faults.push(format!("the console says: {message}"));
        }
    }
    for entry in visitor.log("performance").await {
        let event: Value = serde_json::from_str(entry["message"].as_str().unwrap()).unwrap();
        let url = &event["message"]["params"]["request"]["url"];
        let is_other = |url: &&str| {
            // A browser starts with a page of its own.
            let inner = ["data:", "chrome:"];
            !url.starts_with(&own) && !inner.iter().any(|scheme| url.starts_with(scheme))
        };
        if let Some(url) = url.as_str().filter(is_other) {
            faults.push(format!("a request to {url}"));
        }
    }
    if visitor.run("return 'hit' in window", json!([])).await == json!(true) {
        faults.push("a label became markup".to_owned());
    }
    faults
}

async fn too_wide(visitor: &Visitor, width: u32) -> Option<String> {
    let actual = "return document.documentElement.scrollWidth";
    let actual = visitor.run(actual, json!([])).await.as_u64().unwrap();
    (actual > u64::from(width)).then(|| format!("the page is {actual} pixels wide"))
}

/// Returns the places of the browser that have `secret`.
pub(crate) async fn places(visitor: &Visitor, secret: &str) -> Vec<String> {
    const LOOK: &str = "
        const secret = arguments[0], found = [];
        const look = (place, text) => { if (String(text).includes(secret)) found.push(place); };
        look('document', document.documentElement.outerHTML);
        document.querySelectorAll('input, textarea').forEach((field) => look('field', field.value));
        look('address', location.href);
        look('history state', JSON.stringify(history.state));
        look('window name', window.name);
        if (location.protocol.startsWith('http') && origin !== 'null') {
          look('cookie of scripts', document.cookie);
          look('local storage', JSON.stringify({ ...localStorage }));
          look('session storage', JSON.stringify({ ...sessionStorage }));
          look('databases', JSON.stringify(await indexedDB.databases()));
          for (const name of await caches.keys()) {
            const cache = await caches.open(name);
            for (const request of await cache.keys()) {
              look('cache', request.url + await (await cache.match(request)).text());
            }
          }
        }
        return found;";
    let mut places = texts(&visitor.run(LOOK, json!([secret])).await);
    for (place, command) in [
        ("history", "Page.getNavigationHistory"),
        ("cookie", "Network.getAllCookies"),
    ] {
        let answer = visitor.chrome(command, json!({})).await;
        if answer.to_string().contains(secret) {
            places.push(place.to_owned());
        }
    }
    places
}

/// Returns the files that contain `secret`, as UTF-8 or as the UTF-16 in which Chromium keeps forms.
pub(crate) fn files_with(folder: &Path, secret: &str) -> Vec<PathBuf> {
    let wide: Vec<u8> = secret.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            // A socket or a link to nothing cannot be read.
            let content = fs::read(&path).unwrap_or_default();
            let has = |wanted: &[u8]| content.windows(wanted.len()).any(|window| window == wanted);
            if has(secret.as_bytes()) || has(&wide) {
                found.push(path);
            }
        }
    }
    found
}

fn texts(list: &Value) -> Vec<String> {
    let texts = list.as_array().unwrap().iter();
    texts
        .map(|text| text.as_str().unwrap().to_owned())
        .collect()
}
