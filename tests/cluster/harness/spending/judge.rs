//! Compares what nodes were allowed with the limits of the key.

use apikey_runtime::Rate;
use apikey_runtime::limit::LimitRule;

use super::{End, Spent};
use crate::harness::clock::Nanos;
use crate::harness::history::Check;

/// Added to the thousandth by which the clocks of a store and of this machine may differ, because a
/// store counts in steps.
const SLACK: Nanos = 1_000_000;

/// The status of a quota.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    pub name: String,
    pub amount: u64,
    pub remaining: u64,
}

/// The rule that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Broken {
    /// More was allowed than the quota has.
    TooMany { quota: u64, admitted: u64 },
    /// Less was charged than was allowed.
    Uncharged { charged: u64, admitted: u64 },
    /// More was charged than was allowed plus what checks in progress may have lost.
    Lost {
        charged: u64,
        admitted: u64,
        unsure: u64,
    },
    /// Quotas were charged differently: one of them unlike the first.
    Unlike { charged: u64, first: u64 },
    /// All checks were denied, but a quota was not used up.
    LeftOver { remaining: u64 },
    /// More was allowed in a window than the rate permits.
    TooFast {
        window: Nanos,
        admitted: u64,
        allowed: u64,
    },
    /// A rate allowed much less than it permits.
    TooSlow { admitted: u64, allowed: u64 },
}

impl Standing {
    fn charged(&self) -> u64 {
        self.amount - self.remaining
    }
}

impl Spent {
    /// Returns violations of quotas with this status, after all nodes are done.
    pub fn judge(&self, standings: &[Standing]) -> Vec<Broken> {
        let (admitted, unsure) = (self.admitted.len() as u64, self.unsure);
        let mut broken = Vec::new();
        for standing in standings {
            let (quota, charged) = (standing.amount, standing.charged());
            if admitted > quota {
                broken.push(Broken::TooMany { quota, admitted });
            }
            if charged < admitted {
                broken.push(Broken::Uncharged { charged, admitted });
            }
            if charged > admitted + unsure {
                broken.push(Broken::Lost {
                    charged,
                    admitted,
                    unsure,
                });
            }
            let first = standings[0].charged();
            if charged.abs_diff(first) > self.half_given_back {
                broken.push(Broken::Unlike { charged, first });
            }
        }
        let least = standings.iter().map(|standing| standing.remaining).min();
        match least {
            Some(remaining) if remaining > 0 && self.end == End::UsedUp => {
                broken.push(Broken::LeftOver { remaining });
            }
            _ => {}
        }
        broken
    }

    /// Returns violations of rates. A check that began and ended in a window was decided in it,
    /// whatever the store's clock says.
    pub fn judge_speed(&self) -> Vec<Broken> {
        let rates = self.limits.iter().filter_map(|limit| match limit.rule() {
            LimitRule::Rate(rate) => Some(rate),
            _ => None,
        });
        rates
            .flat_map(|rate| [too_fast(&self.admitted, rate), self.too_slow(rate)])
            .flatten()
            .collect()
    }

    /// A rate that allows less than half does not keep its promise, and does not prove anything.
    fn too_slow(&self, rate: Rate) -> Option<Broken> {
        let (admitted, allowed) = (self.admitted.len() as u64, allowed(rate, self.lasted));
        (admitted * 2 < allowed).then_some(Broken::TooSlow { admitted, allowed })
    }
}

/// Returns how many checks a window may allow.
fn allowed(rate: Rate, window: Nanos) -> u64 {
    u64::from(rate.burst()) + window / (rate.step_micros() * 1_000)
}

