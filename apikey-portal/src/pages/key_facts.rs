//! The facts of a key, as its page shows them.

use apikey_runtime::usage::{LastUsed, NetworkUse};
use apikey_runtime::{KeyRecord, Timestamp};

use super::moment::Moment;
use super::text;

/// A fact: its name, a time, words, and texts that stand for themselves.
#[derive(Default)]
pub(super) struct Fact {
    pub(super) name: &'static str,
    pub(super) time: Option<Moment>,
    pub(super) words: String,
    /// Such as scopes and networks.
    pub(super) items: Vec<String>,
}

impl Fact {
    fn text(name: &'static str, words: impl Into<String>) -> Self {
        Self {
            name,
            words: words.into(),
            ..Self::default()
        }
    }

    fn time(name: &'static str, time: Moment, words: impl Into<String>) -> Self {
        Self {
            time: Some(time),
            ..Self::text(name, words)
        }
    }

    /// A list; `none` says what an empty one means.
    fn list(
        name: &'static str,
        items: impl IntoIterator<Item = String>,
        none: &'static str,
    ) -> Self {
        let items: Vec<_> = items.into_iter().collect();
        let words = if items.is_empty() { none } else { "" };
        Self {
            items,
            ..Self::text(name, words)
        }
    }
}

/// The facts of a key at a time. `uses` is its last use and the networks of its uses; `None` if the store does not
/// keep them.
pub(super) fn of(
    record: &KeyRecord,
    uses: Option<(Option<&LastUsed>, &[NetworkUse])>,
    now: Timestamp,
) -> Vec<Fact> {
    let mut facts = vec![Fact::list(
        "Key",
        [text::beginning(record, text::ID_LEN)],
        "",
    )];
    let set = [
        ("Owner", &record.owner),
        ("Environment", &record.environment),
    ];
    for (name, text) in set {
        if let Some(text) = text {
            facts.push(Fact::text(name, text));
        }
    }
    facts.extend([
        Fact::list("Scopes", record.scopes.iter().map(str::to_owned), "none"),
        Fact::list(
            "Networks",
            record.networks.iter().map(ToString::to_string),
            "any",
        ),
        Fact::list("Methods", record.methods.iter().cloned(), "any"),
    ]);
    facts.extend(times(record, now));
    if let Some((used, networks)) = uses {
        facts.extend(of_uses(used, networks, now));
    }
    facts
}

/// When the key begins and ends, and who changed it.
fn times(record: &KeyRecord, now: Timestamp) -> Vec<Fact> {
    let by = |actor: &Option<String>| {
        let text = actor.as_ref().map(|actor| format!("by {actor}"));
        text.unwrap_or_default()
    };
    let mut facts = Vec::new();
    if let Some(start) = record.not_before.filter(|start| *start > now) {
        facts.push(Fact::time("Valid from", Moment::exact(start), ""));
    }
    if let Some(revocation) = &record.revoked {
        let reason = revocation.reason.as_deref().unwrap_or_default();
        let time = Moment::ago(revocation.at, now);
        facts.push(Fact::time("Revoked", time, reason));
    }
    facts.push(match record.expires {
        Some(end) => Fact::time("End", Moment::end(end, now), ""),
        None => Fact::text("End", "does not expire"),
    });
    let created = Moment::ago(record.created, now);
    facts.push(Fact::time("Created", created, by(&record.created_by)));
    // A rotation is a change too.
    let changes = record.version.saturating_sub(1);
    let counts = [
        ("Rotated", record.rotations),
        ("Changed", changes.saturating_sub(record.rotations)),
    ];
    for (name, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
        facts.push(Fact::text(name, times_of(count)));
    }
    if let Some(actor) = record.updated_by.as_ref().filter(|_| changes > 0) {
        facts.push(Fact::text("Last change", format!("by {actor}")));
    }
    facts
}

/// When and from where the key was used.
fn of_uses(used: Option<&LastUsed>, networks: &[NetworkUse], now: Timestamp) -> Vec<Fact> {
    let Some(used) = used else {
        return vec![Fact::text("Last used", "never")];
    };
    let from = used.network.map(|network| format!("from {network}"));
    let last = Fact::time(
        "Last used",
        Moment::ago(used.at, now),
        from.unwrap_or_default(),
    );
    let latest = networks.iter().map(|seen| seen.network.to_string());
    match networks.len() {
        0 | 1 => vec![last],
        _ => vec![last, Fact::list("Used from", latest, "")],
    }
}

fn times_of(count: u64) -> String {
    match count {
        1 => "once".to_owned(),
        _ => format!("{count} times"),
    }
}
