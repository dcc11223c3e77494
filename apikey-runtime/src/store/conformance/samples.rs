//! Sample records.

use std::time::Duration;

use serde_json::json;

use crate::audit::{ChangeChannel, ChangeOrigin};
use crate::clock::Timestamp;
use crate::key::KeyId;
use crate::limit::{Limit, Quota, Rate};
use crate::record::{KeyPatch, KeyRecord, Metadata, PreviousDigest, Revocation};
use crate::scope::Scopes;

/// Texts with a meaning in SQL, LIKE, format strings, shells, Redis or terminals. To a store they
/// must be plain text. NUL is left out: PostgreSQL cannot store it in text.
pub(super) const ODD_TEXTS: [&str; 16] = [
    "",
    " ",
    "'",
    "''; DROP TABLE api_keys; --",
    "\"a\" OR 1=1",
    "%",
    "_%",
    "100%_\\",
    "{}{0}%s%n$1?1:id@x",
    "*[a-z]?{tag}:",
    "line\r\nbreak\ttab\u{1}\u{7f}",
    "null",
    "1e3",
    "Zoë ✓ 漢字 \u{1f511} \u{202e}",
    "e\u{301}",
    "\u{fffd}\u{10ffff}",
];

/// Returns a time in milliseconds.
pub(super) const fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

/// Returns the id with this number.
pub(super) fn id(number: u128) -> KeyId {
    KeyId::from_u128(number)
}

/// Returns a minimal record with the id `number`.
pub(super) fn plain(number: u128) -> KeyRecord {
    KeyRecord::new(
        id(number),
        "my_api",
        format!("label {number}"),
        "sha256$00",
        at(1_000),
    )
}

/// Returns a minimal record of `owner`.
pub(super) fn owned(number: u128, owner: &str) -> KeyRecord {
    let mut record = plain(number);
    record.owner = Some(owner.to_owned());
    record
}

/// Returns a record with a value in every field.
pub(super) fn full(number: u128) -> KeyRecord {
    let mut record = plain(number);
    record.owner = Some("owner 42".to_owned());
    record.description = Some("what it's for".to_owned());
    record.created_by = Some("ann".to_owned());
    record.updated_by = Some("ben".to_owned());
    record.rotations = (1 << 53) + 3;
    record.digest = format!("hmac-sha256$v1${}", "ab".repeat(32));
    record.previous = Some(PreviousDigest {
        digest: "sha256$11".to_owned(),
        until: at(2_000),
    });
    record.scopes = Scopes::new(["orders:read", "orders:write", "a.b_c-d:0"]).unwrap_or_default();
    record.metadata = metadata();
    record.environment = Some("live".to_owned());
    record.networks = ["192.0.2.0/24", "2001:db8::/32", "10.1.2.3/8"]
        .iter()
        .filter_map(|text| text.parse().ok())
        .collect();
    record.methods = vec!["GET".to_owned(), "M-SEARCH".to_owned()];
    record.limits = limits();
    record.expires = Some(at(9_000));
    record.not_before = Some(at(500));
    record.revoked = Some(because("lost"));
    record.enabled = false;
    record.enabled_at = Some(at(600));
    // A 64-bit float cannot represent this number.
    record.version = (1 << 53) + 1;
    record
}

/// Returns values of every type that JSON has.
pub(super) fn metadata() -> Metadata {
    let mut metadata = Metadata::new();
    metadata.insert("team".to_owned(), json!("billing"));
    metadata.insert(
        "quoted \" key ' \\ \u{1f511}".to_owned(),
        json!("\u{0}\r\n\t<>&"),
    );
    metadata.insert(
        "numbers".to_owned(),
        json!([0, -1, 0.5, i64::MIN, u64::MAX]),
    );
    metadata.insert(
        "nested".to_owned(),
        json!({ "a": [true, false, null, {}], "": "" }),
    );
    metadata
}

/// Returns a limit of every kind.
pub(super) fn limits() -> Vec<Limit> {
    let window = Duration::from_millis(90_061_001);
    vec![
        Limit::new("minute", Rate::per_minute(10).with_burst(3)),
        Limit::new("r.o-l_l", Quota::rolling(7, window)),
        Limit::new("day", Quota::per_day(1)),
        Limit::new("MONTH", Quota::per_month(999_999_999_999_999)),
        Limit::new("1", Quota::lifetime(500)),
    ]
}

/// Returns patches that change each column.
pub(super) fn patches() -> Vec<KeyPatch> {
    let previous = PreviousDigest {
        digest: "sha256$old".to_owned(),
        until: at(7),
    };
    let new = KeyPatch::new;
    vec![
        new(),
        KeyPatch {
            label: Some("it's".to_owned()),
            ..new()
        },
        KeyPatch {
            description: Some(Some("100%_\\".to_owned())),
            ..new()
        },
        KeyPatch {
            owner: Some(Some("o'wner".to_owned())),
            ..new()
        },
        KeyPatch {
            scopes: Scopes::new(["b:c", "a"]).ok(),
            ..new()
        },
        KeyPatch {
            metadata: Some(metadata()),
            ..new()
        },
        KeyPatch {
            environment: Some(Some("test".to_owned())),
            ..new()
        },
        KeyPatch {
            networks: "192.0.2.7/32".parse().ok().map(|network| vec![network]),
            ..new()
        },
        KeyPatch {
            methods: Some(vec!["POST".to_owned(), "PUT".to_owned()]),
            ..new()
        },
        KeyPatch {
            limits: Some(limits()),
            ..new()
        },
        KeyPatch {
            expires: Some(Some(at(i64::MAX))),
            ..new()
        },
        KeyPatch {
            not_before: Some(Some(at(-5))),
            ..new()
        },
        KeyPatch {
            enabled: Some(false),
            ..new()
        },
        KeyPatch {
            enabled: Some(true),
            enabled_at: Some(at(700)),
            ..new()
        },
        KeyPatch {
            digest: Some("sha256$new".to_owned()),
            previous: Some(Some(previous)),
            ..new()
        },
        KeyPatch {
            label: Some("both".to_owned()),
            enabled: Some(true),
            ..new()
        },
    ]
}

/// Returns a revocation with `reason`.
pub(super) fn because(reason: &str) -> Revocation {
    Revocation {
        at: at(3_000),
        reason: Some(reason.to_owned()),
    }
}

/// Returns an origin that names everything.
pub(super) fn named(actor: &str) -> ChangeOrigin {
    ChangeOrigin::new()
        .with_actor(actor)
        .with_channel(ChangeChannel::Page)
        .with_address([192, 0, 2, 7].into())
        .with_request_id("4bf9-2f.35_")
        .with_reason("it's \"100%\"")
}
