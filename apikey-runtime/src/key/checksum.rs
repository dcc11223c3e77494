//! The checksum: the last six characters of a key.
//!
//! It is the CRC-32/ISO-HDLC of all characters before it, so that a typo never reaches the store.

use crate::key_id::BASE62;

/// The characters of a checksum: 62^6 is the first power of 62 above 2^32.
pub(super) const CHECKSUM_LEN: usize = 6;

/// Returns the CRC-32 of `text` in base62, left-padded with `0` to six characters.
pub(super) fn checksum(text: &[u8]) -> [u8; CHECKSUM_LEN] {
    let mut sum = crc32fast::hash(text);
    let mut out = [b'0'; CHECKSUM_LEN];
    for digit in out.iter_mut().rev() {
        *digit = BASE62[(sum % 62) as usize];
        sum /= 62;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// F-01.
    #[test]
    fn f01_the_published_vector_of_crc_32() {
        assert_eq!(crc32fast::hash(b"123456789"), 0xCBF4_3926);
        assert_eq!(&checksum(b"123456789"), b"3jZRME");
    }

    /// F-01: bytes whose CRC-32 is 0xFFFFFFFF.
    #[test]
    fn f01_the_largest_checksum() {
        let bytes = [0xFF, 0xFF, 0xFF, 0xFF];
        assert_eq!(crc32fast::hash(&bytes), 0xFFFF_FFFF);
        assert_eq!(&checksum(&bytes), b"4gfFC3");
    }

    /// F-03: checksums are compared as text, so a number that exceeds 32 bits cannot wrap around.
    #[test]
    fn f03_an_overflowing_checksum_matches_nothing() {
        for seed in 0_u32..10_000 {
            let sum = checksum(&seed.to_le_bytes());
            assert!(&sum <= b"4gfFC3");
        }
    }
}
