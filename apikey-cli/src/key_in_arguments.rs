//! Keys among the arguments, by mistake.

use std::env;

use apikey_runtime::KeyId;

use crate::failure::Failure;

/// The fewest characters of a secret of 128 bits (base62), and of its checksum.
const MIN_SECRET_LEN: usize = 22 + 6;

/// Rejects a key among the arguments, before a message can repeat it.
///
/// # Errors
///
/// Returns an error if an argument, or a part of one, has the form of a key.
pub(crate) fn reject() -> Result<(), Failure> {
    let mut arguments = env::args_os().skip(1);
    match arguments.find_map(|argument| ids_of_keys(&argument.to_string_lossy()).next()) {
        None => Ok(()),
        Some(id) => Err(Failure::usage(
            "an argument is a key, which each user of this machine can read, and which the shell keeps",
        )
        .remedy(format!(
            "give the key a new secret (`apikey keys rotate {id}`); commands take ids, and `apikey keys verify` reads a \
             key from stdin"
        ))),
    }
}

/// Returns the ids of the keys in this text.
pub(crate) fn ids_of_keys(text: &str) -> impl Iterator<Item = KeyId> {
    let is_of_key = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    text.split(move |letter| !is_of_key(letter))
        .filter_map(|word| {
            let mut parts = word.rsplitn(3, '_');
            let (secret, id, _prefix) = (parts.next()?, parts.next()?, parts.next()?);
            (secret.len() >= MIN_SECRET_LEN)
                .then(|| id.parse().ok())
                .flatten()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_the_form_of_a_key_is_one() {
        let id = "2YhUCQwWWeoSCFNn0Zxz4B";
        let secret = "a".repeat(28);
        let is_key = |text: String| ids_of_keys(&text).next().is_some();
        for key in ["my_api", "a"].map(|prefix| format!("{prefix}_{id}_{secret}")) {
            assert!(is_key(key.clone()), "{key}");
            assert!(
                is_key(format!("--key={key}")) && is_key(format!("Bearer {key}\n")),
                "{key}"
            );
        }
        for other in [
            id.to_owned(),
            format!("my_api_{id}"),
            format!("{id}_{secret}"),
            format!("my_api_{secret}_{secret}"),
        ] {
            assert!(!is_key(other.clone()), "{other}");
        }
    }
}
