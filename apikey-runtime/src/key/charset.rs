//! Alphabets of secrets.

use serde::{Deserialize, Serialize};

use crate::error::Error;

const ASCII_62: &str = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
const ASCII_50: &str = "234679abcdefghjkmnpqrstuvwxyzACDEFGHJKMNPQRTUVWXYZ";
const HEX: &str = "0123456789abcdef";

/// The alphabet of a secret: a name that passlib uses, or characters of your own.
///
/// | value | characters |
/// |---|---|
/// | `ascii_62` (the default) | digits and ASCII letters |
/// | `ascii_50` | `ascii_62` without characters that look alike |
/// | `hex` | `0-9a-f` |
/// | anything else | exactly these: at least two ASCII letters or digits, without duplicates |
///
/// passlib's `ascii_72` is rejected: some of its `!@#$%^&*?/` may not appear in a bearer token (RFC
/// 6750 section 2.1).
///
/// ```
/// use apikey_runtime::key::Charset;
///
/// assert_eq!("hex".parse::<Charset>()?.symbols().len(), 16);
/// assert!("ascii_72".parse::<Charset>().is_err());
/// # Ok::<(), apikey_runtime::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Charset(String);

impl Charset {
    /// Returns the name or the characters, as configured.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }

    /// Returns the characters.
    #[must_use]
    pub fn symbols(&self) -> &[u8] {
        match self.0.as_str() {
            "ascii_62" => ASCII_62,
            "ascii_50" => ASCII_50,
            "hex" => HEX,
            own => own,
        }
        .as_bytes()
    }

    /// Returns the bits of entropy of `length` symbols, rounded down.
    #[must_use]
    pub fn entropy_bits(&self, length: usize) -> u32 {
        let bits = (self.symbols().len() as f64).log2() * length as f64;
        bits.floor() as u32
    }
}

impl Default for Charset {
    fn default() -> Self {
        Self("ascii_62".to_owned())
    }
}

impl std::str::FromStr for Charset {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refuse = |why: &str| Err(Error::Config(format!("`secret_charset` {why}")));
        match text {
            "ascii_62" | "ascii_50" | "hex" => return Ok(Self(text.to_owned())),
            "ascii_72" => {
                return refuse(
                    "`ascii_72` has symbols that a bearer token may not contain (RFC 6750 section 2.1); write `ascii_62`",
                );
            }
            _ => {}
        }
        if !text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return refuse(
                "is not a known name and has characters other than ASCII letters and digits; \
                 write `ascii_62`, `ascii_50`, `hex` or letters and digits of your own",
            );
        }
        let mut seen: Vec<u8> = text.bytes().collect();
        seen.sort_unstable();
        seen.dedup();
        if seen.len() != text.len() {
            return refuse(
                "has a character twice, which would make it likelier than the others; write each once",
            );
        }
        if text.len() < 2 {
            return refuse("has fewer than two characters; write `ascii_62`");
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for Charset {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Charset> for String {
    fn from(charset: Charset) -> Self {
        charset.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_named_alphabets_are_as_long_as_passlib_s() {
        let len = |name: &str| name.parse::<Charset>().unwrap().symbols().len();
        assert_eq!((len("ascii_62"), len("ascii_50"), len("hex")), (62, 50, 16));
    }

    #[test]
    fn the_default_secret_has_381_bits() {
        assert_eq!(Charset::default().entropy_bits(64), 381);
    }

    #[test]
    fn an_alphabet_of_ones_own_is_letters_and_digits_each_once() {
        assert_eq!("abc".parse::<Charset>().unwrap().symbols(), b"abc");
        for wrong in [
            "", "a", "aa", "abca", "ab_", "ab-", "é", "ascii_72", "ascii62 ",
        ] {
            assert!(wrong.parse::<Charset>().is_err(), "{wrong:?}");
        }
    }
}
