//! Chromium, driven by chromedriver. Speaks the W3C's WebDriver protocol and Chrome's additions to it over the
//! tests' own HTTP client: the dozen commands that tests need are smaller than a client library, which
//! brings a second HTTP stack.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use apikey_test_support::http::Client;
use apikey_test_support::skip::Requirement;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::Mutex;

/// The programs that have to be there.
const PROGRAMS: [Requirement; 2] = [
    Requirement {
        program: "chromium",
        remedy: "on Debian, `apt-get install chromium`",
    },
    Requirement {
        program: "chromedriver",
        remedy: "on Debian, `apt-get install chromium-driver`",
    },
];

/// Settings of a browser that talks to the server of its test only.
const SETTINGS: [&str; 9] = [
    "--headless=new",
    "--no-sandbox",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--window-size=1280,900",
    "--hide-scrollbars",
];

/// The name under which the protocol refers to an element (WebDriver, section 11).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser with a profile of its own. The browser and chromedriver end with the value, and with the process of the
/// test if that ends first.
pub(crate) struct Browser {
    client: Mutex<Client>,
    session: String,
    profile: TempDir,
    /// Kills both programs when its input is closed.
    undertaker: Child,
    driver: Child,
    _output: BufReader<ChildStdout>,
}

/// What a command was answered with.
type Answer = Result<Value, Value>;

/// An element of a page.
#[derive(Debug, Clone)]
pub(crate) struct Element(pub(crate) Value);

impl Browser {
    /// Starts a browser. Returns `None` if a program is missing, and records that the running test is skipped.
    pub(crate) async fn start() -> Option<Self> {
        let test = std::thread::current();
        for requirement in &PROGRAMS {
            if !is_installed(requirement.program) {
                requirement.is_missing(test.name().unwrap_or("a test"));
                return None;
            }
        }
        let profile = tempfile::tempdir().unwrap();
        // The browser joins the driver's process group.
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let undertaker = undertaker(driver.id(), profile.path());
        let mut output = BufReader::new(driver.stdout.take().unwrap());
        let port = port(&mut output);
        let mut browser = Self {
            client: Mutex::new(Client::connect(([127, 0, 0, 1], port).into()).await),
            session: String::new(),
            profile,
            undertaker,
            driver,
            _output: output,
        };
        let folder = format!("--user-data-dir={}", browser.profile.path().display());
        let settings: Vec<&str> = SETTINGS.into_iter().chain([&*folder]).collect();
        let wanted = json!({
            "goog:chromeOptions": { "args": settings },
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
        });
        let answer = browser
            .send(
                "POST",
                "/session",
                json!({ "capabilities": { "alwaysMatch": wanted } }),
            )
            .await
            .unwrap();
        browser.session = format!("/session/{}", answer["sessionId"].as_str().unwrap());
        Some(browser)
    }

    /// Closes the browser as a person does; returns what it left on the disk.
    pub(crate) async fn close(mut self) -> TempDir {
        let path = self.session.clone();
        self.send("DELETE", &path, Value::Null).await.unwrap();
        let undertaker = self.undertaker.stdin.as_mut().unwrap();
        undertaker.write_all(b"keep\n").unwrap();
        std::mem::replace(&mut self.profile, tempfile::tempdir().unwrap())
    }

    /// Sends a command (`GET` if `body` is null).
    async fn send(&self, method: &str, path: &str, body: Value) -> Answer {
        let body = match body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let mut client = self.client.lock().await;
        client.send(head + &body).await;
        let answer = client.answer().await;
        let mut content: Value = serde_json::from_slice(&answer.body).unwrap();
        let value = content["value"].take();
        match answer.status {
            200 => Ok(value),
            _ => Err(value),
        }
    }

    /// Sends a command of the session.
    async fn command(&self, path: &str, body: Value) -> Answer {
        let path = format!("{}{path}", self.session);
        self.send("POST", &path, body).await
    }

    async fn must(&self, path: &str, body: Value) -> Value {
        let answer = self.command(path, body).await;
        answer.unwrap_or_else(|error| panic!("{path}: {}: {}", error["error"], error["message"]))
    }

    /// Opens a URL, and waits until the page is loaded.
    pub(crate) async fn open(&self, url: &str) {
        self.must("/url", json!({ "url": url })).await;
    }

