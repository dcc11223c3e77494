//! Parsing of presented keys, without I/O or allocation.

use secrecy::{ExposeSecret, SecretString};

use super::checksum::{CHECKSUM_LEN, checksum};
use crate::key_id::{ID_LEN, IdText, KeyId};

/// The longest text that is parsed: a prefix of 32, an id of 22, a secret of 256, a checksum of 6,
/// and two `_`.
const MAX_KEY_LEN: usize = 32 + 1 + ID_LEN + 1 + 256 + CHECKSUM_LEN;

/// The length of secrets by default.
const USUAL_SECRET_LEN: usize = 64;

/// The longest prefix.
const MAX_PREFIX_LEN: usize = 32;

/// A text with the form of a key and, unless it was parsed for a lookup, a correct checksum. The store may still
/// not know it.
#[derive(Clone, Copy)]
pub(crate) struct ParsedKey<'a> {
    text: &'a [u8],
    prefix_len: usize,
    id: IdText<'a>,
    /// Whether the checksum is correct, and all characters are those of keys.
    is_checked: bool,
}

impl<'a> ParsedKey<'a> {
    /// Parses `text` from the right, since a prefix may contain `_`. The caller checks whether the
    /// prefix is accepted.
    pub(crate) fn parse(text: &'a [u8]) -> Option<Self> {
        // The length is checked first: a megabyte is rejected before it is summed.
        if text.len() > MAX_KEY_LEN {
            return None;
        }
        let (body, sum) = text.split_last_chunk::<CHECKSUM_LEN>()?;
        if checksum(body) != *sum || !is_plain(text) {
            return None;
        }
        // The checksum does not have a `_`.
        let at = last_separator(body)?;
        let rest = text.get(..at)?;
        // The id has a fixed width, so a second search is not needed.
        let (rest, id) = rest.split_last_chunk::<ID_LEN>()?;
        let prefix_len = rest.strip_suffix(b"_")?.len();
        let id = IdText::of_plain(id)?;
        let has_secret = at + 1 < body.len();
        (has_secret && prefix_len > 0).then_some(Self {
            text,
            prefix_len,
            id,
            is_checked: true,
        })
    }

    /// Parses `text` as a key with this prefix, as far as a lookup needs it: from the left, without the checksum.
    /// If its digest is that of a key, it is the text of that key, to the last character. Otherwise, it has to be
    /// [checked](Self::is_correct).
    pub(crate) fn for_lookup(text: &'a [u8], prefix: &str) -> Option<Self> {
        if text.len() > MAX_KEY_LEN {
            return None;
        }
        let rest = text.strip_prefix(prefix.as_bytes())?.strip_prefix(b"_")?;
        let (id, rest) = rest.split_first_chunk::<ID_LEN>()?;
        let tail = rest.strip_prefix(b"_")?;
        // With another `_`, the id would be elsewhere.
        (tail.len() > CHECKSUM_LEN && !has_separator(tail)).then_some(Self {
            text,
            prefix_len: prefix.len(),
            id: IdText::for_lookup(id),
            is_checked: false,
        })
    }

    /// Returns whether the checksum is correct, and all characters are those of keys.
    pub(crate) fn is_correct(&self) -> bool {
        self.is_checked || Self::parse(self.text).is_some()
    }

    /// Returns the whole key, including the secret.
    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.text
    }

    /// Returns the whole key, including the secret; empty if it is not text, which a correct key always is.
    pub(crate) fn text(&self) -> &'a str {
        std::str::from_utf8(self.text).unwrap_or_default()
    }

    pub(crate) fn prefix(&self) -> &'a str {
        self.text().get(..self.prefix_len).unwrap_or_default()
    }

    pub(crate) fn id(&self) -> IdText<'a> {
        self.id
    }
}

/// A parsed key that outlives the buffer it was parsed from. Its memory is wiped on drop.
pub(crate) struct OwnedKey {
    text: SecretString,
    prefix_len: usize,
    id: KeyId,
    is_checked: bool,
}

impl OwnedKey {
    /// Borrows the key. Nothing is parsed or summed again.
    pub(crate) fn as_parsed(&self) -> ParsedKey<'_> {
        ParsedKey {
            text: self.text.expose_secret().as_bytes(),
            prefix_len: self.prefix_len,
            id: self.id.as_text(),
            is_checked: self.is_checked,
        }
    }
}

impl From<ParsedKey<'_>> for OwnedKey {
    fn from(key: ParsedKey<'_>) -> Self {
        Self {
            text: key.text().into(),
            prefix_len: key.prefix_len,
            id: key.id.to_id(),
            is_checked: key.is_checked,
        }
    }
}

/// Returns the place of the last `_`. It is looked for first before a secret of the usual length, because a
/// search takes longer.
fn last_separator(body: &[u8]) -> Option<usize> {
    if let Some((head, secret)) = body.split_last_chunk::<USUAL_SECRET_LEN>()
        && head.last() == Some(&b'_')
        && !has_separator(secret)
    {
        return Some(head.len() - 1);
    }
    body.iter().rposition(|byte| *byte == b'_')
}

/// Returns whether `text` has a `_`. It does not stop early, so that the compiler can vectorise it.
#[inline]
fn has_separator(text: &[u8]) -> bool {
    text.iter().fold(false, |has, byte| has | (*byte == b'_'))
}

/// Returns whether `text` consists of ASCII letters, digits and `_`. It does not stop early, so
/// that the compiler can vectorise it.
fn is_plain(text: &[u8]) -> bool {
    text.iter().fold(true, |plain, byte| {
        plain & (byte.is_ascii_alphanumeric() | (*byte == b'_'))
    })
}

