//! The suggestion for the name of a setting that does not exist.

/// Ends of names that state a unit: those of settings first, then others that a user may write.
const UNITS: [&str; 14] = [
    "_ms",
    "_hours",
    "_milliseconds",
    "_millis",
    "_seconds",
    "_secs",
    "_sec",
    "_s",
    "_minutes",
    "_mins",
    "_days",
    "_bytes",
    "_kib",
    "_kb",
];

/// Formats which of `known` was probably meant by `typed`, with its unit, or else all of them. `write`
/// formats a name as the user would write it.
pub(super) fn suggestion(
    typed: &str,
    known: &[&'static str],
    write: impl Fn(&str) -> String,
) -> String {
    match nearest(typed, known) {
        Some(near) => format!("did you mean `{}`{}?", write(near), unit(near)),
        None => {
            let all = known.iter().map(|known| format!("`{}`", write(known)));
            format!("known are {}", all.collect::<Vec<_>>().join(", "))
        }
    }
}

/// Returns the unit of a setting's number, as an addition to its name.
fn unit(name: &str) -> &'static str {
    match name {
        "body_limit" => ", in bytes",
        _ if name.ends_with("_ms") => ", in milliseconds",
        _ if name.ends_with("_hours") => ", in hours",
        _ => "",
    }
}

/// Returns the name in `known` that `typed` most resembles, without the units of both, if one does.
fn nearest(typed: &str, known: &[&'static str]) -> Option<&'static str> {
    let typed = typed.replace('-', "_").to_ascii_lowercase();
    let typed = without_unit(&typed);
    let distance = |name: &str| {
        let name = without_unit(name);
        let slips = strsim::levenshtein(typed, name);
        // `flush_interval` for `usage_flush_interval_ms`.
        let part = typed.len() >= 4 && (name.contains(typed) || typed.contains(name));
        let near = part || slips <= name.len() / 3;
        near.then_some(slips)
    };
    let near = known
        .iter()
        .filter_map(|name| Some((distance(name)?, *name)));
    near.min().map(|(_, name)| name)
}

fn without_unit(name: &str) -> &str {
    let stem = UNITS.iter().find_map(|unit| name.strip_suffix(unit));
    stem.unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 7] = [
        "header_name",
        "prefix",
        "prefixes",
        "body_limit",
        "store_timeout_ms",
        "usage_flush_interval_ms",
        "usage_retention_hours",
    ];

    #[test]
    fn a_slip_or_another_unit_is_near_and_another_word_is_not() {
        for (typed, meant) in [
            ("haeder_nam", "header_name"),
            ("headerName", "header_name"),
            ("header-name", "header_name"),
            ("prefixx", "prefix"),
            ("prefixs", "prefix"),
            ("store_timeout", "store_timeout_ms"),
            ("store_timeout_secs", "store_timeout_ms"),
            ("store_timeout_seconds", "store_timeout_ms"),
            ("flush_interval_s", "usage_flush_interval_ms"),
            ("usage_retention_days", "usage_retention_hours"),
            ("retention", "usage_retention_hours"),
            ("body_limit_bytes", "body_limit"),
        ] {
            assert_eq!(nearest(typed, &KNOWN), Some(meant), "{typed}");
        }
        for typed in ["colour", "", "_ms", "pre"] {
            assert_eq!(nearest(typed, &KNOWN), None, "{typed}");
        }
    }

    #[test]
    fn the_message_has_the_unit() {
        let message = |typed| suggestion(typed, &KNOWN, str::to_owned);
        for (typed, end) in [
            ("store_timeout", "`store_timeout_ms`, in milliseconds?"),
            ("usage_retention", "`usage_retention_hours`, in hours?"),
            ("body_limt", "`body_limit`, in bytes?"),
            ("prefixx", "did you mean `prefix`?"),
        ] {
            assert!(message(typed).ends_with(end), "{}", message(typed));
        }
        assert!(message("colour").starts_with("known are `header_name`, `prefix`"));
    }
}
