//! Texts of users in messages.

/// The number of characters that a message quotes.
const QUOTED: usize = 40;

/// Quotes the start of `text`, with escapes for characters that are not seen.
pub(crate) fn quote(text: &str) -> String {
    match text.char_indices().nth(QUOTED) {
        Some((end, _)) => format!("{:?}.. ({} bytes)", &text[..end], text.len()),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_text_is_short_and_shows_all_of_its_characters() {
        assert_eq!(quote("a\u{202e}\n\u{1b}"), r#""a\u{202e}\n\u{1b}""#);
        let long = quote(&"ä".repeat(1_000_000));
        assert_eq!(long, format!("{:?}.. (2000000 bytes)", "ä".repeat(40)));
    }
}
