//! How many decisions were made from memory, and how many had to ask the store.

use crate::util::striped::StripedU64;

/// Counts of hits and misses since the start, for a health report.
///
/// A hit is a decision that was made from memory: by an entry that was believed, or by an id that
/// is remembered as unknown. A miss is one for which the store had to be asked.
#[derive(Debug, Default)]
pub(crate) struct HitCounters(StripedU64<2>);

const HITS: usize = 0;
const MISSES: usize = 1;

impl HitCounters {
    /// One decision was made from memory.
    pub(crate) fn count_hit(&self) {
        self.0.count(HITS);
    }

    /// One decision had to ask the store.
    pub(crate) fn count_miss(&self) {
        self.0.count(MISSES);
    }

    /// Hits since the start. A sum of cells that others go on writing: what is counted while this
    /// runs may be in it or not.
    pub(crate) fn hits(&self) -> u64 {
        self.0.sum(HITS)
    }

    /// Misses since the start, as [`hits`](Self::hits) are.
    pub(crate) fn misses(&self) -> u64 {
        self.0.sum(MISSES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::util::striped::STRIPES;

    /// More threads than cells, at once and one after the other: nothing is lost or counted twice.
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
                        // Whoever counts now holds its place until all do.
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