/// Checks a prefix; the error says what is wrong and what to write.
pub(crate) fn check_prefix(prefix: &str) -> Result<(), &'static str> {
    let bytes = prefix.as_bytes();
    let Some((first, last)) = bytes.first().zip(bytes.last()) else {
        return Err("is empty; write a few letters, as in `my_api`");
    };
    if bytes.len() > MAX_PREFIX_LEN {
        return Err("is longer than 32 characters; shorten it");
    }
    if !first.is_ascii_alphabetic() {
        return Err("does not start with an ASCII letter; start it with one");
    }
    if !bytes
        .iter()
        .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
    {
        return Err("has characters other than ASCII letters, digits and `_`; leave them out");
    }
    if *last == b'_' {
        return Err("ends with `_`; the `_` after it is added, leave it out");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::key::KeyId;

    fn key(prefix: &str, id: u128, secret: &str) -> String {
        let body = format!("{prefix}_{}_{secret}", KeyId::from_u128(id));
        let sum = checksum(body.as_bytes());
        format!("{body}{}", std::str::from_utf8(&sum).unwrap())
    }

    #[test]
    fn a_prefix_with_underscores_is_read_from_the_right() {
        let text = key("my_api_v2", 7, "abc123");
        let parsed = ParsedKey::parse(text.as_bytes()).unwrap();
        assert_eq!(
            (parsed.prefix(), parsed.id().to_id().to_u128()),
            ("my_api_v2", 7)
        );
    }

    /// F-03.
    #[test]
    fn f03_checksums_that_overflow_or_are_off_by_one_are_refused() {
        let text = key("my_api", 7, "abc123");
        let body = &text[..text.len() - 6];
        for sum in ["zzzzzz", "4gfFC4", "000000"] {
            assert!(
                ParsedKey::parse(format!("{body}{sum}").as_bytes()).is_none(),
                "{sum}"
            );
        }
    }

    /// H-11: rejected by its length alone.
    #[test]
    fn h11_a_megabyte_is_no_key() {
        assert!(ParsedKey::parse(&vec![b'a'; 1 << 20]).is_none());
    }

    /// The place before 64 characters is tried first.
    #[test]
    fn the_last_separator_counts_wherever_it_is() {
        let usual = "a".repeat(64);
        for (prefix, secret) in [
            ("my_api", usual.as_str()),
            ("my_api", &usual[1..]),
            ("my_api", &format!("{usual}a")),
            // A `_` before the last 64 characters, with the id and the secret after it.
            ("my_api", &usual[..64 - 23]),
        ] {
            let text = key(prefix, 7, secret);
            let parsed = ParsedKey::parse(text.as_bytes()).unwrap();
            assert_eq!(
                (parsed.prefix(), parsed.id().to_id().to_u128()),
                (prefix, 7)
            );
        }
    }

    #[test]
    fn a_secret_or_prefix_that_is_missing_is_no_key() {
        assert!(ParsedKey::parse(key("", 7, "abc").as_bytes()).is_none());
        assert!(ParsedKey::parse(key("my_api", 7, "").as_bytes()).is_none());
        assert!(ParsedKey::parse(key("my_api", 7, "é").as_bytes()).is_none());
        assert!(ParsedKey::parse(b"").is_none());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(prefix in "[a-z][a-z0-9_]{0,20}[a-z0-9]", id: u128, secret in "[A-Za-z0-9]{22,256}") {
            let text = key(&prefix, id, &secret);
            let parsed = ParsedKey::parse(text.as_bytes()).unwrap();
            prop_assert_eq!(parsed.prefix(), prefix);
            prop_assert_eq!(parsed.id().to_id().to_u128(), id);
            prop_assert_eq!(parsed.text(), &text);
        }

        #[test]
        fn no_bytes_break_the_parser(bytes: Vec<u8>) {
            let _ = ParsedKey::parse(&bytes);
            let _ = ParsedKey::for_lookup(&bytes, "my_api").map(|key| key.text().len());
        }

        /// Also for texts with several places that could be an id's, and with prefixes that begin alike.
        #[test]
        fn a_key_that_is_parsed_for_a_lookup_is_that_key_or_not_correct(
            prefix in "my|my_api|my_[a-z]{22}", id: u128, secret in "[a-z_]{0,2}[A-Za-z0-9]{1,60}",
            slip in proptest::option::of(0_usize..60),
        ) {
            let mut text = key(&prefix, id, &secret).into_bytes();
            if let Some(at) = slip {
                text[at % 30] ^= 1;
            }
            for accepted in ["my", "my_api", prefix.as_str()] {
                let parts = |key: ParsedKey<'_>| (key.prefix().to_owned(), key.id().to_id());
                let found = ParsedKey::for_lookup(&text, accepted).filter(ParsedKey::is_correct);
                let parsed = ParsedKey::parse(&text).filter(|key| key.prefix() == accepted);
                prop_assert_eq!(found.map(parts), parsed.map(parts));
            }
        }

        /// F-04: any one character replaced, swapped with its neighbour, dropped or added.
        #[test]
        fn f04_one_slip_is_always_noticed(id: u128, secret in "[A-Za-z0-9]{64}", at in 0_usize..94, with in "[A-Za-z0-9_]") {
            let text = key("my_api", id, &secret);
            let with = with.as_bytes()[0];
            let bytes = text.as_bytes();
            let at = at % bytes.len();
            let mut changed = bytes.to_vec();
            changed[at] = with;
            let mut swapped = bytes.to_vec();
            swapped.swap(at, (at + 1) % bytes.len());
            let mut dropped = bytes.to_vec();
            dropped.remove(at);
            let mut added = bytes.to_vec();
            added.insert(at, with);
            for wrong in [changed, swapped, dropped, added] {
                prop_assert!(wrong == bytes || ParsedKey::parse(&wrong).is_none());
            }
        }
    }
}
