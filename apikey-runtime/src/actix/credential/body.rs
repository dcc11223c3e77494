//! Finds keys in bodies: a member of a JSON object, or a field of a form.

use std::borrow::Cow;
use std::fmt;

use actix_web::HttpRequest;
use actix_web::http::header;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::Extracted;
use super::pairs::find_in_form;
use crate::policy::KeyLocation;

/// Returns whether the body's content type is the one of `location`.
pub(in crate::actix) fn is_of_type(request: &HttpRequest, location: &KeyLocation<'_>) -> bool {
    let Some(kind) = request.headers().get(header::CONTENT_TYPE) else {
        return false;
    };
    let Some(essence) = kind.as_bytes().split(|byte| *byte == b';').next() else {
        return false;
    };
    let essence = essence.trim_ascii().to_ascii_lowercase();
    match location {
        // As `web::Json` accepts it: any type with the subtype `json`, or with a suffix of RFC
        // 6839.
        KeyLocation::Json { .. } => {
            let subtype = essence
                .split(|byte| *byte == b'/')
                .nth(1)
                .unwrap_or_default();
            subtype == b"json" || subtype.ends_with(b"+json")
        }
        KeyLocation::Form { .. } => essence == b"application/x-www-form-urlencoded",
        _ => false,
    }
}

/// Finds the key in a body of the right content type.
pub(in crate::actix) fn find_in_body<'b>(
    body: &'b [u8],
    location: &KeyLocation<'_>,
) -> Extracted<'b> {
    match location {
        KeyLocation::Json { name } => find_in_json(body, name),
        KeyLocation::Form { name } => find_in_form(body, name),
        _ => Extracted::Nothing,
    }
}

/// Finds the key among the top-level members of a JSON object. Other JSON values do not contain a
/// key, and neither do nested members: `{"a": {"api_key": ".."}}`. If the member is not a string,
/// the credential is empty.
fn find_in_json<'b>(body: &'b [u8], name: &str) -> Extracted<'b> {
    if body.trim_ascii().is_empty() {
        return Extracted::Nothing;
    }
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let found = TopLevelMember { name }.deserialize(&mut deserializer);
    match found.and_then(|found| deserializer.end().map(|()| found)) {
        Ok(found) => found,
        Err(_) => Extracted::Malformed,
    }
}

/// Visits the top level of a document.
struct TopLevelMember<'n> {
    name: &'n str,
}

impl<'de> DeserializeSeed<'de> for TopLevelMember<'_> {
    type Value = Extracted<'static>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

// A value that is not an object does not contain a key.
macro_rules! nothing {
    ($($visit:ident($kind:ty)),*) => {$(
        fn $visit<E>(self, _: $kind) -> Result<Self::Value, E> {
            Ok(Extracted::Nothing)
        }
    )*};
}

impl<'de> Visitor<'de> for TopLevelMember<'_> {
    type Value = Extracted<'static>;

    nothing!(
        visit_bool(bool),
        visit_i64(i64),
        visit_u64(u64),
        visit_f64(f64),
        visit_str(&str)
    );

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Extracted::Nothing)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        while items.next_element_seed(AnyValue)?.is_some() {}
        Ok(Extracted::Nothing)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut found = Extracted::Nothing;
        // The name is unescaped, as in the handler's parser.
        while let Some(name) = members.next_key::<String>()? {
            if name == self.name {
                let key = members.next_value_seed(AnyValue)?.unwrap_or_default();
                found = found.and(Extracted::One(Cow::Owned(key.into_bytes())));
            } else {
                members.next_value_seed(AnyValue)?;
            }
        }
        Ok(found)
    }
}

/// Reads any value to its end, and returns its text if it is a string. Here serde_json rejects more
/// than 128 levels, which it does not do if it skips a value (`IgnoredAny`).
struct AnyValue;

impl<'de> DeserializeSeed<'de> for AnyValue {
    type Value = Option<String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

macro_rules! no_text {
    ($($visit:ident($kind:ty)),*) => {$(
        fn $visit<E>(self, _: $kind) -> Result<Self::Value, E> {
            Ok(None)
        }
    )*};
}

impl<'de> Visitor<'de> for AnyValue {
    type Value = Option<String>;

    no_text!(
        visit_bool(bool),
        visit_i64(i64),
        visit_u64(u64),
        visit_f64(f64)
    );

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Some(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        while items.next_element_seed(AnyValue)?.is_some() {}
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        while members.next_key::<IgnoredAny>()?.is_some() {
            members.next_value_seed(AnyValue)?;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn json(body: &str) -> Extracted<'_> {
        find_in_json(body.as_bytes(), "api_key")
    }

    fn one(key: &str) -> Extracted<'_> {
        Extracted::One(Cow::Borrowed(key.as_bytes()))
    }

    /// J-01.
    #[test]
    fn j01_a_name_that_comes_twice_is_several_however_it_is_written() {
        assert_eq!(json(r#"{"api_key": "a", "x": 1}"#), one("a"));
        assert_eq!(
            json(r#"{"api_key": "a", "api_key": "a"}"#),
            Extracted::Multiple
        );
        assert_eq!(
            json(r#"{"api_key": "a", "api\u005fkey": "b"}"#),
            Extracted::Multiple
        );
        assert_eq!(json(r#"{"API_KEY": "a"}"#), Extracted::Nothing);
    }

    #[test]
    fn only_a_string_at_the_top_is_a_key() {
        for none in [
            r#"{"a": {"api_key": "k"}}"#,
            r#"[{"api_key": "k"}]"#,
            "5",
            "null",
            "\"k\"",
            "{}",
            "",
            "  ",
        ] {
            assert_eq!(json(none), Extracted::Nothing, "{none}");
        }
        for no_key in ["5", "null", "true", "[\"k\"]", "{\"api_key\": \"k\"}"] {
            assert_eq!(
                json(&format!("{{\"api_key\": {no_key}}}")),
                one(""),
                "{no_key}"
            );
        }
    }

    /// J-01.
    #[test]
    fn j01_broken_and_deep_bodies_are_malformed() {
        let deep = format!("{{\"x\": {}{}}}", "[".repeat(30_000), "]".repeat(30_000));
        for broken in [
            "{",
            "{\"api_key\": \"a\"",
            "{\"api_key\": \"a\"} x",
            "{'api_key': 1}",
            "\u{feff}{}",
            &deep,
        ] {
            assert_eq!(json(broken), Extracted::Malformed, "{:.30}", broken);
        }
        let shallow = format!(
            "{{\"x\": {}{}, \"api_key\": \"a\"}}",
            "[".repeat(100),
            "]".repeat(100)
        );
        assert_eq!(json(&shallow), one("a"));
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_parser(bytes: Vec<u8>, text: String) {
            let _ = find_in_json(&bytes, "api_key");
            let _ = json(&text);
        }

        #[test]
        fn what_is_written_is_read(key: String, other: String) {
            prop_assume!(other != "api_key");
            let body = serde_json::json!({ "api_key": &key, other: [1, {"api_key": "no"}] }).to_string();
            prop_assert_eq!(find_in_json(body.as_bytes(), "api_key"), Extracted::One(Cow::Owned(key.into_bytes())));
        }
    }
}
