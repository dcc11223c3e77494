//! Which thresholds of a notice are due: a pure step.

use crate::clock::Timestamp;
use crate::store::ExpiryNotice;

const DAY_MILLIS: i64 = 86_400_000;

/// How soon after the setting of an expiry a threshold counts as passed. The expiry is often computed by a node's
/// clock, and the store's clock, by which it was set, may be behind, usually by some milliseconds: a key of exactly
/// a day is not told at once.
const SLACK_MILLIS: i64 = 1_000;

/// The thresholds of a notice that have not been told.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Agenda {
    /// The thresholds in days and their moments, the earliest first.
    untold: Vec<(u32, Timestamp)>,
    /// How many of them are due.
    due: usize,
}

impl Agenda {
    /// Sorts the thresholds, which are given in days, the largest first.
    ///
    /// A threshold that had passed when the expiry was set, or within a second of it, is not told, and neither is
    /// one before the time that the notice is planned for: it was told. At and after the expiry, none is left.
    pub(super) fn of(notice: &ExpiryNotice, days: &[u32], now: Timestamp) -> Self {
        let mut untold = Vec::new();
        if now < notice.expires {
            let moments = days.iter().map(|days| (*days, moment(notice, *days)));
            let set = notice.since.as_millis().saturating_add(SLACK_MILLIS);
            let is_untold = |at: Timestamp| match notice.planned {
                Some(planned) => at >= planned,
                None => at.as_millis() > set,
            };
            untold.extend(moments.filter(|(_, at)| is_untold(*at)));
        }
        let due = untold.iter().take_while(|(_, at)| *at <= now).count();
        Self { untold, due }
    }

    /// Returns the thresholds that are due, in days, in the order in which they are told.
    pub(super) fn due(&self) -> impl Iterator<Item = u32> {
        self.untold[..self.due].iter().map(|(days, _)| *days)
    }

    /// Returns the time for which the notice is planned after the first `told` thresholds were told; `None`
    /// if they were the last.
    pub(super) fn next(&self, told: usize) -> Option<Timestamp> {
        self.untold.get(told).map(|(_, at)| *at)
    }
}

