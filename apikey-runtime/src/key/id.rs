//! Parsing of ids.

use std::str::FromStr;

use serde::{Deserialize, Deserializer};

use crate::error::Error;
use crate::key_id::KeyId;

impl FromStr for KeyId {
    type Err = Error;

    /// Parses the 22 characters, or a UUID (with hyphens or as 32 hex digits).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || {
            Error::InvalidArgument(
                "this is not the id of a key; write its 22 letters and digits, or its UUID"
                    .to_owned(),
            )
        };
        if let Some(id) = Self::from_ascii(text.as_bytes()) {
            return Ok(id);
        }
        let hyphens_fit = text.len() == 32
            || (text.len() == 36
                && text
                    .match_indices('-')
                    .map(|(at, _)| at)
                    .eq([8, 13, 18, 23]));
        let hex: String = text.chars().filter(|c| *c != '-').collect();
        if !hyphens_fit || hex.len() != 32 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        u128::from_str_radix(&hex, 16)
            .map(Self::from_u128)
            .map_err(|_other_length| wrong())
    }
}

impl<'de> Deserialize<'de> for KeyId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_id_reads_back_from_its_text_and_its_uuid(bits: u128) {
            let id = KeyId::from_u128(bits);
            prop_assert_eq!(id.to_u128(), bits);
            prop_assert_eq!(id.to_string().parse::<KeyId>().unwrap(), id);
            prop_assert_eq!(id.to_uuid().parse::<KeyId>().unwrap(), id);
            prop_assert_eq!(id.to_uuid().replace('-', "").parse::<KeyId>().unwrap(), id);
        }

        #[test]
        fn no_text_breaks_the_parser(text: String) {
            if let Ok(id) = text.parse::<KeyId>() {
                prop_assert_eq!(id.to_u128(), KeyId::from_u128(id.to_u128()).to_u128());
            }
        }
    }
}
