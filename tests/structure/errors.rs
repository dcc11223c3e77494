//! The cause of an error is not lost: a log line shows the whole chain, and an error that is dropped
//! is named.

use crate::source::{SourceFile, files};

/// Fragments that show an error without its causes, or drop one.
const LOSSES: [(&str, &str); 6] = [
    ("%error", "write `error = %ErrorChain(&error)`"),
    ("?error,", "write `error = %ErrorChain(&error)`"),
    ("error = %error", "write `error = %ErrorChain(&error)`"),
    ("error.to_string()", "keep the error as `source`"),
    ("map_err(|_|", "name what is dropped, as in `|_elapsed|`"),
    (
        "unwrap_or_else(|_|",
        "name what is dropped, as in `|_elapsed|`",
    ),
];

/// Lines that do this for a reason: they look into the text of an error.
const EXCEPTIONS: [&str; 3] = [
    "secret.is_some_and(|secret| !secret.is_empty() && error.to_string().contains(secret))",
    "let text = error.to_string();",
    "sqlx::Error::Database(database) => ServerMessage::new(database.as_ref()).to_string(),",
];

fn losses(files: &[SourceFile]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files {
        for line in file.code().map(str::trim) {
            let loss = LOSSES.iter().find(|(loss, _)| line.contains(loss));
            if let Some((_, remedy)) = loss.filter(|_| !EXCEPTIONS.contains(&line)) {
                found.push(format!("{}: {line}: {remedy}", file.path));
            }
        }
    }
    found
}

#[test]
fn no_log_line_and_no_error_loses_its_cause() {
    assert_eq!(losses(&files("apikey-runtime")), [""; 0]);
}

/// Negative control.
#[test]
fn a_lost_cause_is_found() {
    let file = |text: &str| SourceFile {
        path: "a.rs".to_owned(),
        text: text.to_owned(),
    };
    for line in [
        "tracing::warn!(%error, \"it failed\");",
        "tracing::warn!(key_id = %id, error = %error, \"it failed\");",
        "StoreError::unavailable(error.to_string())",
        "call.await.map_err(|_| late())?",
    ] {
        assert_eq!(losses(&[file(line)]).len(), 1, "{line}");
    }
    for line in [
        "tracing::warn!(error = %ErrorChain(&error), \"it failed\");",
        "call.await.map_err(|_elapsed| late())?",
        "// map_err(|_| late()) in a comment",
    ] {
        assert_eq!(losses(&[file(line)]), [""; 0], "{line}");
    }
}
