//! The routes that a middleware lets pass without a check.

use std::fmt;
use std::sync::Arc;

use actix_web::dev::{ResourceDef, ServiceRequest};

use crate::policy::allows_method;

/// Routes that pass without a check; by default, none do.
#[derive(Clone, Default)]
pub(super) struct OpenPaths(Arc<[OpenPattern]>);

#[derive(Clone)]
struct OpenPattern {
    text: Box<str>,
    /// The method; `None` for all.
    method: Option<Box<str>>,
    path: ResourceDef,
}

impl OpenPaths {
    pub(super) fn with<I>(self, routes: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let known = self.0.iter().cloned();
        let added = routes.into_iter();
        Self(
            known
                .chain(added.map(|route| OpenPattern::of(route.as_ref())))
                .collect(),
        )
    }

    /// Returns whether a request passes without a check.
    pub(super) fn contain(&self, request: &ServiceRequest) -> bool {
        if self.0.is_empty() {
            return false;
        }
        // The path as routes are matched against it: decoded, except for `%25`, `%2F` and `%2B`.
        let path = request.match_info().as_str();
        is_plain(path) && self.open_plain(path, request.method().as_str())
    }

    #[cfg(feature = "audit-routes")]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the patterns, without methods.
    #[cfg(feature = "audit-routes")]
    pub(super) fn patterns(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|open| open.path.pattern())
    }

    fn open_plain(&self, path: &str, method: &str) -> bool {
        let matches = |path: &str| self.0.iter().any(|open| open.matches(path, method));
        let without_slash = path.strip_suffix('/').unwrap_or_default();
        // Middleware inside may trim the slash, and then another route is meant.
        matches(path) && (without_slash.is_empty() || matches(without_slash))
    }
}

impl OpenPattern {
    fn of(text: &str) -> Self {
        let (method, pattern) = split_method(text);
        // As actix-web does for routes.
        let slash = if pattern.starts_with('/') { "" } else { "/" };
        Self {
            text: text.into(),
            method: method.map(Into::into),
            path: ResourceDef::new(format!("{slash}{pattern}")),
        }
    }

    fn matches(&self, path: &str, method: &str) -> bool {
        let allowed = self.method.as_deref();
        let is_method = allowed.is_none_or(|one| allows_method([one], Some(method)));
        is_method && self.path.is_match(path)
    }
}

impl fmt::Debug for OpenPaths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts = self.0.iter().map(|open| &open.text);
        f.debug_list().entries(texts).finish()
    }
}

/// Splits the name of a route into its method, if it has one, and its pattern: `GET /orders/{id}`.
pub(super) fn split_method(text: &str) -> (Option<&str>, &str) {
    let is_method =
        |text: &str| !text.is_empty() && !text.contains(|letter: char| "/{".contains(letter));
    match text.split_once(' ') {
        Some((method, pattern)) if is_method(method) => (Some(method), pattern.trim_start()),
        _ => (None, text),
    }
}

/// Returns whether a path has one reading only, for routes, for middleware and for handlers.
fn is_plain(path: &str) -> bool {
    let Some(segments) = path.strip_prefix('/') else {
        return false;
    };
    let is_dots = |segment: &str| matches!(segment.split(';').next(), Some("." | ".."));
    let mut left = segments.split('/').peekable();
    while let Some(segment) = left.next() {
        let is_last = left.peek().is_none();
        if (segment.is_empty() && !is_last) || is_dots(segment) {
            return false;
        }
    }
    // Only an encoded `+` may be left.
    let is_plus = |code: &str| {
        code.get(..2)
            .is_some_and(|code| code.eq_ignore_ascii_case("2B"))
    };
    !path.contains('\\') && path.split('%').skip(1).all(is_plus)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opens(patterns: &[&str], method: &str, path: &str) -> bool {
        let open = OpenPaths::default().with(patterns);
        is_plain(path) && open.open_plain(path, method)
    }

    #[test]
    fn a_pattern_opens_what_it_matches() {
        let patterns = ["/", "/health", "GET /docs/{tail}*", "/docs", "files/{name}"];
        for path in [
            "/",
            "/health",
            "/docs/a",
            "/docs/a/b.html",
            "/docs/",
            "/files/x%2By",
        ] {
            assert!(opens(&patterns, "GET", path), "{path}");
        }
        assert!(opens(&patterns, "HEAD", "/docs/a"));
        for (method, path) in [
            ("POST", "/docs/a"),
            ("GET", "/healthy"),
            ("GET", "/health/"),
            ("GET", "/Health"),
            ("GET", "/health/x"),
            ("GET", "/files/a/b"),
            ("GET", "/files/"),
            ("GET", ""),
            ("GET", "*"),
            ("GET", "health"),
        ] {
            assert!(!opens(&patterns, method, path), "{method} {path}");
        }
        assert!(!opens(&[], "GET", "/"));
    }

    #[test]
    fn another_spelling_of_a_path_is_not_open() {
        for path in [
            "//admin",
            "/docs//a",
            "/docs/../admin",
            "/docs/./a",
            "/..",
            "/docs/..;/admin",
            "/docs/..;x=1/admin",
            "/docs/..\\admin",
            "/docs\\..\\admin",
            "/docs/..%2Fadmin",
            "/docs/..%2fadmin",
            "/docs/%252e%252e/admin",
            "/docs/%",
            "/docs/%2",
            "/docs/a%zz",
            "/docs/%2B%2F",
        ] {
            assert!(!opens(&["/{tail}*", "/"], "GET", path), "{path}");
        }
        // A slash that middleware trims would lead to `/admin`, which this pattern does not match.
        assert!(!opens(&["/{area}/{tail}*"], "GET", "/admin/"));
        assert!(opens(&["/{area}/{tail}*"], "GET", "/admin/x"));
        assert!(opens(&["/{area}/{tail}*"], "GET", "/...x/..a"));
    }

    #[test]
    fn a_name_has_a_method_or_not() {
        assert_eq!(split_method("/a b"), (None, "/a b"));
        assert_eq!(split_method("GET /a b"), (Some("GET"), "/a b"));
        assert_eq!(split_method("M-SEARCH  {a}"), (Some("M-SEARCH"), "{a}"));
        assert_eq!(split_method("{a:x y}"), (None, "{a:x y}"));
        assert_eq!(split_method(""), (None, ""));
    }
}
