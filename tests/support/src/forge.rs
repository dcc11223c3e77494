//! Forged keys with valid checksums: written from the description of the format, without code of
//! the crate.

use std::sync::atomic::{AtomicU64, Ordering};

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Computes CRC-32/ISO-HDLC, bit by bit.
pub fn crc32(bytes: &[u8]) -> u32 {
    let mut sum = u32::MAX;
    for byte in bytes {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = if sum & 1 == 1 {
                (sum >> 1) ^ 0xEDB8_8320
            } else {
                sum >> 1
            };
        }
    }
    !sum
}

/// Returns six digits of base62.
pub fn base62(mut number: u32) -> String {
    let mut digits = [b'0'; 6];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62[(number % 62) as usize];
        number /= 62;
    }
    String::from_utf8(digits.to_vec()).unwrap()
}

/// Returns `text` with its checksum.
pub fn sealed(text: &str) -> String {
    format!("{text}{}", base62(crc32(text.as_bytes())))
}

/// The parts of a key.
#[derive(Debug, Clone)]
pub struct Parts {
    pub prefix: String,
    pub id: String,
    pub secret: String,
    pub checksum: String,
}

/// Splits a key, from the right.
pub fn parts(key: &str) -> Parts {
    let (rest, tail) = key.rsplit_once('_').unwrap();
    let (prefix, id) = rest.rsplit_once('_').unwrap();
    let (secret, checksum) = tail.split_at(tail.len() - 6);
    Parts {
        prefix: prefix.to_owned(),
        id: id.to_owned(),
        secret: secret.to_owned(),
        checksum: checksum.to_owned(),
    }
}

/// Returns a well-formed key of these parts.
pub fn key(prefix: &str, id: &str, secret: &str) -> String {
    sealed(&format!("{prefix}_{id}_{secret}"))
}

/// Returns a key with the id of `key` and another secret.
pub fn wrong_secret(key: &str) -> String {
    let parts = parts(key);
    self::key(&parts.prefix, &parts.id, &"x".repeat(parts.secret.len()))
}

/// Returns a key with the id of `key` and a wrong secret that was not shown before: it asks what changed.
pub fn new_wrong_secret(key: &str) -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let (parts, number) = (parts(key), NUMBER.fetch_add(1, Ordering::Relaxed));
    self::key(&parts.prefix, &parts.id, &format!("{number:064}"))
}

/// Returns a well-formed key that stores do not know.
pub fn unknown() -> String {
    key("my_api", "0123456789ABCDEFGHIJKL", &"y".repeat(64))
}
