//! Interleaved measurement: A B C, A B C, and the median of all rounds.

/// A measured subject: runs the given number of times, and returns the nanoseconds that this took.
pub(crate) type Work<'w> = Box<dyn FnMut(usize) -> u64 + 'w>;

/// The measurements of each subject: nanoseconds per run, by round.
pub(crate) struct Rounds(Vec<Vec<f64>>);

/// Runs each subject in turn, `each` times per round, for `rounds` rounds, after a tenth of them to
/// warm up.
pub(crate) fn in_turns(rounds: usize, each: usize, subjects: &mut [Work<'_>]) -> Rounds {
    let mut measured = vec![Vec::with_capacity(rounds); subjects.len()];
    let warm_up = rounds.div_ceil(10);
    for round in 0..warm_up + rounds {
        for (work, figures) in subjects.iter_mut().zip(&mut measured) {
            let nanos = work(each) as f64 / each as f64;
            if round >= warm_up {
                figures.push(nanos);
            }
        }
    }
    Rounds(measured)
}

impl Rounds {
    /// Returns the median nanoseconds per run of `subject`.
    pub(crate) fn median(&self, subject: usize) -> f64 {
        median(self.0[subject].clone())
    }

    /// Returns the distribution of the nanoseconds per run of `subject`.
    pub(crate) fn spread(&self, subject: usize) -> super::spread::Spread {
        super::spread::Spread::new(self.0[subject].clone())
    }

    /// Returns the nanoseconds that `subject` takes longer than `base` in the same round.
    pub(crate) fn added(&self, subject: usize, base: usize) -> f64 {
        self.paired(subject, base, |left, right| left - right)
    }

    /// Returns the ratio of the time of `subject` to that of `base` in the same round.
    pub(crate) fn ratio(&self, subject: usize, base: usize) -> f64 {
        self.paired(subject, base, |left, right| left / right)
    }

    fn paired(&self, subject: usize, base: usize, pair: impl Fn(f64, f64) -> f64) -> f64 {
        let pairs = self.0[subject].iter().zip(&self.0[base]);
        median(pairs.map(|(left, right)| pair(*left, *right)).collect())
    }
}

/// Returns the median.
pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