fn moment(notice: &ExpiryNotice, days: u32) -> Timestamp {
    let before = i64::from(days) * DAY_MILLIS;
    Timestamp::from_millis(notice.expires.as_millis().saturating_sub(before))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::key::KeyId;

    fn at(days: f64) -> Timestamp {
        Timestamp::from_millis((days * DAY_MILLIS as f64) as i64)
    }

    fn notice(expires: Timestamp, since: Timestamp) -> ExpiryNotice {
        ExpiryNotice::new(KeyId::from_u128(1), expires, since)
    }

    fn due(notice: &ExpiryNotice, now: Timestamp) -> (Vec<u32>, Option<Timestamp>) {
        let agenda = Agenda::of(notice, &[30, 7, 1], now);
        let due: Vec<_> = agenda.due().collect();
        let next = agenda.next(due.len());
        (due, next)
    }

    #[test]
    fn thresholds_are_due_at_their_moments() {
        let mut notice = notice(at(100.0), at(0.0));
        assert_eq!(due(&notice, at(0.0)), (vec![], Some(at(70.0))));
        assert_eq!(due(&notice, at(69.9)), (vec![], Some(at(70.0))));
        assert_eq!(due(&notice, at(70.0)), (vec![30], Some(at(93.0))));
        notice = notice.with_planned(Some(at(93.0)));
        assert_eq!(due(&notice, at(92.9)), (vec![], Some(at(93.0))));
        assert_eq!(due(&notice, at(93.0)), (vec![7], Some(at(99.0))));
        notice = notice.with_planned(Some(at(99.0)));
        assert_eq!(due(&notice, at(99.5)), (vec![1], None));
        assert_eq!(due(&notice, at(100.0)), (vec![], None));
    }

    #[test]
    fn a_threshold_that_had_passed_when_the_expiry_was_set_is_not_told() {
        // A key of seven days.
        let notice = notice(at(107.0), at(100.0));
        assert_eq!(due(&notice, at(100.0)), (vec![], Some(at(106.0))));
        assert_eq!(due(&notice, at(106.5)), (vec![1], None));
    }

    /// The store's clock was behind that of the node that computed the expiry.
    #[test]
    fn a_threshold_within_a_second_of_the_setting_has_passed() {
        let second = 1.0 / 86_400.0;
        for (since, told) in [
            (6.5, true),
            (7.0 - second * 1.1, true),
            (7.0 - second * 0.9, false),
            (7.0, false),
            (7.1, false),
        ] {
            let notice = notice(at(8.0), at(since));
            let expected = if told { vec![1] } else { vec![] };
            assert_eq!(due(&notice, at(7.2)), (expected, None), "{since}");
        }
    }

    #[test]
    fn thresholds_that_nobody_told_are_told_late_and_not_after_the_end() {
        let notice = notice(at(100.0), at(0.0));
        assert_eq!(due(&notice, at(95.0)), (vec![30, 7], Some(at(99.0))));
        assert_eq!(due(&notice, at(99.9)), (vec![30, 7, 1], None));
        assert_eq!(due(&notice, at(200.0)), (vec![], None));
    }

    #[test]
    fn a_notice_that_was_not_told_to_the_end_is_planned_for_the_first_threshold_that_is_left() {
        let notice = notice(at(100.0), at(0.0));
        let agenda = Agenda::of(&notice, &[30, 7, 1], at(99.9));
        let next = |told| agenda.next(told);
        assert_eq!(next(0), Some(at(70.0)));
        assert_eq!(next(2), Some(at(99.0)));
        // The same thresholds are due then.
        let released = notice.with_planned(next(1));
        assert_eq!(due(&released, at(99.9)).0, [7, 1]);
        let released = notice.with_planned(next(0));
        assert_eq!(due(&released, at(99.9)).0, [30, 7, 1]);
    }

    #[test]
    fn extreme_times_are_ordered_too() {
        for expires in [Timestamp::MIN, Timestamp::MAX] {
            for since in [Timestamp::MIN, Timestamp::MAX] {
                for now in [Timestamp::MIN, Timestamp::MAX] {
                    let notice = notice(expires, since);
                    assert_eq!(due(&notice, now).0, [0; 0]);
                }
            }
        }
    }

    proptest! {
        /// Claims at any times tell each threshold between the setting and the expiry once, in order,
        /// however many of the due ones each claim tells.
        #[test]
        fn each_threshold_is_told_once(
            thresholds in proptest::collection::btree_set(1u32..60, 0..5),
            since in 0i64..100,
            lasts in 1i64..100,
            mut claims in proptest::collection::vec((0i64..220, 0usize..4), 0..12),
        ) {
            let hours = |days: i64| Timestamp::from_millis(days * DAY_MILLIS);
            let days: Vec<u32> = thresholds.into_iter().rev().collect();
            let (since, expires) = (hours(since), hours(since + lasts));
            claims.sort_unstable();
            let mut kept = Some(notice(expires, since));
            let mut told = Vec::new();
            let mut over = Timestamp::MIN;
            for (now, most) in claims {
                let now = hours(now);
                over = over.max(now);
                let Some(claimed) = kept.filter(|kept| kept.planned.is_none_or(|at| at <= now)) else {
                    continue;
                };
                let agenda = Agenda::of(&claimed, &days, now);
                let due: Vec<_> = agenda.due().take(most).collect();
                let next = agenda.next(due.len());
                told.extend(due);
                kept = next.map(|next| claimed.with_planned(Some(next)));
            }
            // Naively: those whose moments lie after the setting, up to a claim before the end.
            let moments = days.iter().map(|days| (*days, moment(&notice(expires, since), *days)));
            let may: Vec<u32> = moments
                .filter(|(_, at)| *at > since && *at <= over)
                .map(|(days, _)| days)
                .collect();
            prop_assert!(may.starts_with(&told), "{told:?} of {may:?}");
            // A later claim that tells all before the end tells the rest.
            if let Some(claimed) = kept {
                let last = Timestamp::from_millis(expires.as_millis() - 1);
                if last >= over {
                    told.extend(Agenda::of(&claimed, &days, last).due());
                    let all: Vec<u32> = days
                        .iter()
                        .copied()
                        .filter(|days| moment(&claimed, *days) > since)
                        .collect();
                    prop_assert_eq!(told, all);
                }
            }
        }
    }
}
