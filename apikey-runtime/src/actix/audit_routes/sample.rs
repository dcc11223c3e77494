//! Paths that match a pattern.

use std::fmt::Write as _;

use actix_web::dev::{ResourceDef, Url};
use regex_syntax::hir::{Class, Hir, HirKind};

/// Values of a parameter without a pattern of its own. Several, since a route of another pattern may
/// take some of them.
const VALUES: [&str; 6] = ["audit-routes", "7", "a", "Zz_9", "x.y", "~-~"];

/// Characters that a generated value prefers.
const PREFERRED: &str = "a7Z0bx9Q1_.-~";

/// The largest number of repetitions in a generated value.
const MAX_REPETITIONS: u32 = 1_000;

/// Returns paths that match a pattern, percent-encoded. Empty if no generated path does.
pub(super) fn paths(pattern: &str) -> Vec<String> {
    let Some(parts) = parts(pattern) else {
        return Vec::new();
    };
    if parts.iter().all(|part| matches!(part, Part::Text(_))) {
        return vec![encode(pattern)];
    }
    let definition = ResourceDef::new(pattern);
    let mut paths = Vec::new();
    for style in 0..VALUES.len() {
        let Some(path) = fill(&parts, style) else {
            continue;
        };
        if definition.is_match(&path) && !paths.contains(&path) {
            paths.push(path);
        }
    }
    paths.iter().map(|path| encode(path)).collect()
}

/// A part of a pattern.
enum Part<'p> {
    Text(&'p str),
    /// A parameter, also one that takes the rest of the path.
    Any,
    /// A parameter with a regular expression.
    Expression(Hir),
}

fn parts(pattern: &str) -> Option<Vec<Part<'_>>> {
    let (mut parts, mut left) = (Vec::new(), pattern);
    while let Some((before, rest)) = left.split_once('{') {
        let mut open = 1_usize;
        let end = rest.find(|letter| {
            open = match letter {
                '{' => open + 1,
                '}' => open - 1,
                _ => open,
            };
            open == 0
        })?;
        parts.push(Part::Text(before));
        parts.push(match rest[..end].split_once(':') {
            // `.` matches a line break there, and `^` and `$` do not.
            Some((_, expression)) => {
                let mut parser = regex_syntax::ParserBuilder::new();
                let parsed = parser.dot_matches_new_line(true).build().parse(expression);
                Part::Expression(parsed.ok()?)
            }
            None => Part::Any,
        });
        left = &rest[end + 1..];
        left = if left == "*" { "" } else { left };
    }
    parts.push(Part::Text(left));
    Some(parts)
}