    pub(crate) async fn back(&self) {
        self.must("/back", json!({})).await;
    }

    pub(crate) async fn forward(&self) {
        self.must("/forward", json!({})).await;
    }

    pub(crate) async fn reload(&self) {
        self.must("/refresh", json!({})).await;
    }

    /// Runs the body of a function in the page, past its policy for scripts; returns what it returns, and the value of
    /// a promise.
    pub(crate) async fn run(&self, script: &str, arguments: Value) -> Value {
        let body = json!({ "script": script, "args": arguments });
        self.must("/execute/sync", body).await
    }

    /// Runs a function that returns an element or null.
    pub(crate) async fn find(&self, script: &str, arguments: Value) -> Option<Element> {
        let found = self.run(script, arguments).await;
        found.get(ELEMENT).is_some().then_some(Element(found))
    }

    /// Sends a command of Chrome's own protocol.
    pub(crate) async fn chrome(&self, command: &str, parameters: Value) -> Value {
        let body = json!({ "cmd": command, "params": parameters });
        self.must("/goog/cdp/execute", body).await
    }

    /// Clicks the middle of an element, if nothing covers it.
    pub(crate) async fn click_on(&self, element: &Element) {
        let id = element.id();
        self.must(&format!("/element/{id}/click"), json!({})).await;
    }

    /// Empties a field, and types a text into it.
    pub(crate) async fn type_into(&self, element: &Element, text: &str) {
        let id = element.id();
        let path = format!("/element/{id}");
        self.must(&format!("{path}/clear"), json!({})).await;
        self.must(&format!("{path}/value"), json!({ "text": text }))
            .await;
    }

    /// Presses and releases keys, one after the other.
    pub(crate) async fn press(&self, keys: &str) {
        let key = |key: char| {
            ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key.to_string() }))
        };
        let actions: Vec<Value> = keys.chars().flat_map(key).collect();
        let keyboard = json!({ "type": "key", "id": "keyboard", "actions": actions });
        self.must("/actions", json!({ "actions": [keyboard] }))
            .await;
    }

    /// Returns what was written into a log (`browser` or `performance`) since the last call.
    pub(crate) async fn log(&self, kind: &str) -> Vec<Value> {
        let log = self.must("/se/log", json!({ "type": kind })).await;
        log.as_array().unwrap().clone()
    }

    /// Returns a PNG of the whole page.
    pub(crate) async fn picture(&self) -> Vec<u8> {
        let parameters = json!({ "format": "png", "captureBeyondViewport": true });
        let picture = self.chrome("Page.captureScreenshot", parameters).await;
        base64(picture["data"].as_str().unwrap())
    }
}

impl Element {
    fn id(&self) -> &str {
        self.0[ELEMENT].as_str().unwrap()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        drop(self.undertaker.stdin.take());
        let _ = self.undertaker.wait();
        let _ = self.driver.wait();
    }
}

fn is_installed(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Reads the port that chromedriver took.
fn port(output: &mut impl BufRead) -> u16 {
    let mut said = String::new();
    loop {
        let at = said.len();
        assert_ne!(output.read_line(&mut said).unwrap(), 0, "it ended: {said}");
        if let Some((_, port)) = said[at..].split_once("successfully on port ") {
            return port.trim().trim_end_matches('.').parse().unwrap();
        }
    }
}

/// Starts a process that waits until its input is closed, which the end of this process does too. Then it kills a
/// process group and removes a folder, unless it has read a line.
fn undertaker(group: u32, folder: &Path) -> Child {
    const WAIT: &str = r#"
        trap '' INT TERM HUP
        read -r keep
        kill -s KILL -- "-$1" 2>/dev/null
        [ "$keep" ] || rm -rf "$2"
    "#;
    Command::new("sh")
        .args(["-c", WAIT, "undertaker", &group.to_string()])
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Decodes base64 with `+` and `/` (RFC 4648 section 4).
fn base64(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0);
    for symbol in text.bytes() {
        let value = match symbol {
            b'A'..=b'Z' => symbol - b'A',
            b'a'..=b'z' => symbol - b'a' + 26,
            b'0'..=b'9' => symbol - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => break,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}
