//! Form tokens: a form can be sent only by the person whom it was shown to, for what it was shown for.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use apikey_runtime::{KeyId, Timestamp};

/// How long a form may be sent: 12 hours.
const VALID_MILLIS: i64 = 12 * 3_600_000;

/// The key of the portal's tokens: 32 random bytes.
#[derive(Clone)]
pub(crate) struct FormKey([u8; 32]);

/// What a form is for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FormPurpose<'a> {
    pub(crate) person: &'a str,
    pub(crate) action: &'a str,
    /// The id of the key, or of the owner; empty for a form that creates.
    pub(crate) record: &'a str,
}

impl FormKey {
    pub(crate) fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the key of the portal at a place, so that portals on one store do not share tokens or ids.
    pub(crate) fn of_portal(&self, place: &str) -> Self {
        let mut mac = self.start(b"portal");
        field(&mut mac, place.as_bytes());
        Self(mac.finalize().into_bytes().into())
    }

    /// Makes the token of a form that is shown at `now`. `nonce` distinguishes two forms of one purpose.
    pub(crate) fn token(&self, purpose: &FormPurpose<'_>, now: Timestamp, nonce: u64) -> String {
        let expires = now.as_millis().saturating_add(VALID_MILLIS);
        let tag = self.tag(purpose, expires, nonce);
        text(expires, nonce, &tag)
    }

    /// Returns whether a token was made for this purpose and is valid at `now`.
    pub(crate) fn accepts(&self, purpose: &FormPurpose<'_>, token: &str, now: Timestamp) -> bool {
        let Some((expires, nonce, tag)) = parse(token) else {
            return false;
        };
        let is_ours = self.mac(purpose, expires, nonce).verify_slice(&tag).is_ok();
        is_ours && now.as_millis() < expires
    }

    /// Returns the id of the key that a form with this token creates for an owner: a repeat meets its own id, on each
    /// node and after a restart. If that key was purged, another one with its id, and so with its audit log, has its
    /// owner.
    pub(crate) fn key_id(&self, person: &str, owner: Option<&str>, token: &str) -> KeyId {
        self.id(b"key-id", person, owner, token)
    }

    /// Returns the id of the key that a request with this `Idempotency-Key` creates for an owner.
    pub(crate) fn idempotent_id(&self, person: &str, owner: Option<&str>, key: &str) -> KeyId {
        self.id(b"idempotency-key", person, owner, key)
    }

    fn id(&self, domain: &[u8], person: &str, owner: Option<&str>, text: &str) -> KeyId {
        let mut mac = self.start(domain);
        field(&mut mac, person.as_bytes());
        // An owner has a byte at least.
        field(&mut mac, owner.unwrap_or_default().as_bytes());
        field(&mut mac, text.as_bytes());
        let tag = mac.finalize().into_bytes();
        let mut bits = [0; 16];
        bits.copy_from_slice(&tag[..16]);
        KeyId::from_u128(u128::from_be_bytes(bits))
    }

    fn tag(&self, purpose: &FormPurpose<'_>, expires: i64, nonce: u64) -> [u8; 32] {
        self.mac(purpose, expires, nonce)
            .finalize()
            .into_bytes()
            .into()
    }

    fn mac(&self, purpose: &FormPurpose<'_>, expires: i64, nonce: u64) -> Hmac<Sha256> {
        let mut mac = self.start(b"form");
        for part in [purpose.person, purpose.action, purpose.record] {
            field(&mut mac, part.as_bytes());
        }
        mac.update(&expires.to_be_bytes());
        mac.update(&nonce.to_be_bytes());
        mac
    }

    /// Starts a code for one use of the key, so that a code of one use is never one of another.
    fn start(&self, domain: &[u8]) -> Hmac<Sha256> {
        // A key of any length is accepted; this one has the length of a block's half.
        let mut mac = match Hmac::new_from_slice(&self.0) {
            Ok(mac) => mac,
            Err(never) => unreachable!("{never}"),
        };
        field(&mut mac, domain);
        mac
    }
}

