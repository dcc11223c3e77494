//! Text of others on a terminal.

use std::fmt::Write;

/// Escapes what a terminal would obey, or would show in another order: control characters (C0, C1, DEL), line separators,
/// and characters that are invisible or set the direction of writing.
pub(crate) fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            letter if is_hidden(letter) => {
                // Writing to a text cannot fail.
                let _ = write!(shown, "\\u{{{:x}}}", u32::from(letter));
            }
            letter => shown.push(letter),
        }
    }
    shown
}

/// Escapes the same letters in a JSON document, except for line breaks. Its values stay as they are.
pub(crate) fn escaped_json(document: &str) -> String {
    let mut shown = String::with_capacity(document.len());
    for letter in document.chars() {
        match letter {
            letter if is_hidden(letter) && letter != '\n' => {
                for unit in letter.encode_utf16(&mut [0; 2]) {
                    // Writing to a text cannot fail.
                    let _ = write!(shown, "\\u{unit:04x}");
                }
            }
            letter => shown.push(letter),
        }
    }
    shown
}

/// Returns a number and its noun, such as `1 key` and `2 keys`.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        _ => format!("{number} {noun}s"),
    }
}

fn is_hidden(letter: char) -> bool {
    letter.is_control()
        || matches!(letter,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_nothing_to_obey() {
        let hostile = "a\u{1b}[31mred\u{9b}2J\u{7}\u{202e}gnp.exe\u{2066}\nb\tc\u{7f}";
        let shown = escaped(hostile);
        assert!(!shown.chars().any(is_hidden), "{shown}");
        assert!(shown.starts_with("a\\u{1b}[31mred\\u{9b}2J"), "{shown}");
        // Negative control: other letters of the world stay as they are.
        assert_eq!(escaped("größe 木 \\n"), "größe 木 \\n");
    }

    #[test]
    fn one_is_singular() {
        let shown = [0, 1, 2].map(|number| counted(number, "key"));
        assert_eq!(shown, ["0 keys", "1 key", "2 keys"]);
    }
}
