//! The pattern of a request's route, by which usage is counted.

use actix_web::HttpRequest;
use actix_web::dev::{Path, Url};

/// Writes the pattern of the request's route, such as `/orders/{id}`, always in the same pieces.
///
/// A client cannot choose any part of it. The routed part of a path consists of text that the
/// application wrote and of the values of parameters, which are replaced by their names.
pub(super) fn write_route(request: &HttpRequest, write: &mut dyn FnMut(&str)) {
    let info = request.match_info();
    let unprocessed = info.unprocessed().len();
    if unprocessed == 0 {
        return write_masked(info, unprocessed, write);
    }
    // Middleware around a scope or an app runs before routing ends. `HttpRequest::match_pattern` would
    // match the path as the client wrote it, and actix routes by the decoded one.
    match request.resource_map().match_pattern(info.as_str()) {
        Some(pattern) => write_pattern(&pattern, write),
        None => {
            write_masked(info, unprocessed, write);
            write("/*");
        }
    }
}

/// Writes the routed part of the path, with the name of each parameter in place of its value. This
/// does not allocate, and does not match the path again. `unprocessed` is the length of the rest of the path.
fn write_masked(info: &Path<Url>, unprocessed: usize, write: &mut dyn FnMut(&str)) {
    let path = info.as_str();
    let routed = path.len() - unprocessed;
    let mut at = 0;
    for (name, value) in info.iter() {
        // The position of the value in the path. A value from elsewhere was added by the
        // application, and a value within another one is masked with it.
        let start = value.as_ptr().addr().wrapping_sub(path.as_ptr().addr());
        let end = start.saturating_add(value.len());
        if let (Some(before), true) = (path.get(at..start), end <= routed) {
            write(before);
            write_name(name, write);
            at = end;
        }
    }
    write(path.get(at..routed).unwrap_or_default());
}

fn write_name(name: &str, write: &mut dyn FnMut(&str)) {
    write("{");
    write(name);
    write("}");
}

/// Writes a pattern as [`write_masked`] would: `/{id:\d+}/{rest}*` is `/{id}/{rest}`.
fn write_pattern(pattern: &str, write: &mut dyn FnMut(&str)) {
    let mut left = pattern;
    while let Some((before, inside, after)) = split(left) {
        write(before);
        write_name(inside.split(':').next().unwrap_or_default(), write);
        left = match after {
            "*" => "",
            _ => after,
        };
    }
    write(left);
}

/// Splits a pattern into the texts before, in, and after its first parameter.
fn split(pattern: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = pattern.split_once('{')?;
    let mut open = 1_usize;
    let end = rest.find(|character| {
        open = match character {
            '{' => open + 1,
            '}' => open - 1,
            _ => open,
        };
        open == 0
    })?;
    Some((before, &rest[..end], &rest[end + 1..]))
}

#[cfg(test)]
mod tests {
    use actix_web::dev::ResourceDef;

    use super::*;

    fn written(write: impl FnOnce(&mut dyn FnMut(&str))) -> Vec<String> {
        let mut pieces = Vec::new();
        write(&mut |piece| pieces.push(piece.to_owned()));
        pieces
    }

    /// Returns what is written for `path`, matched by these patterns in turn, all but the last as
    /// prefixes.
    fn masked(patterns: &[&str], path: &str) -> Vec<String> {
        let mut info = Path::new(Url::new(path.parse().unwrap()));
        let (last, prefixes) = patterns.split_last().unwrap();
        for prefix in prefixes {
            assert!(ResourceDef::prefix(*prefix).capture_match_info(&mut info));
        }
        assert!(
            ResourceDef::new(*last).capture_match_info(&mut info),
            "{path}"
        );
        written(|write| write_masked(&info, info.unprocessed().len(), write))
    }

    #[test]
    fn a_path_and_its_pattern_are_written_in_the_same_pieces() {
        let cases: [(&[&str], &str, &str); 9] = [
            (&["/orders"], "/orders", "/orders"),
            (&["/orders/{id}"], "/orders/17", "/orders/{id}"),
            (&["/{a}-{b}/c"], "/a-b/c", "/{a}-{b}/c"),
            (&["/{id:\\d{2,3}}/x"], "/777/x", "/{id}/x"),
            (&["/files/{tail}*"], "/files/a/b%20c", "/files/{tail}"),
            (&["/files/{tail}*"], "/files/", "/files/{tail}"),
            (
                &["/{tenant}", "/v1", "/{id}"],
                "/a/v1/a",
                "/{tenant}/v1/{id}",
            ),
            (&["/{a:(?P<b>x)y}/z"], "/xy/z", "/{a}/z"),
            (&["/{a}"], "/%7Bb%7D%00%C3%BC", "/{a}"),
        ];
        for (patterns, path, label) in cases {
            let masked = masked(patterns, path);
            assert_eq!(masked.concat(), label, "{patterns:?} {path}");
            let plain = written(|write| write_pattern(&patterns.concat(), write));
            assert_eq!(plain, masked, "{patterns:?}");
        }
    }

    /// A value that the application added is not a part of the path, whatever its text.
    #[test]
    fn a_value_from_elsewhere_is_left_alone() {
        let mut info = Path::new(Url::new("/orders/17".parse().unwrap()));
        assert!(ResourceDef::new("/orders/{id}").capture_match_info(&mut info));
        info.add_static("kind", "orders");
        info.add_static("none", "");
        let pieces = written(|write| write_masked(&info, info.unprocessed().len(), write));
        assert_eq!(pieces.concat(), "/orders/{id}");
    }

    #[test]
    fn a_pattern_that_is_none_is_written_as_it_is() {
        for pattern in ["", "/a}b", "/a/{b", "*"] {
            let pieces = written(|write| write_pattern(pattern, write));
            assert_eq!(pieces.concat(), pattern);
        }
    }
}
