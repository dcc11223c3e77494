//! What nodes told of keys that expire soon, and whether it is what is promised.

use std::collections::{BTreeMap, BTreeSet};

use super::clock::Nanos;
use super::history::Process;

/// One event, as its node logged it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Telling {
    /// When the event was read.
    pub at: Nanos,
    pub process: Process,
    pub key: String,
    pub days: u32,
    /// The expiry, in milliseconds since 1970.
    pub expires: i64,
}

/// The store's answer that it has finished a notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noted {
    /// When the answer was read.
    pub at: Nanos,
    pub process: Process,
    pub key: String,
    pub expires: i64,
}

/// What a node logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    Told(Telling),
    Noted(Noted),
    /// Written immediately before the node kills itself.
    Dies(Nanos),
}

/// What all processes did.
#[derive(Debug, Default)]
pub struct Account {
    pub told: Vec<Telling>,
    pub noted: Vec<Noted>,
    /// When processes were killed, or killed themselves; read before. Processes that were stopped are not
    /// among them.
    pub died: BTreeMap<Process, Nanos>,
}

/// A key, a threshold and an expiry.
pub type Threshold = (String, u32, i64);

/// A broken promise.
#[derive(Debug, PartialEq, Eq)]
pub enum Broken {
    /// A threshold was not told.
    Lost(Threshold),
    /// A threshold was told again, although its teller had noted it, or had not died before.
    Twice(Threshold, Vec<Telling>),
    /// A threshold was told that was not reached, had passed before, or was not set any more.
    Unexpected(Telling),
}

impl Telling {
    pub fn threshold(&self) -> Threshold {
        (self.key.clone(), self.days, self.expires)
    }
}

impl Entry {
    /// Writes it without the process, which the file says.
    pub fn line(&self) -> String {
        match self {
            Self::Told(told) => {
                let Telling { at, key, days, .. } = told;
                format!("told {at} {key} {days} {}\n", told.expires)
            }
            Self::Noted(noted) => format!("noted {} {} {}\n", noted.at, noted.key, noted.expires),
            Self::Dies(at) => format!("dies {at}\n"),
        }
    }

    pub fn parse(process: Process, line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split(' ').collect();
        Some(match *words.as_slice() {
            ["told", at, key, days, expires] => Self::Told(Telling {
                at: at.parse().ok()?,
                process,
                key: key.to_owned(),
                days: days.parse().ok()?,
                expires: expires.parse().ok()?,
            }),
            ["noted", at, key, expires] => Self::Noted(Noted {
                at: at.parse().ok()?,
                process,
                key: key.to_owned(),
                expires: expires.parse().ok()?,
            }),
            ["dies", at] => Self::Dies(at.parse().ok()?),
            _ => return None,
        })
    }
}

impl Account {
    /// Adds what a process logged, and when it was killed.
    pub fn add(&mut self, process: Process, entries: Vec<Entry>, killed: Option<Nanos>) {
        let mut died = killed;
        for entry in entries {
            match entry {
                Entry::Told(telling) => self.told.push(telling),
                Entry::Noted(noted) => self.noted.push(noted),
                // It may be killed when it has ended.
                Entry::Dies(at) => died = Some(died.map_or(at, |killed| killed.min(at))),
            }
        }
        self.died.extend(died.map(|at| (process, at)));
    }

    /// Compares what was told with what had to be: each threshold once, and once more for each of its
    /// tellers that died before it had noted it, and before the next told it.
    pub fn judge(&self, expected: &BTreeSet<Threshold>) -> Vec<Broken> {
        let mut by_threshold: BTreeMap<Threshold, Vec<Telling>> = BTreeMap::new();
        let mut broken = Vec::new();
        for telling in &self.told {
            let threshold = telling.threshold();
            match expected.contains(&threshold) {
                true => by_threshold
                    .entry(threshold)
                    .or_default()
                    .push(telling.clone()),
                false => broken.push(Broken::Unexpected(telling.clone())),
            }
        }
        let noted = self.last_notes();
        for threshold in expected {
            let Some(mut tellings) = by_threshold.remove(threshold) else {
                broken.push(Broken::Lost(threshold.clone()));
                continue;
            };
            tellings.sort_unstable();
            let is_sound = tellings.windows(2).all(|pair| {
                let [one, next] = pair else { return false };
                let note = noted.get(&(one.process, one.key.as_str(), one.expires));
                let is_noted = note.is_some_and(|at| *at >= one.at);
                let died = self.died.get(&one.process);
                one.process != next.process && !is_noted && died.is_some_and(|at| *at < next.at)
            });
            if !is_sound {
                broken.push(Broken::Twice(threshold.clone(), tellings));
            }
        }
        broken
    }

