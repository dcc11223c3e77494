//! The public half of a key: 128 random bits.
//!
//! `error` uses it, so it lies below `error`; `key` parses it.

use std::fmt;
use std::hash::{Hash, Hasher};

use serde::{Serialize, Serializer};

/// The digits of base62 in ASCII order, so that texts of one width compare as their numbers do.
pub(crate) const BASE62: &[u8; 62] =
    b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The characters of an id: 62^22 is the first power of 62 above 2^128.
pub(crate) const ID_LEN: usize = 22;

/// The largest id: 2^128 - 1 in base62.
const LARGEST: &[u8; ID_LEN] = b"7n42DGM5Tflk9n8mt7Fhc7";

/// Identifies a key: 128 random bits, written as 22 characters of base62 (`0-9A-Za-z`).
///
/// An id is public: it may be logged, shown and put into a URL. It reveals neither the secret nor
/// the time at which the key was created.
///
/// ```
/// use apikey_runtime::KeyId;
///
/// let id: KeyId = "0000000000000000000001".parse()?;
/// assert_eq!(id.to_string(), "0000000000000000000001");
/// assert_eq!(id.to_uuid(), "00000000-0000-0000-0000-000000000001");
/// # Ok::<(), apikey_runtime::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyId([u8; ID_LEN]);

impl KeyId {
    /// Creates the id of these 128 bits.
    #[must_use]
    pub fn from_u128(mut bits: u128) -> Self {
        let mut text = [b'0'; ID_LEN];
        for digit in text.iter_mut().rev() {
            // The remainder of a division by 62 is below 62.
            *digit = BASE62[(bits % 62) as usize];
            bits /= 62;
        }
        Self(text)
    }

    /// Returns the 128 bits.
    #[must_use]
    pub fn to_u128(self) -> u128 {
        self.0.iter().fold(0_u128, |sum, byte| {
            sum * 62 + u128::from(digit_value(*byte))
        })
    }

    /// Formats the id as a lower-case UUID (RFC 9562 section 4). All 128 bits are random; neither a
    /// version nor a variant is set.
    #[must_use]
    pub fn to_uuid(self) -> String {
        let hex = format!("{:032x}", self.to_u128());
        [
            &hex[..8],
            &hex[8..12],
            &hex[12..16],
            &hex[16..20],
            &hex[20..],
        ]
        .join("-")
    }

    /// Returns the 22 characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Every constructor accepts base62 digits only.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Parses an id: 22 digits that encode at most 128 bits.
    pub(crate) fn from_ascii(text: &[u8]) -> Option<Self> {
        let text: [u8; ID_LEN] = text.try_into().ok()?;
        // The digits are in ASCII order, so comparing the texts compares the numbers. No id has a
        // second text.
        (text
            .iter()
            .fold(true, |plain, byte| plain & byte.is_ascii_alphanumeric())
            && text <= *LARGEST)
            .then_some(Self(text))
    }

    /// Returns which of `shards` shards the id belongs to.
    pub(crate) fn shard(&self, shards: usize) -> usize {
        // The last characters of an id are random. An attacker who chooses them only contends for
        // one lock of a cold path.
        let [.., a, b] = self.0;
        (usize::from(a) * 31 + usize::from(b)) % shards
    }

    pub(crate) fn bytes(&self) -> &[u8; ID_LEN] {
        &self.0
    }

    pub(crate) fn as_text(&self) -> IdText<'_> {
        IdText(&self.0)
    }
}

/// An id inside a presented key, used for lookups without a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IdText<'a>(&'a [u8; ID_LEN]);

impl<'a> IdText<'a> {
    /// Parses an id whose characters are known to be ASCII letters, digits or `_`.
    pub(crate) fn of_plain(text: &'a [u8; ID_LEN]) -> Option<Self> {
        let whole = text
            .iter()
            .fold(true, |whole, byte| whole & (*byte != b'_'));
        (whole && text <= LARGEST).then_some(Self(text))
    }

    /// Takes the characters at the place of an id, which need not be one. A map does not have it then.
    pub(crate) fn for_lookup(text: &'a [u8; ID_LEN]) -> Self {
        Self(text)
    }

    pub(crate) fn to_id(self) -> KeyId {
        KeyId(*self.0)
    }

    pub(crate) fn bytes(&self) -> &'a [u8; ID_LEN] {
        self.0
    }
}

impl Hash for KeyId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_text().hash(state);
    }
}

/// Hashes the characters as two words, which overlap by two characters: a hasher takes longer for bytes of any
/// number.
impl Hash for IdText<'_> {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        let first: Option<&[u8; 16]> = self.0.first_chunk();
        let last: Option<&[u8; 8]> = self.0.last_chunk();
        state.write_u128(first.map_or(0, |first| u128::from_ne_bytes(*first)));
        state.write_u64(last.map_or(0, |last| u64::from_ne_bytes(*last)));
    }
}

fn digit_value(byte: u8) -> u8 {
    match byte {
        b'0'..=b'9' => byte - b'0',
        b'A'..=b'Z' => byte - b'A' + 10,
        // An id contains base62 digits only.
        _ => byte.wrapping_sub(b'a').wrapping_add(36),
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({})", self.as_str())
    }
}

impl Serialize for KeyId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher, RandomState};

    use super::*;

    /// A lookup finds an id by its text in a key.
    #[test]
    fn each_character_of_an_id_counts_in_its_hash() {
        let (state, id) = (RandomState::new(), KeyId::from_u128(u128::MAX));
        let hash = state.hash_one(id);
        assert_eq!(state.hash_one(id.as_text()), hash);
        for at in 0..ID_LEN {
            let mut text = *id.bytes();
            text[at] = b'_';
            assert_ne!(state.hash_one(IdText::for_lookup(&text)), hash, "{at}");
        }
    }

    #[test]
    fn the_largest_id_is_two_to_the_128_minus_one() {
        assert_eq!(KeyId::from_u128(u128::MAX).bytes(), LARGEST);
        assert_eq!(KeyId::from_ascii(b"7n42DGM5Tflk9n8mt7Fhc8"), None);
        assert_eq!(KeyId::from_ascii(b"zzzzzzzzzzzzzzzzzzzzzz"), None);
    }
}
