//! What a person has to know, on stderr.

use std::io::Write;

use crate::text::escaped;

/// Writes what was done, or what comes next.
pub(crate) fn note(text: &str) {
    say("\x1b[1mnote:\x1b[0m", text);
}

/// Writes what may be wrong.
pub(crate) fn warn(text: &str) {
    say("\x1b[1;33mwarning:\x1b[0m", text);
}

fn say(kind: &str, text: &str) {
    // The command goes on without a reader.
    let _ = writeln!(anstream::stderr(), "{kind} {}", escaped(text));
}