fn fill(parts: &[Part<'_>], style: usize) -> Option<String> {
    let mut path = String::new();
    for part in parts {
        match part {
            Part::Text(text) => path.push_str(text),
            Part::Any => path.push_str(VALUES[style % VALUES.len()]),
            Part::Expression(expression) => generate(expression, style, &mut path)?,
        }
    }
    Some(path)
}

/// Appends a text that an expression matches. Conditions on what stands around it are left to the
/// match of the whole path.
fn generate(expression: &Hir, style: usize, text: &mut String) -> Option<()> {
    match expression.kind() {
        HirKind::Empty | HirKind::Look(_) => {}
        HirKind::Literal(literal) => text.push_str(std::str::from_utf8(&literal.0).ok()?),
        HirKind::Class(class) => text.push(member(class, style)?),
        HirKind::Repetition(repetition) => {
            let most = repetition.max.unwrap_or(u32::MAX);
            let more = u32::try_from(style).unwrap_or_default();
            let times = repetition.min.max(1).saturating_add(more / 2).min(most);
            if times > MAX_REPETITIONS {
                return None;
            }
            for _ in 0..times {
                generate(&repetition.sub, style, text)?;
            }
        }
        HirKind::Capture(capture) => generate(&capture.sub, style, text)?,
        HirKind::Concat(all) => all.iter().try_for_each(|one| generate(one, style, text))?,
        HirKind::Alternation(all) => generate(all.get(style % all.len())?, style, text)?,
    }
    Some(())
}

/// Returns a character of a class, another one for each style if the class has several.
fn member(class: &Class, style: usize) -> Option<char> {
    let ranges: Vec<(char, char)> = match class {
        Class::Unicode(class) => class
            .iter()
            .map(|range| (range.start(), range.end()))
            .collect(),
        Class::Bytes(class) => class
            .iter()
            .map(|range| (char::from(range.start()), char::from(range.end())))
            .collect(),
    };
    let contains = |letter: &char| {
        let within = |(start, end): &(char, char)| start <= letter && letter <= end;
        ranges.iter().any(within)
    };
    let preferred: Vec<char> = PREFERRED.chars().filter(contains).collect();
    match preferred.len() {
        0 => ranges.first().map(|(start, _)| *start),
        count => preferred.get(style % count).copied(),
    }
}

/// Percent-encodes a path, except for what routes see decoded only if it came so.
fn encode(path: &str) -> String {
    path.bytes().fold(String::new(), |mut encoded, byte| {
        match byte {
            b'/' | b'+' | b'%' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => encoded.push(char::from(byte)),
            _ => {
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
        encoded
    })
}

/// Returns a path as routes see it.
pub(super) fn decode(path: &str) -> String {
    let uri = path.parse();
    uri.map_or_else(|_| path.to_owned(), |uri| Url::new(uri).path().to_owned())
}

/// Returns whether a pattern takes a path, as routes see it.
pub(super) fn is_match(pattern: &str, path: &str) -> bool {
    parts(pattern).is_some() && ResourceDef::new(pattern).is_match(path)
}

/// Returns paths that match a pattern of a route and one that a middleware leaves open.
pub(super) fn shared(route: &str, open: &str) -> Vec<String> {
    let mut shared = Vec::new();
    for path in paths(open) {
        let mut both = vec![path.clone()];
        let (own, given) = (route.split('/'), path.split('/'));
        if own.clone().count() == given.clone().count() {
            // The fixed segments of the route, and the values of the open pattern.
            let segments = own.zip(given).map(|(own, given)| match own.contains('{') {
                true => given.to_owned(),
                false => encode(own),
            });
            both.push(segments.collect::<Vec<_>>().join("/"));
        }
        both.retain(|path| {
            let decoded = decode(path);
            is_match(route, &decoded) && is_match(open, &decoded) && !shared.contains(path)
        });
        both.dedup();
        shared.extend(both);
    }
    shared
}

/// Returns the length of what a pattern takes of the start of a path.
pub(super) fn matched_prefix(pattern: &str, path: &str) -> Option<usize> {
    // A part of a pattern may end within a parameter.
    parts(pattern)?;
    ResourceDef::prefix(pattern).find_match(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_fits_its_pattern() {
        for pattern in [
            "/",
            "/a b/ü",
            "/orders/{id}",
            "/{a}-{b}/c",
            "/{id:\\d+}",
            "/{id:\\d{2,3}}/x",
            "/{lang:[a-z]{2}(-[A-Z]{2})?}/{tail}*",
            "/{uuid:[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}}",
            "/{day:20\\d\\d-(0[1-9]|1[0-2])-(?:0[1-9]|[12]\\d|3[01])}",
            "/{kind:red|green|blue}",
            "/{tail:.*}",
            "/{file:[^{}]+\\.(png|jpe?g)}",
            "/{name:(?i)admin}",
            "/{greek:\\p{Greek}+}",
            "/{any:[^a-zA-Z0-9/]}",
            "/{rest}*",
        ] {
            let paths = paths(pattern);
            assert!(!paths.is_empty(), "{pattern}");
            for path in paths {
                let decoded = decode(&path);
                assert!(
                    ResourceDef::new(pattern).is_match(&decoded),
                    "{pattern} {path}"
                );
            }
        }
    }

    #[test]
    fn several_values_are_tried() {
        assert_eq!(paths("/{id}").len(), VALUES.len());
        assert!(paths("/{id:[a-z0-9]+}").len() > 3);
        assert_eq!(paths("/fixed"), ["/fixed"]);
    }

    #[test]
    fn a_route_and_an_open_pattern_share_paths() {
        let shared = |route, open| shared(route, open);
        assert_eq!(shared("/users/{id}", "/users/me"), ["/users/me"]);
        assert_eq!(shared("/{a}/b", "/a/{b}"), ["/a/b"]);
        assert!(shared("/x/{id}", "/x/{id:\\d+}").contains(&"/x/7".to_owned()));
        assert_eq!(shared("/users/{id}", "/users"), [""; 0]);
        assert_eq!(shared("/users/{id:\\d+}", "/users/me"), [""; 0]);
    }

    #[test]
    fn a_pattern_that_no_text_fits_has_no_path() {
        for pattern in ["/{id:[a&&b]}", "/{id:a{5000}}", "/{id:x\\by}", "/{open"] {
            assert_eq!(paths(pattern), [""; 0], "{pattern}");
        }
    }
}
