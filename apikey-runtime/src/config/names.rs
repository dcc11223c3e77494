//! "Did you mean": the known name nearest to a mistyped one.

/// The name of `known` that takes the fewest edits to reach from `typed`, if it is near.
pub(crate) fn closest<'k>(typed: &str, known: &[&'k str]) -> Option<&'k str> {
    let nearest = known
        .iter()
        .map(|name| (distance(typed, name), *name))
        .min()?;
    (nearest.0 <= nearest.1.len() / 3 + 1).then_some(nearest.1)
}

/// Levenshtein's distance, by bytes.
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.bytes().enumerate() {
            let substituted = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_near_and_another_word_is_not() {
        let known = ["header_name", "header_type", "prefix"];
        assert_eq!(closest("haeder_nam", &known), Some("header_name"));
        assert_eq!(closest("prefixx", &known), Some("prefix"));
        assert_eq!(closest("colour", &known), None);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
