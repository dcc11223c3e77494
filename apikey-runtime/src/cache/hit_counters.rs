//! Hit and miss counters of the cache.

use crate::util::striped::StripedU64;

/// Counts of hits and misses since the start, for the health report.
///
/// A hit is a check that the cache decided, by a valid entry or by an id remembered as unknown. A
/// miss is a check that had to query the store.
#[derive(Debug, Default)]
pub(crate) struct HitCounters(StripedU64<2>);

const HITS: usize = 0;
const MISSES: usize = 1;

impl HitCounters {
    /// Counts one check that the cache decided.
    #[inline]
    pub(crate) fn count_hit(&self) {
        self.0.count(HITS);
    }

    /// Counts one check that had to query the store.
    pub(crate) fn count_miss(&self) {
        self.0.count(MISSES);
    }

    /// Returns the hits since the start. Other threads keep writing while this sums the stripes; it
    /// may miss what they count meanwhile.
    pub(crate) fn hits(&self) -> u64 {
        self.0.sum(HITS)
    }

    /// Returns the misses since the start, with the caveat of [`hits`](Self::hits).
    pub(crate) fn misses(&self) -> u64 {
        self.0.sum(MISSES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::util::striped::STRIPES;

    /// More threads than stripes, in parallel and in sequence: no count is lost or counted twice.
    #[test]
    fn every_count_of_every_thread_is_in_the_sum() {
        let counters = HitCounters::default();
        let work = |_| {
            for _ in 0..1_000 {
                counters.count_hit();
            }
            counters.count_miss();
        };
        for _ in 0..3 {
            let together = std::sync::Barrier::new(STRIPES + 20);
            std::thread::scope(|scope| {
                for thread in 0..STRIPES + 20 {
                    let (together, work) = (&together, &work);
                    scope.spawn(move || {
                        // A thread keeps its slot until all threads have counted.
                        work(thread);
                        together.wait();
                        work(thread);
                    });
                }
            });
        }
        let threads = 3 * (STRIPES as u64 + 20);
        let counted = (counters.hits(), counters.misses());
        assert_eq!(counted, (threads * 2_000, threads * 2));
    }

    #[test]
    fn counters_of_two_managers_are_two() {
        let (first, second) = (HitCounters::default(), HitCounters::default());
        first.count_hit();
        second.count_miss();
        assert_eq!((first.hits(), first.misses()), (1, 0));
        assert_eq!((second.hits(), second.misses()), (0, 1));
    }
}
