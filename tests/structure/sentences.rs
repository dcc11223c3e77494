//! The sentences of the comments: conditions with "if" and "when", negation with "not".

use crate::source::files;

/// Negations and subjects of another language's grammar.
const FOREIGN: [&str; 9] = [
    "is no",
    "are no",
    "is none",
    "are none",
    "nobody",
    "whoever",
    "so many",
    "anew",
    "none of its own",
];

/// The occurrences of [`FOREIGN`] in the sources of one crate, at most.
const MAX_FOREIGN: usize = 5;

/// Counts a word or phrase, between word boundaries.
fn count(text: &str, phrase: &str) -> usize {
    let text = text.to_lowercase();
    let is_boundary = |letter: Option<char>| !letter.is_some_and(char::is_alphanumeric);
    text.match_indices(phrase)
        .filter(|(at, _)| {
            is_boundary(text[..*at].chars().next_back())
                && is_boundary(text[at + phrase.len()..].chars().next())
        })
        .count()
}

fn comments(krate: &str) -> String {
    let comments = files(krate)
        .iter()
        .map(|file| file.comments())
        .collect::<String>();
    // A phrase may be broken by the end of a line.
    comments.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn conditions_take_if_and_when() {
    for krate in [
        "apikey-cli",
        "apikey-macros",
        "apikey-portal",
        "apikey-runtime",
    ] {
        let comments = comments(krate);
        let conditions = count(&comments, "if") + count(&comments, "when");
        let wheres = count(&comments, "where");
        assert!(conditions > 10, "{krate}: no comments were read");
        assert!(
            wheres * 10 <= conditions,
            "{krate}: \"where\" {wheres} times, \"if\" and \"when\" {conditions} times"
        );
    }
}

#[test]
fn negation_takes_not_and_subjects_are_nouns() {
    for krate in [
        "apikey-cli",
        "apikey-macros",
        "apikey-portal",
        "apikey-runtime",
    ] {
        let comments = comments(krate);
        let found: Vec<_> = FOREIGN
            .map(|phrase| (phrase, count(&comments, phrase)))
            .into();
        let all: usize = found.iter().map(|(_, times)| times).sum();
        assert!(all <= MAX_FOREIGN, "{krate}: {found:?}");
    }
}

/// Negative control.
#[test]
fn words_are_counted_between_boundaries() {
    let text = "Where it is no key, nobody knows. Whereas is none.";
    assert_eq!((count(text, "where"), count(text, "is no")), (1, 1));
    assert_eq!((count(text, "nobody"), count(text, "is none")), (1, 1));
    assert_eq!(count(text, "if"), 0);
}
