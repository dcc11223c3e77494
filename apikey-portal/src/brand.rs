//! The look of the portal: name, logo, home link, an additional style sheet, texts.

/// What pages show of the application that the portal belongs to.
///
/// All of it is text: it is escaped, and markup in it is shown as it is written.
///
/// ```
/// use apikey_portal::Brand;
///
/// let brand = Brand::new("Acme")
///     .with_logo("/static/acme.svg")
///     .with_home("https://acme.example/")
///     .with_footer("Questions? api@acme.example");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Brand {
    /// The name in the page's head and title.
    pub name: String,
    /// The path of the logo, an image on the same origin.
    pub logo: Option<String>,
    /// The target of the name: a path on the same origin, or an `http` or `https` URL.
    pub home: Option<String>,
    /// The path of a style sheet on the same origin, which follows the portal's own.
    pub style_sheet: Option<String>,
    /// A text below the list of keys, such as the terms of use.
    pub list_notice: Option<String>,
    /// A text at the end of each page, such as an address for questions.
    pub footer: Option<String>,
}

impl Brand {
    /// Creates a brand with this name.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            logo: None,
            home: None,
            style_sheet: None,
            list_notice: None,
            footer: None,
        }
    }

    /// Sets the path of the logo, such as `/static/logo.svg`.
    #[must_use]
    pub fn with_logo(mut self, path: impl Into<String>) -> Self {
        self.logo = Some(path.into());
        self
    }

    /// Sets the target of the name.
    #[must_use]
    pub fn with_home(mut self, url: impl Into<String>) -> Self {
        self.home = Some(url.into());
        self
    }

    /// Sets the path of a style sheet that follows the portal's own, such as `/static/portal.css`. Colours are custom
    /// properties of `:root`, for example `--accent` and `--on-accent`.
    #[must_use]
    pub fn with_style_sheet(mut self, path: impl Into<String>) -> Self {
        self.style_sheet = Some(path.into());
        self
    }

    /// Sets a text below the list of keys.
    #[must_use]
    pub fn with_list_notice(mut self, text: impl Into<String>) -> Self {
        self.list_notice = Some(text.into());
        self
    }

    /// Sets a text at the end of each page.
    #[must_use]
    pub fn with_footer(mut self, text: impl Into<String>) -> Self {
        self.footer = Some(text.into());
        self
    }

    /// Returns what is wrong with it, and what to write.
    pub(crate) fn fault(&self) -> Option<String> {
        let paths = [("logo", &self.logo), ("style sheet", &self.style_sheet)];
        for (name, path) in paths {
            if let Some(path) = path.as_deref().filter(|path| !is_own_path(path)) {
                return Some(format!(
                    "the {name} `{}` is not a path on the same origin; write one such as `/static/file`",
                    path.escape_debug()
                ));
            }
        }
        match self.home.as_deref() {
            Some(home) if !is_own_path(home) && !is_web_url(home) => Some(format!(
                "the home link `{}` is neither a path on the same origin nor an http or https URL",
                home.escape_debug()
            )),
            _ => None,
        }
    }
}

impl Default for Brand {
    /// Returns a brand with the name `API keys`.
    fn default() -> Self {
        Self::new("API keys")
    }
}

/// Returns whether a reference stays on its origin, in each browser: one leading `/`, visible ASCII characters alone,
/// and not a backslash. Browsers read a backslash as `/`, and remove control characters.
///
/// The application's page for signing in checks its parameter `next` by it (see [`Portal::sign_in`]), so that a link
/// to it does not lead people to another site.
///
/// ```
/// use apikey_portal::is_own_path;
///
/// assert!(is_own_path("/account/api-keys?state=active"));
/// assert!(!is_own_path("//evil.example") && !is_own_path("/\\evil.example") && !is_own_path("https://evil.example"));
/// ```
///
/// [`Portal::sign_in`]: crate::Portal::sign_in
#[must_use]
pub fn is_own_path(path: &str) -> bool {
    path.starts_with('/') && !path.starts_with("//") && is_plain(path)
}

fn is_web_url(url: &str) -> bool {
    let has_host = |rest: &str| !rest.is_empty() && !rest.starts_with('/');
    let rest = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"));
    rest.is_some_and(has_host) && is_plain(url)
}

fn is_plain(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logo_and_a_style_sheet_stay_on_the_origin() {
        for path in ["/static/logo.svg", "/a?b=c"] {
            let brand = Brand::new("a").with_logo(path).with_style_sheet(path);
            assert_eq!(brand.fault(), None, "{path}");
        }
        for path in [
            "",
            "logo.svg",
            "//evil.example/x",
            "/\\evil.example",
            "https://evil.example/x",
            "/a\tb",
            "/a b",
            "javascript:alert(1)",
            "data:text/css,x",
            "/\u{e9}",
        ] {
            assert!(Brand::new("a").with_logo(path).fault().is_some(), "{path}");
            assert!(
                Brand::new("a").with_style_sheet(path).fault().is_some(),
                "{path}"
            );
        }
    }

    #[test]
    fn the_home_link_may_leave_the_origin_by_http_only() {
        for home in ["/", "https://acme.example/", "http://acme.example"] {
            assert_eq!(Brand::new("a").with_home(home).fault(), None, "{home}");
        }
        for home in [
            "javascript:alert(1)",
            "https://",
            "https:///x",
            "//evil.example",
            "ftp://a",
            "https://a\nb",
        ] {
            assert!(Brand::new("a").with_home(home).fault().is_some(), "{home}");
        }
    }
}
