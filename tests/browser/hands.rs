//! What a person does in a browser: finds controls by their words, clicks, types, reads.

use std::ops::Deref;

use apikey_test_support::{PATIENCE, within};
use serde_json::{Value, json};

use crate::browser::{Browser, Element};

/// Keys of the keyboard (WebDriver, section 17.4.2).
pub(crate) const TAB: &str = "\u{E004}";
pub(crate) const ENTER: &str = "\u{E007}";
pub(crate) const BACKSPACE: &str = "\u{E003}";
pub(crate) const DELETE: &str = "\u{E017}";
pub(crate) const SPACE: &str = " ";

/// Functions of the scripts below: the words of an element; what has been rendered.
const WORDS: &str = "
    const words = (element) => (element.innerText || element.value || '').replace(/\\s+/g, ' ').trim();
    const seen = (element) => element.checkVisibility() && !element.disabled;
    const first = (elements, wanted) => {
        elements = elements.filter(seen);
        return elements.find((e) => words(e) === wanted) || elements.find((e) => words(e).startsWith(wanted)) || null;
    };
";

/// Somebody who looks at a page, and uses it.
pub(crate) struct Visitor {
    browser: Browser,
}

impl Deref for Visitor {
    type Target = Browser;

    fn deref(&self) -> &Browser {
        &self.browser
    }
}

impl Visitor {
    /// Returns `None` if there is no browser; the running test is then recorded as skipped.
    pub(crate) async fn start() -> Option<Self> {
        let browser = Browser::start().await?;
        Some(Self { browser })
    }

    /// Leaves, and returns the browser.
    pub(crate) fn into_browser(self) -> Browser {
        self.browser
    }

    /// Returns the text of the page, as a person sees it.
    pub(crate) async fn text(&self) -> String {
        let text = self.run("return document.body.innerText", json!([])).await;
        text.as_str().unwrap().to_owned()
    }

    pub(crate) async fn url(&self) -> String {
        let url = self.run("return location.href", json!([])).await;
        url.as_str().unwrap().to_owned()
    }

    /// Waits until the page, or the next one, says something.
    pub(crate) async fn sees(&self, text: &str) {
        let seen = async || self.text().await.contains(text);
        if within(PATIENCE, seen).await.is_none() {
            self.is_missing(text).await;
        }
    }

    /// Loads the page again until it says something.
    pub(crate) async fn sees_soon(&self, text: &str) {
        let seen = async || {
            self.reload().await;
            self.text().await.contains(text)
        };
        if within(PATIENCE, seen).await.is_none() {
            self.is_missing(text).await;
        }
    }

    /// Waits until a script finds an element: the page may not be there yet.
    async fn find_soon(&self, script: &str, wanted: &str) -> Element {
        let mut found = None;
        let find = async || {
            found = self.find(script, json!([wanted])).await;
            found.is_some()
        };
        within(PATIENCE, find).await;
        match found {
            Some(element) => element,
            None => self.is_missing(wanted).await,
        }
    }

    /// Clicks the link, button or label with these words, or the first that begins with them.
    pub(crate) async fn click(&self, wanted: &str) {
        let script = format!(
            "{WORDS} return first([...document.querySelectorAll('a, button, summary')], arguments[0])
                || first([...document.querySelectorAll('label')], arguments[0])"
        );
        let element = self.find_soon(&script, wanted).await;
        self.click_on(&element).await;
    }

    /// Finds the control whose label begins with these words.
    pub(crate) async fn control(&self, label: &str) -> Element {
        let script = format!(
            "{WORDS} const labels = [...document.querySelectorAll('label')].filter((label) => label.control);
             return first(labels, arguments[0])?.control"
        );
        self.find_soon(&script, label).await
    }

    async fn is_missing(&self, wanted: &str) -> ! {
        panic!(
            "{wanted:?} is not on {}: {}",
            self.url().await,
            self.text().await
        )
    }

    /// Types a text into the field with this label.
    pub(crate) async fn fill(&self, label: &str, text: &str) {
        let field = self.control(label).await;
        self.type_into(&field, text).await;
    }

    /// Ticks a box or chooses one of several.
    pub(crate) async fn tick(&self, label: &str) {
        let control = self.control(label).await;
        self.click_on(&control).await;
    }

    /// Returns the value of the first element that a selector finds; `None` if there is none.
    pub(crate) async fn value(&self, selector: &str) -> Option<String> {
        let script = "return document.querySelector(arguments[0])?.value";
        let value = self.run(script, json!([selector])).await;
        value.as_str().map(str::to_owned)
    }

    /// Waits for a page that shows a secret; returns it.
    pub(crate) async fn secret(&self) -> String {
        let mut secret = String::new();
        let shown = async || {
            secret = self.value("[data-secret]").await.unwrap_or_default();
            !secret.is_empty()
        };
        if within(PATIENCE, shown).await.is_none() {
            self.is_missing("a secret").await;
        }
        secret
    }

    /// Describes the element with the focus, such as `a New key`.
    pub(crate) async fn focus(&self) -> String {
        let script = format!(
            "{WORDS} const e = document.activeElement;
             const label = e.labels?.length ? words(e.labels[0]) : words(e);
             return e.tagName.toLowerCase() + ' ' + label.slice(0, 40)"
        );
        let focus = self.run(&script, json!([])).await;
        focus.as_str().unwrap().to_owned()
    }

    /// Sets the size of the window and the preferred colours.
    pub(crate) async fn look(&self, width: u32, dark: bool) {
        let size =
            json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 640 });
        self.chrome("Emulation.setDeviceMetricsOverride", size)
            .await;
        let scheme = if dark { "dark" } else { "light" };
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.chrome(
            "Emulation.setEmulatedMedia",
            json!({ "features": features }),
        )
        .await;
    }

    /// Permits pages of an origin to read and to write the clipboard, which a person has to be asked for.
    pub(crate) async fn permit_clipboard(&self, origin: &str) {
        let permissions = ["clipboardReadWrite", "clipboardSanitizedWrite"];
        let parameters = json!({ "origin": origin, "permissions": permissions });
        self.chrome("Browser.grantPermissions", parameters).await;
    }

    /// Forbids scripts of pages, or permits them again.
    pub(crate) async fn forbid_scripts(&self, forbid: bool) {
        let value: Value = json!({ "value": forbid });
        self.chrome("Emulation.setScriptExecutionDisabled", value)
            .await;
    }
}