/// Adds a field with its length, so that two fields never read as two others.
fn field(mac: &mut Hmac<Sha256>, bytes: &[u8]) {
    mac.update(&(bytes.len() as u64).to_be_bytes());
    mac.update(bytes);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text(expires: i64, nonce: u64, tag: &[u8; 32]) -> String {
    format!("{expires:x}.{nonce:016x}.{}", hex(tag))
}

/// Reads the parts of a token: when it expires, its nonce, its code. Another spelling of them is not a token: it
/// would create another key.
fn parse(token: &str) -> Option<(i64, u64, [u8; 32])> {
    let mut parts = token.split('.');
    let expires = i64::from_str_radix(parts.next()?, 16).ok()?;
    let nonce = u64::from_str_radix(parts.next()?, 16).ok()?;
    let digits = parts.next()?;
    if parts.next().is_some() || digits.len() != 64 || !digits.is_ascii() {
        return None;
    }
    let mut tag = [0; 32];
    for (byte, pair) in tag.iter_mut().zip(digits.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    (text(expires, nonce, &tag) == token).then_some((expires, nonce, tag))
}

impl std::fmt::Debug for FormKey {
    /// Omits the bytes.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FormKey").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PURPOSE: FormPurpose<'static> = FormPurpose {
        person: "anna",
        action: "rotate",
        record: "k1",
    };

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn a_token_is_for_one_person_action_and_record_and_for_twelve_hours() {
        let key = FormKey::new([7; 32]);
        let token = key.token(&PURPOSE, at(0), 5);
        assert!(key.accepts(&PURPOSE, &token, at(0)));
        assert!(key.accepts(&PURPOSE, &token, at(VALID_MILLIS - 1)));
        assert!(!key.accepts(&PURPOSE, &token, at(VALID_MILLIS)));
        for other in [
            FormPurpose {
                person: "bob",
                ..PURPOSE
            },
            FormPurpose {
                action: "revoke",
                ..PURPOSE
            },
            FormPurpose {
                record: "k2",
                ..PURPOSE
            },
            // The same bytes in other fields.
            FormPurpose {
                person: "annar",
                action: "otate",
                ..PURPOSE
            },
        ] {
            assert!(!key.accepts(&other, &token, at(0)), "{other:?}");
        }
        assert!(!FormKey::new([8; 32]).accepts(&PURPOSE, &token, at(0)));
        for at_byte in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at_byte] = if changed[at_byte] == b'0' { b'1' } else { b'0' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(!key.accepts(&PURPOSE, &changed, at(0)), "{changed}");
        }
        for odd in [
            "",
            "..",
            "x",
            "0.0.00",
            &format!("{token}."),
            &format!("-1.0.{}", "0".repeat(64)),
        ] {
            assert!(!key.accepts(&PURPOSE, odd, at(0)), "{odd}");
        }
    }

    #[test]
    fn a_token_has_one_spelling() {
        let key = FormKey::new([7; 32]);
        let token = key.token(&PURPOSE, at(0), 0);
        assert!(key.accepts(&PURPOSE, &token, at(0)));
        let (expires, rest) = token.split_once('.').unwrap();
        let tag = rest.split_once('.').unwrap().1;
        for other in [
            token.to_uppercase(),
            format!("{expires}.{:016x}.{}", 0, tag.to_uppercase()),
            format!("0{token}"),
            format!("+{token}"),
            format!("{expires}.0.{tag}"),
            format!("{expires}.+{:015x}.{tag}", 0),
            format!("{expires}.0{rest}"),
            format!("{expires}.{:016x}.+{}", 0, &tag[1..]),
            format!(" {token}"),
        ] {
            assert!(!key.accepts(&PURPOSE, &other, at(0)), "{other}");
        }
    }

    #[test]
    fn a_repeated_form_meets_the_id_of_its_first() {
        let key = FormKey::new([7; 32]);
        let tokens = [key.token(&PURPOSE, at(0), 1), key.token(&PURPOSE, at(0), 2)];
        let acme = Some("acme");
        let first = key.key_id("anna", acme, &tokens[0]);
        assert_eq!(first, key.key_id("anna", acme, &tokens[0]));
        for other in [
            key.key_id("anna", acme, &tokens[1]),
            key.key_id("bob", acme, &tokens[0]),
            key.key_id("anna", None, &tokens[0]),
            key.key_id("anna", Some("globex"), &tokens[0]),
            key.idempotent_id("anna", acme, &tokens[0]),
            key.of_portal("/keys").key_id("anna", acme, &tokens[0]),
        ] {
            assert_ne!(first, other);
        }
    }

    #[test]
    fn a_token_is_for_one_portal() {
        let key = FormKey::new([7; 32]);
        let (one, other) = (key.of_portal("/keys"), key.of_portal("/staff/keys"));
        let token = one.token(&PURPOSE, at(0), 5);
        assert!(key.of_portal("/keys").accepts(&PURPOSE, &token, at(0)));
        assert!(!other.accepts(&PURPOSE, &token, at(0)));
        assert!(!key.accepts(&PURPOSE, &token, at(0)));
    }
}
