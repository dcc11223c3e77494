//! Digests: what a store keeps instead of keys.
//!
//! A fast hash is right here. The input has at least 128 bits of entropy, so it cannot be guessed,
//! and a slow hash would help a denial-of-service attack.

use std::any::Any;
use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::sha256::{sha256_words, to_words};
use crate::error::{BoxError, Error};

const SHA256_TAG: &str = "sha256$";
const HMAC_TAG: &str = "hmac-sha256$";

#[cfg(test)]
thread_local! {
    /// The number of texts that the built-in hasher compared on this thread.
    pub(crate) static COMPARISONS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Creates and verifies the digests that a store keeps.
///
/// The default is [`Sha256Hasher`]. Implement this trait to verify digests that another system
/// created (flask-api-key's `hash_api_key_loader` and `verify_api_key_loader`).
pub trait KeyHasher: fmt::Debug + Any + Send + Sync {
    /// Creates the digest of `key`, tagged with its algorithm, as a store keeps it.
    ///
    /// # Errors
    ///
    /// Any error aborts the creation of the key; nothing is stored.
    fn hash(&self, key: &str) -> Result<String, BoxError>;

    /// Parses a stored digest, once, when its record enters the cache. Returns `None` if this
    /// hasher does not know the tag: an error is logged, and the key is denied. If the digest is that of
    /// a superseded secret in its grace, this secret alone is denied. A panic denies in the same way, and
    /// no other key.
    fn parse(&self, stored: &str) -> Option<ParsedDigest>;

    /// Returns whether `key` has this digest. The comparison must take the same time whether or not
    /// it matches.
    fn verify(&self, key: &str, digest: &ParsedDigest) -> bool;
}

/// A stored digest, parsed by its hasher for comparison.
#[derive(Clone)]
pub struct ParsedDigest(Form);

#[derive(Clone)]
enum Form {
    /// Comparing four words is three times as fast as comparing 32 bytes.
    Words {
        pepper: Option<u8>,
        words: [u64; 4],
    },
    Text(Box<str>),
}

impl ParsedDigest {
    /// Keeps the stored text, for a hasher of your own.
    #[must_use]
    pub fn text(stored: &str) -> Self {
        Self(Form::Text(stored.into()))
    }

    /// Returns whether both digests are equal: for a key that an earlier guard of the request
    /// verified.
    pub(crate) fn is(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (
                Form::Words { pepper, words },
                Form::Words {
                    pepper: other_pepper,
                    words: others,
                },
            ) => pepper == other_pepper && words == others,
            (Form::Text(text), Form::Text(other)) => text == other,
            _ => false,
        }
    }

    /// Returns the stored text if [`ParsedDigest::text`] created this digest.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match &self.0 {
            Form::Text(text) => Some(text),
            Form::Words { .. } => None,
        }
    }
}

impl fmt::Debug for ParsedDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ParsedDigest(..)")
    }
}

/// A secret of the service that is mixed into every digest (HMAC-SHA-256, RFC 2104).
///
/// It is kept outside the store. Without the pepper, a stolen store cannot even confirm a guess.
///
/// Several can be configured: the first creates new digests, and all of them verify. This allows
/// rotating a pepper without reissuing keys.
///
/// ```
/// use apikey_runtime::key::Pepper;
///
/// let pepper = Pepper::new("v2", "at least sixteen bytes from your secret manager")?;
/// # Ok::<(), apikey_runtime::Error>(())
/// ```
#[derive(Clone)]
pub struct Pepper {
    id: String,
    /// The keyed state, prepared once: saves 60 ns per check.
    state: Hmac<Sha256>,
}

