//! `Vary`: the headers of the request that a guarded response depends on (RFC 9110 section 12.5.5).

use actix_web::http::header::{self, HeaderMap, HeaderValue};

use crate::manager::ApiKeyManager;
use crate::policy::{KeyLocation, Policy};

/// Where a guard looked for the key. Its check resolves the configured location: after the request went
/// further in, another manager may be nearer.
#[derive(Clone)]
pub(super) enum GuardLocations {
    OfRoute(&'static [KeyLocation<'static>]),
    /// The configured location, in one of [`USUAL`]: no request then increments a count that all requests share.
    Usual(&'static str),
    /// The configured location, in another header.
    Configured(ApiKeyManager),
}

/// The headers that most configurations name.
const USUAL: [&str; 4] = [
    AUTHORIZATION,
    "x-api-key",
    "cookie",
    "sec-websocket-protocol",
];

const AUTHORIZATION: &str = "authorization";

impl GuardLocations {
    /// Returns the locations of a guard with this policy. Without a manager, the configured location is the
    /// default.
    pub(super) fn of(policy: &Policy, manager: Option<&ApiKeyManager>) -> Self {
        if let Some(locations) = policy.locations {
            return Self::OfRoute(locations);
        }
        let Some(manager) = manager else {
            return Self::Usual(AUTHORIZATION);
        };
        let location = manager.config().location();
        let Some(header) = location.header() else {
            return Self::OfRoute(&[]);
        };
        match USUAL.into_iter().find(|usual| *usual == header) {
            Some(usual) => Self::Usual(usual),
            None => Self::Configured(manager.clone()),
        }
    }

    /// Returns whether another guard is known to look at the same locations.
    fn are_those_of(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::OfRoute(own), Self::OfRoute(others)) => own == others,
            (Self::Usual(own), Self::Usual(other)) => own == other,
            (Self::Configured(own), Self::Configured(other)) => {
                own.config().location() == other.config().location()
            }
            _ => false,
        }
    }

    /// Adds the names of the headers to `Vary`.
    pub(super) fn vary(&self, headers: &mut HeaderMap) {
        match self {
            Self::OfRoute(locations) => add(headers, locations),
            Self::Usual(name) => add(headers, &[KeyLocation::Header { name, scheme: None }]),
            Self::Configured(manager) => add(headers, &[manager.config().location()]),
        }
    }
}

/// The guards that a request passed.
#[derive(Clone)]
pub(super) struct PassedGuards {
    last: GuardLocations,
    /// Those that look at other locations than the last.
    earlier: Vec<GuardLocations>,
}

impl PassedGuards {
    /// Adds a guard to those that the request passed before.
    pub(super) fn with(earlier: Option<&Self>, last: GuardLocations) -> Self {
        let Some(earlier) = earlier else {
            return Self {
                last,
                earlier: Vec::new(),
            };
        };
        let others = earlier.iter().filter(|other| !other.are_those_of(&last));
        let earlier = others.cloned().collect();
        Self { last, earlier }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &GuardLocations> {
        std::iter::once(&self.last).chain(&self.earlier)
    }
}

/// Adds the headers that are read at `locations` to `Vary`, if they are not in it. What is in it
/// stays.
pub(super) fn add(headers: &mut HeaderMap, locations: &[KeyLocation<'_>]) {
    let names = locations.iter().filter_map(KeyLocation::header);
    for name in names {
        if !lists(headers, name) {
            append(headers, name);
        }
    }
}

/// Adds the names in another `Vary`.
pub(super) fn add_all<'v>(headers: &mut HeaderMap, values: impl Iterator<Item = &'v HeaderValue>) {
    for name in values.flat_map(names) {
        if !lists(headers, name) {
            append(headers, name);
        }
    }
}

fn names(value: &HeaderValue) -> impl Iterator<Item = &str> {
    let text = value.to_str().unwrap_or_default();
    text.split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
}

fn lists(headers: &HeaderMap, name: &str) -> bool {
    headers
        .get_all(header::VARY)
        .flat_map(names)
        .any(|known| known == "*" || known.eq_ignore_ascii_case(name))
}

/// Adds a name, on one line: middleware that adds its own may read the first line only.
fn append(headers: &mut HeaderMap, name: &str) {
    if name == header::AUTHORIZATION.as_str() && !headers.contains_key(header::VARY) {
        // The usual case does not allocate.
        let value = HeaderValue::from_static("authorization");
        return drop(headers.insert(header::VARY, value));
    }
    let mut line: Vec<&str> = headers.get_all(header::VARY).flat_map(names).collect();
    line.push(name);
    if let Ok(value) = HeaderValue::try_from(line.join(", ")) {
        headers.insert(header::VARY, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_added_once_and_what_was_there_stays() {
        let all = [
            KeyLocation::BEARER,
            KeyLocation::Basic,
            KeyLocation::Cookie { name: "k" },
            KeyLocation::Query { name: "k" },
        ];
        for (before, after) in [
            (&[][..], "authorization, cookie"),
            (&["Origin"], "Origin, authorization, cookie"),
            (
                &["Origin, Cookie", "Accept"],
                "Origin, Cookie, Accept, authorization",
            ),
            (&["COOKIE,AUTHORIZATION"], "COOKIE,AUTHORIZATION"),
            (&["*"], "*"),
        ] {
            let mut headers = HeaderMap::new();
            for line in before {
                headers.append(header::VARY, HeaderValue::from_static(line));
            }
            add(&mut headers, &all);
            let lines: Vec<_> = headers.get_all(header::VARY).collect();
            assert_eq!(lines, [after]);
        }
        let mut headers = HeaderMap::new();
        add(&mut headers, &[KeyLocation::Query { name: "k" }]);
        assert!(headers.is_empty());
    }
}
