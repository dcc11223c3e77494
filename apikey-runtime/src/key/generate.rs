//! Generation of keys from the system's randomness.

use rand::TryCryptoRng;
use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;

use super::charset::Charset;
use super::checksum::checksum;
use crate::key_id::KeyId;

/// Generates an id: 128 random bits.
pub(crate) fn random_id<R: TryCryptoRng>(random: &mut R) -> Result<KeyId, R::Error> {
    let mut bits = [0; 16];
    random.try_fill_bytes(&mut bits)?;
    Ok(KeyId::from_u128(u128::from_ne_bytes(bits)))
}

/// Generates the text of a key: `{prefix}_{id}_{secret}{checksum}`.
pub(crate) fn generate<R: TryCryptoRng>(
    random: &mut R,
    prefix: &str,
    id: KeyId,
    charset: &Charset,
    secret_length: usize,
) -> Result<SecretString, R::Error> {
    let head = format!("{prefix}_{id}_");
    // Allocates once: a buffer that grows would leave the first half of the secret behind in freed
    // memory.
    let mut text = Zeroizing::new(String::with_capacity(head.len() + secret_length + 6));
    text.push_str(&head);
    push_symbols(random, charset.symbols(), secret_length, &mut text)?;
    let sum = checksum(text.as_bytes());
    text.extend(sum.iter().map(|byte| char::from(*byte)));
    Ok(SecretString::from(text.as_str()))
}

/// Appends `length` uniformly distributed symbols. Uses rejection sampling: a modulo would favour
/// the first symbols.
fn push_symbols<R: TryCryptoRng>(
    random: &mut R,
    symbols: &[u8],
    length: usize,
    text: &mut String,
) -> Result<(), R::Error> {
    let mask = symbols.len().next_power_of_two() - 1;
    let mut pool = Zeroizing::new([0_u8; 128]);
    let mut wanted = length;
    while wanted > 0 {
        random.try_fill_bytes(pool.as_mut_slice())?;
        let fitting = pool
            .iter()
            .filter_map(|byte| symbols.get(usize::from(*byte) & mask));
        for symbol in fitting.take(wanted) {
            text.push(char::from(*symbol));
            wanted -= 1;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rand::rngs::SysRng;
    use secrecy::ExposeSecret;

    use super::*;
    use crate::key::ParsedKey;

    #[test]
    fn a_generated_key_parses() {
        let id = random_id(&mut SysRng).unwrap();
        let key = generate(&mut SysRng, "my_api", id, &Charset::default(), 64).unwrap();
        let text = key.expose_secret();
        assert_eq!(text.len(), "my_api".len() + 1 + 22 + 1 + 64 + 6);
        assert_eq!(ParsedKey::parse(text.as_bytes()).unwrap().id().to_id(), id);
    }

    /// F-11: chi-square over 10^6 symbols. The bound is the 1 - 10^-9 quantile for 61, 49 and 15
    /// degrees of freedom (Wilson-Hilferty), so the test fails by chance once in a billion runs.
    #[test]
    fn f11_no_symbol_is_likelier_than_another() {
        for (name, bound) in [("ascii_62", 140.0), ("ascii_50", 121.0), ("hex", 62.0)] {
            let charset: Charset = name.parse().unwrap();
            let mut text = String::new();
            push_symbols(&mut SysRng, charset.symbols(), 1_000_000, &mut text).unwrap();
            let statistic = chi_square(charset.symbols(), text.as_bytes());
            assert!(statistic < bound, "{name}: {statistic}");
        }
    }

    /// The negative control of F-11: the test detects a modulo.
    #[test]
    fn f11_a_modulo_would_be_found_out() {
        let charset = Charset::default();
        let symbols = charset.symbols();
        let mut bytes = vec![0_u8; 1_000_000];
        rand::TryRng::try_fill_bytes(&mut SysRng, &mut bytes).unwrap();
        let text: Vec<u8> = bytes
            .iter()
            .map(|byte| symbols[usize::from(*byte) % 62])
            .collect();
        assert!(chi_square(symbols, &text) > 140.0);
    }

    fn chi_square(symbols: &[u8], text: &[u8]) -> f64 {
        let expected = text.len() as f64 / symbols.len() as f64;
        let count = |symbol: &u8| text.iter().filter(|byte| *byte == symbol).count() as f64;
        symbols
            .iter()
            .map(|symbol| (count(symbol) - expected).powi(2) / expected)
            .sum()
    }
}
