//! What an audit found.

use std::fmt;

/// A route that is open, or that the audit could not check.
#[derive(Clone, PartialEq, Eq)]
pub struct OpenRoute {
    name: String,
    problem: String,
}

impl OpenRoute {
    pub(super) fn new(name: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            problem: problem.into(),
        }
    }

    /// Returns the name for [`RouteAudit::open`](super::RouteAudit::open): `GET /orders/{id}`, or the
    /// pattern alone if the route is open for every method.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns what was wrong, such as `answered 200`.
    #[must_use]
    pub fn problem(&self) -> &str {
        &self.problem
    }
}

impl fmt::Debug for OpenRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.problem)
    }
}

/// The routes that are open without being named, or that an audit could not check. `Debug` prints the
/// same list as `Display`, so that `unwrap` in a test shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct OpenRoutes(Vec<OpenRoute>);

impl OpenRoutes {
    pub(super) fn new(routes: Vec<OpenRoute>) -> Self {
        Self(routes)
    }

    /// Returns the routes, in the order of their patterns.
    #[must_use]
    pub fn routes(&self) -> &[OpenRoute] {
        &self.0
    }
}

impl fmt::Display for OpenRoutes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "these routes are open without a key, or could not be checked:"
        )?;
        for route in &self.0 {
            writeln!(f, "  {route:?}")?;
        }
        let example = self.0.first().map_or("", |route| &route.name);
        write!(
            f,
            "Guard each with `#[api_key_required]` or `RequireApiKey`, or name it, as in \
             `audit_routes(&app).open([{example:?}])`"
        )
    }
}

impl fmt::Debug for OpenRoutes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for OpenRoutes {}