/// Returns the worst window.
fn too_fast(admitted: &[Check], rate: Rate) -> Option<Broken> {
    let mut by_end: Vec<&Check> = admitted.iter().collect();
    by_end.sort_by_key(|check| check.end);
    let mut worst = None;
    for first in admitted {
        let within = by_end.iter().filter(|check| check.start >= first.start);
        for (passed, last) in (1..).zip(within) {
            let window = last.end - first.start;
            let allowed = allowed(rate, window / 1000 * 1001 + SLACK);
            let over = passed - i128::from(allowed);
            if over > 0 && worst.as_ref().is_none_or(|(most, _)| over > *most) {
                let admitted = passed as u64;
                worst = Some((
                    over,
                    Broken::TooFast {
                        window,
                        admitted,
                        allowed,
                    },
                ));
            }
        }
    }
    worst.map(|(_, broken)| broken)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use apikey_runtime::{Limit, Quota};

    use super::*;
    use crate::harness::history::Outcome;

    const MILLI: Nanos = 1_000_000;

    /// Builds admissions at these times, in milliseconds; each takes one millisecond.
    fn spent(limit: Limit, admitted: impl IntoIterator<Item = Nanos>) -> Spent {
        let check = |at: Nanos| Check {
            key: 1,
            process: 1,
            start: at * MILLI,
            end: (at + 1) * MILLI,
            outcome: Outcome::Accepted,
        };
        Spent {
            id: String::new(),
            secret: String::new(),
            limits: vec![limit],
            end: End::UsedUp,
            admitted: admitted.into_iter().map(check).collect(),
            unsure: 0,
            half_given_back: 0,
            refused: Default::default(),
            lasted: 1_000 * MILLI,
        }
    }

    fn standing(amount: u64, remaining: u64) -> Standing {
        Standing {
            name: "a".to_owned(),
            amount,
            remaining,
        }
    }

    fn of_ten(admitted: Nanos) -> Spent {
        spent(Limit::new("a", Quota::lifetime(10)), 0..admitted)
    }

    #[test]
    fn a_quota_admits_its_amount_and_counts_it() {
        assert_eq!(of_ten(10).judge(&[standing(10, 0)]), []);
        let [quota, admitted] = [10, 11];
        let too_many = of_ten(11).judge(&[standing(10, 0)]);
        assert!(too_many.contains(&Broken::TooMany { quota, admitted }));
        let uncharged = of_ten(10).judge(&[standing(11, 2)]);
        let [charged, admitted] = [9, 10];
        assert!(uncharged.contains(&Broken::Uncharged { charged, admitted }));
    }

    #[test]
    fn no_more_is_lost_than_was_under_way() {
        let mut spent = of_ten(7);
        spent.unsure = 3;
        assert_eq!(spent.judge(&[standing(10, 0)]), []);
        spent.unsure = 2;
        let [charged, admitted, unsure] = [10, 7, 2];
        let lost = Broken::Lost {
            charged,
            admitted,
            unsure,
        };
        assert_eq!(spent.judge(&[standing(10, 0)]), [lost]);
    }

    #[test]
    fn quotas_are_charged_alike_and_one_is_used_up() {
        let spent = of_ten(10);
        assert_eq!(spent.judge(&[standing(10, 0), standing(30, 20)]), []);
        let left = spent.judge(&[standing(20, 10), standing(30, 20)]);
        assert_eq!(left, [Broken::LeftOver { remaining: 10 }]);
        let unlike = spent.judge(&[standing(10, 0), standing(30, 19)]);
        let [charged, first] = [11, 10];
        assert!(unlike.contains(&Broken::Unlike { charged, first }));
    }

    /// One each 100 ms and a burst of 3: the first 4 need 101 ms, and 4 are allowed in that time.
    #[test]
    fn a_rate_holds_in_any_window() {
        let rate = Rate::new(10, Duration::from_secs(1)).with_burst(3);
        let limit = || Limit::new("a", rate);
        let sound = [0, 0, 0, 100, 200, 300, 400, 500, 600, 700, 800, 900];
        assert_eq!(spent(limit(), sound).judge_speed(), []);
        let fast = [0, 0, 0, 100, 200, 300, 390, 395, 400, 500];
        let broken = spent(limit(), fast).judge_speed();
        assert!(matches!(broken[..], [Broken::TooFast { .. }]), "{broken:?}");
        let slow = spent(limit(), [0, 500]).judge_speed();
        let [admitted, allowed] = [2, 13];
        assert_eq!(slow, [Broken::TooSlow { admitted, allowed }]);
    }
}