impl Pepper {
    /// Creates a pepper that the store knows as `id` (1 to 16 ASCII letters, digits and `-`).
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if `id` has another form or `secret` is shorter than 16 bytes.
    pub fn new(id: impl Into<String>, secret: impl Into<SecretString>) -> Result<Self, Error> {
        let (id, secret) = (id.into(), secret.into());
        let named = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if id.is_empty() || id.len() > 16 || !id.bytes().all(named) {
            return Err(Error::Config(
                "the id of a pepper is 1 to 16 ASCII letters, digits and `-`; write one such as `v1`".to_owned(),
            ));
        }
        if secret.expose_secret().len() < 16 {
            return Err(Error::Config(format!(
                "the pepper `{id}` is shorter than 16 bytes; write at least 16 random bytes"
            )));
        }
        let state = Hmac::new_from_slice(secret.expose_secret().as_bytes())
            .map_err(|error| Error::Config(format!("the pepper `{id}` cannot be used: {error}")))?;
        Ok(Self { id, state })
    }

    /// Returns the pepper's name in the store.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pepper({:?})", self.id)
    }
}

/// SHA-256 of the whole key (`sha256$hex`), or HMAC-SHA-256 under a [`Pepper`]
/// (`hmac-sha256$<pepper id>$hex`).
#[derive(Debug, Clone, Default)]
pub struct Sha256Hasher {
    peppers: Vec<Pepper>,
}

impl Sha256Hasher {
    /// Creates a hasher that uses plain SHA-256.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a hasher with peppers. The first creates new digests; all of them, and plain
    /// SHA-256, verify.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if two peppers have the same id, or if there are more than 255.
    pub fn with_peppers(peppers: Vec<Pepper>) -> Result<Self, Error> {
        let mut ids: Vec<&str> = peppers.iter().map(Pepper::id).collect();
        ids.sort_unstable();
        if let Some(pair) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Error::Config(format!(
                "two peppers are named `{}`; name each once",
                pair[0]
            )));
        }
        if peppers.len() > usize::from(u8::MAX) {
            return Err(Error::Config(
                "there are more than 255 peppers; remove those that no key uses".to_owned(),
            ));
        }
        Ok(Self { peppers })
    }

    /// Returns whether `key` has this digest, in constant time. Unlike another hasher, it takes each byte into account:
    /// two texts never have one digest.
    #[inline]
    pub(crate) fn matches(&self, key: &[u8], digest: &ParsedDigest) -> bool {
        #[cfg(test)]
        COMPARISONS.set(COMPARISONS.get() + 1);
        let Form::Words { pepper, words } = &digest.0 else {
            return false;
        };
        let Some(presented) = self.words(key, *pepper) else {
            return false;
        };
        // One comparison in constant time for all words.
        let pairs = presented.iter().zip(words);
        let differing = pairs.fold(0, |bits, (left, right)| bits | (left ^ right));
        differing.ct_eq(&0).into()
    }

    fn words(&self, key: &[u8], pepper: Option<u8>) -> Option<[u64; 4]> {
        match pepper {
            None => Some(sha256_words(key)),
            Some(index) => {
                let mut mac = self.peppers.get(usize::from(index))?.state.clone();
                mac.update(key);
                Some(to_words(mac.finalize().into_bytes().as_ref()))
            }
        }
    }
}

impl KeyHasher for Sha256Hasher {
    fn hash(&self, key: &str) -> Result<String, BoxError> {
        let pepper = (!self.peppers.is_empty()).then_some(0);
        let words = self.words(key.as_bytes(), pepper).unwrap_or_default();
        let hex: String = words.iter().map(|word| format!("{word:016x}")).collect();
        Ok(match self.peppers.first() {
            None => format!("{SHA256_TAG}{hex}"),
            Some(pepper) => format!("{HMAC_TAG}{}${hex}", pepper.id),
        })
    }

    fn parse(&self, stored: &str) -> Option<ParsedDigest> {
        let (pepper, hex) = if let Some(hex) = stored.strip_prefix(SHA256_TAG) {
            (None, hex)
        } else {
            let (id, hex) = stored.strip_prefix(HMAC_TAG)?.split_once('$')?;
            let index = self.peppers.iter().position(|pepper| pepper.id == id)?;
            (Some(u8::try_from(index).ok()?), hex)
        };
        Some(ParsedDigest(Form::Words {
            pepper,
            words: words_of_hex(hex)?,
        }))
    }

