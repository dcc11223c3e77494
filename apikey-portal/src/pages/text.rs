//! Texts that pages show for times and states.

use std::fmt::Write as _;

use apikey_runtime::{Config, KeyRecord, KeyState, Timestamp};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// The length of an id.
pub(crate) const ID_LEN: usize = 22;

/// Returns the beginning of a key's text, by which its holder knows it, up to a number of its id's characters.
pub(crate) fn beginning(record: &KeyRecord, length: usize) -> String {
    let id = record.id.as_str();
    let beginning = id.get(..length).unwrap_or(id);
    format!("{}_{beginning}\u{2026}", record.prefix)
}

/// Returns the text after the prefix of keys and its `_`.
pub(crate) fn after_prefix<'t>(config: &Config, text: &'t str) -> Option<&'t str> {
    let mut prefixes = config.prefixes().iter();
    prefixes.find_map(|prefix| text.strip_prefix(prefix.as_str())?.strip_prefix('_'))
}

/// Returns a text without the secrets of the keys in it: of a key, prefix and id are left.
pub(crate) fn without_secrets(config: &Config, text: &str) -> String {
    let mut left = text.to_owned();
    for prefix in config.prefixes() {
        let mark = format!("{prefix}_");
        let mut at = 0;
        while let Some(found) = left[at..].find(&mark) {
            at += found + mark.len();
            let length = secret_length(&left[at..]);
            if length > 0 {
                left.replace_range(at + ID_LEN..at + ID_LEN + length, "");
            }
        }
    }
    left
}

/// Returns the length of the secret, with its `_`, in a text that begins with an id; 0 if it does not.
fn secret_length(text: &str) -> usize {
    match text.split_at_checked(ID_LEN) {
        Some((id, tail))
            if tail.starts_with('_') && id.bytes().all(|byte| byte.is_ascii_alphanumeric()) =>
        {
            let ends = |letter: char| letter.is_whitespace() || ",;\"'".contains(letter);
            tail.find(ends).unwrap_or(tail.len())
        }
        _ => 0,
    }
}

/// What a person or a program reads that wrote a key into a field.
pub(crate) const HAS_KEY: &str = "A field has a key with its secret in it, which everybody who sees the field could use. \
     Write its name or the beginning of it instead, and rotate the key if others saw it.";

/// The least length of a secret and its checksum.
const MIN_SECRET: usize = 22 + 6;

/// Returns whether a text has a key with its secret in it. The checksum does not matter: a key that is mistyped in one
/// place is as secret in all others.
pub(crate) fn has_key(config: &Config, text: &str) -> bool {
    let begins = |text: &str| {
        let mut prefixes = config.prefixes().iter();
        prefixes.any(|prefix| {
            let rest = text.strip_prefix(prefix.as_str());
            let rest = rest.and_then(|rest| rest.strip_prefix('_'));
            rest.is_some_and(is_id_and_secret)
        })
    };
    text.char_indices().any(|(at, _)| begins(&text[at..]))
}

fn is_id_and_secret(text: &str) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric();
    let Some((id, [b'_', secret @ ..])) = text.as_bytes().split_at_checked(ID_LEN) else {
        return false;
    };
    id.iter().all(is_plain) && secret.iter().take_while(|byte| is_plain(byte)).count() >= MIN_SECRET
}

/// Returns the word for a state.
pub(crate) fn state(state: KeyState) -> &'static str {
    match state {
        KeyState::Revoked => "revoked",
        KeyState::Suspended => "suspended",
        KeyState::Disabled => "disabled",
        KeyState::Expired => "expired",
        KeyState::Idle => "idle",
        KeyState::NotYetValid => "not valid yet",
        KeyState::Active => "active",
        // A state of a later release.
        _ => "not usable",
    }
}

/// Returns how long it is between two times, in one unit, rounded down: `6 days`.
pub(crate) fn span(millis: i64) -> String {
    let (count, unit) = match millis.max(0) {
        millis if millis >= 2 * DAY => (millis / DAY, "day"),
        millis if millis >= HOUR => (millis / HOUR, "hour"),
        millis if millis >= MINUTE => (millis / MINUTE, "minute"),
        _ => return "less than a minute".to_owned(),
    };
    counted(count.unsigned_abs(), unit)
}

