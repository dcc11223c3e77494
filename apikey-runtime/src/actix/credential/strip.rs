//! Strips the credential from a request, so that services behind the guard cannot log or forward
//! it.

use actix_web::HttpRequest;
use actix_web::dev::{RequestHead, ServiceRequest};
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::http::uri::{PathAndQuery, Uri};
use actix_web::web::Bytes;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::websocket::without_keys;
use super::{is_named_cookie, is_of_type, without_pair};
use crate::policy::KeyLocation;

/// Strips the values at `locations` from the request's head, and from what actix derived from it.
pub(in crate::actix) fn request(request: &mut ServiceRequest, locations: &[KeyLocation<'_>]) {
    let is_in_body = |location: &KeyLocation<'_>| {
        location.is_in_body() && is_of_type(request.request(), location)
    };
    let body_changed = locations.iter().any(is_in_body);
    head(request.head_mut(), locations);
    if body_changed {
        // The original length of the body. A service that forwards it would wait for the rest.
        request
            .head_mut()
            .headers_mut()
            .remove(header::CONTENT_LENGTH);
    }
    // The router keeps its own URL, which its `Debug` shows.
    let mut routed = request.match_info().get_ref().uri().clone();
    for location in locations {
        if let KeyLocation::Query { name } = location {
            routed = without_parameter(&routed, name).unwrap_or(routed);
        }
    }
    if routed != *request.match_info().get_ref().uri() {
        request.match_info_mut().get_mut().update(&routed);
    }
}

/// Strips the values at `locations` from the head, whether or not they are keys.
fn head(head: &mut RequestHead, locations: &[KeyLocation<'_>]) {
    for location in locations {
        match location {
            KeyLocation::Header { name, .. } => {
                if let Ok(name) = HeaderName::try_from(*name) {
                    head.headers_mut().remove(name);
                }
            }
            KeyLocation::Basic => {
                head.headers_mut().remove(header::AUTHORIZATION);
            }
            KeyLocation::WebSocket => strip_protocols(head),
            KeyLocation::Query { name } => strip_query(head, name),
            KeyLocation::Cookie { name } => strip_cookies(head, name),
            KeyLocation::Json { .. } | KeyLocation::Form { .. } => {}
        }
    }
}

/// Keeps the other subprotocols, of which the handler selects one.
fn strip_protocols(head: &mut RequestHead) {
    let headers = head.headers_mut();
    let left = without_keys(headers);
    headers.remove(header::SEC_WEBSOCKET_PROTOCOL);
    if let Some(left) = left {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, left);
    }
}

fn strip_query(head: &mut RequestHead, name: &str) {
    if let Some(uri) = without_parameter(&head.uri, name) {
        head.uri = uri;
    }
}

/// Returns the URI without the parameter of this name; `None` if it does not have a query.
fn without_parameter(uri: &Uri, name: &str) -> Option<Uri> {
    // A subset of the pairs of a valid query is a valid query.
    let left = String::from_utf8(without_pair(uri.query()?.as_bytes(), name)).ok()?;
    let path = uri.path();
    let path = if left.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{left}")
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = PathAndQuery::try_from(path).ok();
    Uri::from_parts(parts).ok()
}

fn strip_cookies(head: &mut RequestHead, name: &str) {
    let lines: Vec<HeaderValue> = head.headers_mut().remove(header::COOKIE).collect();
    for line in lines {
        let is_key = |cookie: &&[u8]| is_named_cookie(cookie, name);
        let kept: Vec<&[u8]> = line
            .as_bytes()
            .split(|byte| *byte == b';')
            .filter(|cookie| !is_key(cookie))
            .map(<[u8]>::trim_ascii)
            .collect();
        if let (false, Ok(value)) = (
            kept.is_empty(),
            HeaderValue::from_bytes(&kept.join(&b"; "[..])),
        ) {
            head.headers_mut().append(header::COOKIE, value);
        }
    }
}

/// Returns the body without the member or field of the key. All other text in it is unchanged.
pub(in crate::actix) fn body(
    request: &HttpRequest,
    body: Bytes,
    locations: &[KeyLocation<'_>],
) -> Bytes {
    locations
        .iter()
        .filter(|location| is_of_type(request, location))
        .fold(body, |body, location| match location {
            KeyLocation::Json { name } => without_member(&body, name).map_or(body, Bytes::from),
            KeyLocation::Form { name } => Bytes::from(without_pair(&body, name)),
            _ => body,
        })
}

/// Returns a JSON object without the member of this name; `None` if the body is not an object.
fn without_member(body: &[u8], name: &str) -> Option<String> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    deserializer.deserialize_map(WithoutMember { name }).ok()
}

struct WithoutMember<'n> {
    name: &'n str,
}

impl<'de> Visitor<'de> for WithoutMember<'_> {
    type Value = String;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<String, A::Error> {
        let mut text = String::from("{");
        while let Some((name, value)) = members.next_entry::<String, &RawValue>()? {
            if name == self.name {
                continue;
            }
            if text.len() > 1 {
                text.push(',');
            }
            text.push_str(&serde_json::to_string(&name).map_err(A::Error::custom)?);
            text.push(':');
            text.push_str(value.get());
        }
        text.push('}');
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn a_member_is_taken_out_and_the_others_stay_to_the_letter() {
        let body = br#"{"n": 1.50e3, "api\u005fkey": "x", "z": {"api_key": 1}, "a": [ 1,2 ]}"#;
        assert_eq!(
            without_member(body, "api_key").unwrap(),
            r#"{"n":1.50e3,"z":{"api_key": 1},"a":[ 1,2 ]}"#
        );
        assert_eq!(without_member(b"[1]", "api_key"), None);
    }

    #[test]
    fn the_head_keeps_all_but_the_credential() {
        let request = TestRequest::with_uri("/a/b?x=1&k=secret&y=2")
            .insert_header(("Authorization", "Bearer secret"))
            .insert_header(("X-API-Key", "secret"))
            .insert_header(("Cookie", "a=1; k=secret; b=2"))
            .insert_header(("Accept", "text/plain"))
            .to_srv_request();
        let mut request = request;
        let locations = [
            KeyLocation::BEARER,
            KeyLocation::Header {
                name: "x-api-key",
                scheme: None,
            },
            KeyLocation::Query { name: "k" },
            KeyLocation::Cookie { name: "k" },
        ];
        head(request.head_mut(), &locations);
        assert_eq!(request.uri().to_string(), "/a/b?x=1&y=2");
        assert_eq!(request.headers().get("cookie").unwrap(), "a=1; b=2");
        assert_eq!(request.headers().len(), 2, "{:?}", request.headers());
        assert!(!format!("{request:?}").contains("secret"));
    }
}