    fn verify(&self, key: &str, digest: &ParsedDigest) -> bool {
        self.matches(key.as_bytes(), digest)
    }
}

/// Parses exactly 64 lower-case hex digits.
fn words_of_hex(hex: &str) -> Option<[u64; 4]> {
    let lower_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if hex.len() != 64 || !hex.bytes().all(lower_hex) {
        return None;
    }
    let mut words = [0; 4];
    for (index, word) in words.iter_mut().enumerate() {
        *word = u64::from_str_radix(hex.get(index * 16..index * 16 + 16)?, 16).ok()?;
    }
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pepper(id: &str) -> Pepper {
        Pepper::new(id, format!("0123456789abcdef-{id}")).unwrap()
    }

    /// FIPS 180-4's example: SHA-256 of `abc`.
    #[test]
    fn the_digest_is_sha_256() {
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(
            Sha256Hasher::new().hash("abc").unwrap(),
            format!("sha256${hex}")
        );
    }

    /// One bit, in any of the words, is a difference.
    #[test]
    fn every_word_is_compared() {
        let hasher = Sha256Hasher::new();
        let words = sha256_words(b"a key");
        for bit in 0..256 {
            let mut words = words;
            words[bit / 64] ^= 1 << (bit % 64);
            let pepper = None;
            let digest = ParsedDigest(Form::Words { pepper, words });
            assert!(!hasher.verify("a key", &digest), "{bit}");
        }
    }

    /// RFC 4231 section 4.3, test case 2.
    #[test]
    fn the_peppered_digest_is_hmac_sha_256() {
        let state = Hmac::new_from_slice(b"Jefe").unwrap();
        let hasher = Sha256Hasher {
            peppers: vec![Pepper {
                id: "v1".to_owned(),
                state,
            }],
        };
        let hex = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        let digest = hasher.hash("what do ya want for nothing?").unwrap();
        assert_eq!(digest, format!("hmac-sha256$v1${hex}"));
    }

    /// F-14.
    #[test]
    fn f14_keys_of_an_older_pepper_still_verify() {
        let old = Sha256Hasher::with_peppers(vec![pepper("v1")]).unwrap();
        let new = Sha256Hasher::with_peppers(vec![pepper("v2"), pepper("v1")]).unwrap();
        let digest = new.parse(&old.hash("a key").unwrap()).unwrap();
        assert!(new.verify("a key", &digest));
        assert!(!new.verify("a kez", &digest));
        assert!(new.hash("a key").unwrap().starts_with("hmac-sha256$v2$"));
        let plain = new
            .parse(&Sha256Hasher::new().hash("a key").unwrap())
            .unwrap();
        assert!(new.verify("a key", &plain));
    }

    /// F-13.
    #[test]
    fn f13_an_unknown_or_weak_digest_is_not_prepared() {
        let hasher = Sha256Hasher::with_peppers(vec![pepper("v1")]).unwrap();
        let hex = "0".repeat(64);
        for stored in [
            String::new(),
            hex.clone(),
            format!("md5${}", "0".repeat(32)),
            format!("plain${hex}"),
            format!("sha1${hex}"),
            format!("SHA256${hex}"),
            format!("sha256$0{hex}"),
            format!("sha256${}", "0".repeat(63)),
            format!("sha256${}", "F".repeat(64)),
            format!("hmac-sha256$v9${hex}"),
            format!("hmac-sha256${hex}"),
            format!("sha256$+{}", "0".repeat(63)),
        ] {
            assert!(hasher.parse(&stored).is_none(), "{stored}");
        }
    }

    #[test]
    fn debug_shows_neither_pepper_nor_digest() {
        let hasher = Sha256Hasher::with_peppers(vec![pepper("v1")]).unwrap();
        let digest = hasher.parse(&hasher.hash("abc").unwrap()).unwrap();
        assert_eq!(
            format!("{hasher:?} {digest:?}"),
            "Sha256Hasher { peppers: [Pepper(\"v1\")] } ParsedDigest(..)"
        );
    }
}