/// Returns a number with its noun: `1 day`, `2 days`.
pub(crate) fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Returns when a key ends, in words: `ends in 6 days`.
pub(crate) fn end(expires: Option<Timestamp>, now: Timestamp) -> String {
    match expires.map(|expires| expires.as_millis().saturating_sub(now.as_millis())) {
        None => "does not expire".to_owned(),
        Some(left) if left > 0 => format!("ends in {}", span(left)),
        Some(left) => format!("ended {} ago", span(left.saturating_neg())),
    }
}

/// Returns how long ago a time was: `5 minutes ago`.
pub(crate) fn ago(time: Timestamp, now: Timestamp) -> String {
    match now.as_millis().saturating_sub(time.as_millis()) {
        millis if millis < MINUTE => "just now".to_owned(),
        millis => format!("{} ago", span(millis)),
    }
}

/// Returns a text as a value in a query: percent-encoded, except for letters, digits and `-._~/`.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'-' | b'.' | b'_' | b'~' | b'/' => encoded.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => encoded.push(char::from(byte)),
            // Writing into a `String` does not fail.
            _ => drop(write!(encoded, "%{byte:02X}")),
        }
    }
    encoded
}

/// Returns a text as a value in the query of a link, without a slash.
pub(crate) fn encode_value(text: &str) -> String {
    encode(text).replace('/', "%2F")
}

/// Returns the text of a parameter without blanks around it; `None` if nothing is left.
pub(super) fn set(text: &str) -> Option<&str> {
    Some(text.trim()).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_in_a_text() {
        let config = Config::builder().prefixes(["a", "a_a"]).build().unwrap();
        let (id, secret) = ("0123456789abcdefghijAB", "0".repeat(MIN_SECRET));
        for text in [
            format!("a_{id}_{secret}"),
            format!("a_a_{id}_{secret}"),
            format!("a_a_a_{id}_{secret}"),
            format!("\u{e9} \"xa_{id}_{secret}00\", and more"),
        ] {
            assert!(has_key(&config, &text), "{text}");
        }
        for text in [
            String::new(),
            "a_".to_owned(),
            format!("a_{id}"),
            format!("a_{id}_"),
            format!("a_{id}_{}", &secret[1..]),
            format!("a_{}_{secret}", &id[1..]),
            format!("b_{id}_{secret}"),
            format!("a_{}\u{e9}_{secret}", &id[2..]),
        ] {
            assert!(!has_key(&config, &text), "{text}");
        }
    }

    #[test]
    fn each_key_in_a_text_loses_its_secret() {
        let config = Config::builder()
            .prefixes(["live", "my_test"])
            .build()
            .unwrap();
        let id = "0123456789abcdefghijAB";
        for (text, left) in [
            (format!("live_{id}_secret"), format!("live_{id}")),
            (
                format!("\u{e9}live_{id}_s, \"my_test_{id}_secret\" live_{id}_x"),
                format!("\u{e9}live_{id}, \"my_test_{id}\" live_{id}"),
            ),
            (format!("live_live_{id}_s"), format!("live_live_{id}")),
        ] {
            assert_eq!(without_secrets(&config, &text), left);
        }
        // Control: names that are not keys stay whole.
        for text in [
            "",
            "live_",
            "live_of_the_customers_in_all_of_europe",
            "live_0123456789abcdefghij\u{e9}_x",
            "other_0123456789abcdefghijAB_x",
        ] {
            assert_eq!(without_secrets(&config, text), text);
        }
    }

    #[test]
    fn a_span_has_one_unit() {
        for (millis, text) in [
            (-5, "less than a minute"),
            (59_999, "less than a minute"),
            (MINUTE, "1 minute"),
            (59 * MINUTE, "59 minutes"),
            (HOUR, "1 hour"),
            (2 * DAY - 1, "47 hours"),
            (2 * DAY, "2 days"),
            (400 * DAY, "400 days"),
            (i64::MAX, "106751991167 days"),
        ] {
            assert_eq!(span(millis), text);
        }
    }

    #[test]
    fn an_end_is_told_before_and_after_it() {
        let at = Timestamp::from_millis;
        assert_eq!(end(None, at(0)), "does not expire");
        assert_eq!(end(Some(at(6 * DAY)), at(0)), "ends in 6 days");
        assert_eq!(end(Some(at(0)), at(0)), "ended less than a minute ago");
        assert_eq!(
            end(Some(Timestamp::MIN), Timestamp::MAX),
            format!("ended {} ago", span(i64::MAX))
        );
    }
}
