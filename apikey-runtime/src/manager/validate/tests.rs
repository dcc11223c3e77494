//! Tests of the bounds, on both sides.

use serde_json::{Value, json};

use super::*;
use crate::limit::{MAX_LIMITS, MAX_NAME_LEN};
use crate::scope::{MAX_SCOPE_LEN, MAX_SCOPES};

/// Returns the message of a refusal.
fn said<T: std::fmt::Debug>(outcome: Result<T, Error>) -> String {
    match outcome {
        Err(Error::InvalidArgument(message)) => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_text_that_could_forge_a_line_or_look_like_another_is_refused() {
    let long = "a".repeat(257);
    for wrong in [
        "",
        "a\nb",
        "a\0",
        "a\u{85}",
        "\u{1b}[31m",
        long.as_str(),
        "\u{202e}gnp.exe",
        "a\u{2066}b\u{2069}",
        "a\u{200e}",
        "\u{61c}a",
        "a\u{200b}b",
        "\u{feff}a",
        "a\u{2028}b",
        "a\u{ad}b",
        "a\u{e0041}",
        " ",
        " \u{3000}\u{a0}",
        "\u{200d}",
        "\u{3164}",
        "\u{2800}\u{2800}",
        "\u{fe0f}",
    ] {
        assert!(check_text("label", wrong).is_err(), "{wrong:?}");
    }
    for right in [
        "a",
        "' OR 1=1 --",
        "%_*{}",
        "名前",
        " leading and trailing ",
        "می\u{200c}خواهم",
        "👩\u{200d}💻",
        "❤\u{fe0f}",
        "e\u{301}",
        "עברית",
        &"a".repeat(256),
    ] {
        assert!(check_text("label", right).is_ok(), "{right:?}");
    }
}

#[test]
fn a_refusal_names_the_field_its_bound_and_what_was_given() {
    let networks: Vec<IpNet> = vec!["192.0.2.0/24".parse().unwrap(); 257];
    let methods = vec!["GET".to_owned(); 33];
    let long = "x".repeat(5_000_000);
    let big = Metadata::from_iter([("a".to_owned(), long.as_str().into())]);
    let deep = (0..5_000).fold(Value::Null, |inner, _| vec![inner].into());
    for (message, parts) in [
        (
            said(check_text("label", &long)),
            ["label", "5000000 bytes", "256"],
        ),
        (
            said(check_text("owner", "a\u{202e}")),
            ["owner", "U+202E", "byte 1"],
        ),
        (
            said(check_text("owner", "  ")),
            ["owner", "blanks", r#""  ""#],
        ),
        (
            said(check_text_within("description", &long, MAX_DESCRIPTION_LEN)),
            ["description", "5000000 bytes", "1024"],
        ),
        (
            said(check_environment(&long)),
            ["environment", "5000000 bytes", "32"],
        ),
        (
            said(check_metadata_len(&big)),
            ["metadata", "5000008 bytes", "16384"],
        ),
        (
            said(shallow_member("a".to_owned(), deep)),
            ["metadata", "5001 levels", "32"],
        ),
        (said(check_networks(&networks)), ["257", "networks", "256"]),
        (said(check_methods(&methods)), ["33", "methods", "32"]),
        (
            said(check_methods(std::slice::from_ref(&long))),
            ["method", "5000000 bytes", "32"],
        ),
    ] {
        for part in parts {
            assert!(message.contains(part), "{part}: {message}");
        }
        assert!(message.len() < 300, "{message}");
    }
}

#[test]
fn what_is_at_the_bound_is_taken() {
    let filler = "x".repeat(MAX_METADATA_LEN - json!({ "a": "" }).to_string().len());
    let mut patch = KeyPatch::new();
    patch.environment = Some(Some("e".repeat(MAX_ENVIRONMENT_LEN)));
    patch.description = Some(Some("d".repeat(MAX_DESCRIPTION_LEN)));
    patch.metadata = Some(Metadata::from_iter([("a".to_owned(), filler.into())]));
    patch.networks = Some(vec!["192.0.2.0/24".parse().unwrap(); MAX_NETWORKS]);
    patch.methods = Some(vec!["M".repeat(MAX_METHOD_LEN); MAX_METHODS]);
    check_fields(&patch).unwrap();
    for wrong in ["", "two\nlines", "  ", &"d".repeat(MAX_DESCRIPTION_LEN + 1)] {
        let mut patch = KeyPatch::new();
        patch.description = Some(Some(wrong.to_owned()));
        assert!(check_fields(&patch).is_err(), "{wrong:?}");
    }
    let metadata = patch.metadata.get_or_insert_default();
    metadata.insert("b".to_owned(), 1.into());
    assert!(check_fields(&patch).is_err());
    let nested = |levels| (1..levels).fold(json!([]), |inner, _| json!([inner]));
    assert!(shallow_member("a".to_owned(), nested(MAX_METADATA_DEPTH - 1)).is_ok());
    assert!(shallow_member("a".to_owned(), nested(MAX_METADATA_DEPTH)).is_err());
}

#[test]
fn the_guide_states_the_bounds() {
    let guide = include_str!("../../../docs/fields.md");
    let bytes = |max: usize| format!("1 to {max} bytes");
    for (field, bound) in [
        ("label, owner", bytes(MAX_TEXT_LEN)),
        (
            "reason of a revocation, actor of a change, reason for a change",
            bytes(MAX_TEXT_LEN),
        ),
        ("description", bytes(MAX_DESCRIPTION_LEN)),
        ("environment", bytes(MAX_ENVIRONMENT_LEN)),
        ("scopes", MAX_SCOPES.to_string()),
        ("a scope", bytes(MAX_SCOPE_LEN)),
        ("metadata", format!("{MAX_METADATA_LEN} bytes of JSON")),
        ("depth of metadata", format!("{MAX_METADATA_DEPTH} levels")),
        ("networks", MAX_NETWORKS.to_string()),
        ("methods", MAX_METHODS.to_string()),
        ("a method", bytes(MAX_METHOD_LEN)),
        ("limits", MAX_LIMITS.to_string()),
        ("name of a limit", bytes(MAX_NAME_LEN)),
    ] {
        let row = format!("| {field} | {bound} ");
        assert!(guide.contains(&row), "{row}");
    }
}