    /// Returns when each process noted each notice last.
    fn last_notes(&self) -> BTreeMap<(Process, &str, i64), Nanos> {
        let mut last = BTreeMap::new();
        for noted in &self.noted {
            let notice = (noted.process, noted.key.as_str(), noted.expires);
            let at = last.entry(notice).or_insert(noted.at);
            *at = noted.at.max(*at);
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn telling(at: Nanos, process: Process) -> Telling {
        Telling {
            at,
            process,
            key: "a".to_owned(),
            days: 7,
            expires: 100,
        }
    }

    fn noted(at: Nanos, process: Process) -> Noted {
        Noted {
            at,
            process,
            key: "a".to_owned(),
            expires: 100,
        }
    }

    fn judged(told: &[Telling], noted: &[Noted], died: &[(Process, Nanos)]) -> Vec<Broken> {
        let account = Account {
            told: told.to_vec(),
            noted: noted.to_vec(),
            died: died.iter().copied().collect(),
        };
        account.judge(&BTreeSet::from([telling(0, 0).threshold()]))
    }

    fn is_twice(broken: &[Broken]) -> bool {
        matches!(broken, [Broken::Twice(..)])
    }

    #[test]
    fn each_threshold_is_told_once() {
        let lost = [Broken::Lost(telling(0, 0).threshold())];
        assert_eq!(judged(&[telling(1, 1)], &[noted(2, 1)], &[]), []);
        assert_eq!(judged(&[], &[], &[]), lost);
        // A note is not an event.
        assert_eq!(judged(&[], &[noted(2, 1)], &[]), lost);
        let mut other = telling(2, 1);
        other.days = 1;
        let told = [telling(1, 1), other.clone()];
        assert_eq!(judged(&told, &[], &[]), [Broken::Unexpected(other)]);
    }

    /// Process 1 tells at 10, and process 2 at 30.
    const TWO: fn() -> [Telling; 2] = || [telling(30, 2), telling(10, 1)];

    #[test]
    fn a_repetition_is_excused_if_the_teller_died_before_and_had_not_noted_it() {
        assert_eq!(judged(&TWO(), &[noted(40, 2)], &[(1, 20)]), []);
        // The second teller may die too, at any time.
        assert_eq!(judged(&TWO(), &[], &[(1, 20), (2, 40)]), []);
        let three = [telling(10, 1), telling(30, 2), telling(50, 3)];
        assert_eq!(judged(&three, &[noted(60, 3)], &[(1, 20), (2, 40)]), []);
    }

    #[test]
    fn a_repetition_is_not_excused_if_the_teller_lived_or_died_later() {
        assert!(is_twice(&judged(&TWO(), &[], &[])));
        assert!(is_twice(&judged(&TWO(), &[], &[(2, 20)])));
        for died in [30, 40] {
            assert!(is_twice(&judged(&TWO(), &[], &[(1, died)])), "{died}");
        }
        let three = [telling(10, 1), telling(30, 2), telling(50, 3)];
        assert!(is_twice(&judged(&three, &[], &[(1, 20), (2, 60)])));
        let same = [telling(10, 1), telling(30, 1)];
        assert!(is_twice(&judged(&same, &[], &[(1, 20)])));
    }

    #[test]
    fn a_repetition_is_not_excused_if_the_teller_had_noted_it() {
        for at in [10, 15] {
            let broken = judged(&TWO(), &[noted(at, 1)], &[(1, 20)]);
            assert!(is_twice(&broken), "noted at {at}");
        }
        // The last note counts.
        let notes = [noted(15, 1), noted(5, 1)];
        assert!(is_twice(&judged(&TWO(), &notes, &[(1, 20)])));
    }

    #[test]
    fn a_note_of_something_else_does_not_count() {
        // Of an earlier threshold, by another process, of another key, or of another expiry.
        let (mut key, mut expires) = (noted(15, 1), noted(15, 1));
        key.key = "b".to_owned();
        expires.expires = 200;
        for other in [noted(5, 1), noted(15, 2), key, expires] {
            let broken = judged(&TWO(), std::slice::from_ref(&other), &[(1, 20)]);
            assert_eq!(broken, [], "{other:?}");
        }
    }

    #[test]
    fn a_process_died_when_it_was_killed_or_killed_itself() {
        let died = |entries: &[Entry], killed| {
            let mut account = Account::default();
            account.add(3, entries.to_vec(), killed);
            account.died.remove(&3)
        };
        assert_eq!(died(&[], None), None);
        assert_eq!(died(&[], Some(9)), Some(9));
        assert_eq!(died(&[Entry::Dies(5)], None), Some(5));
        assert_eq!(died(&[Entry::Dies(5)], Some(9)), Some(5));
    }

    #[test]
    fn a_line_is_read_as_it_was_written() {
        for entry in [
            Entry::Told(telling(5, 3)),
            Entry::Noted(noted(5, 3)),
            Entry::Dies(5),
        ] {
            let line = entry.line();
            assert_eq!(Entry::parse(3, line.trim_end()), Some(entry));
        }
        assert_eq!(Entry::parse(3, "told 5 a"), None);
    }
}
