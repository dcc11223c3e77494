//! Measuring in turns: A B C, A B C, and the median of all rounds.

/// Something that is measured: carries out so many, and returns the nanoseconds that they took.
pub(crate) type Work<'w> = Box<dyn FnMut(usize) -> u64 + 'w>;

/// What was measured of each subject: nanoseconds for one, round by round.
pub(crate) struct Rounds(Vec<Vec<f64>>);

/// Runs each subject in its turn, `each` at a time, `rounds` times over, after a tenth of that to
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
    /// Nanoseconds for one of `subject`.
    pub(crate) fn median(&self, subject: usize) -> f64 {
        median(self.0[subject].clone())
    }

    /// How the nanoseconds for one of `subject` are spread.
    pub(crate) fn spread(&self, subject: usize) -> super::spread::Spread {
        super::spread::Spread::new(self.0[subject].clone())
    }

    /// Nanoseconds that `subject` takes more than `base` of the same round.
    pub(crate) fn added(&self, subject: usize, base: usize) -> f64 {
        self.paired(subject, base, |left, right| left - right)
    }

    /// How many times the nanoseconds of `base` in the same round `subject` takes.
    pub(crate) fn ratio(&self, subject: usize, base: usize) -> f64 {
        self.paired(subject, base, |left, right| left / right)
    }

    fn paired(&self, subject: usize, base: usize, pair: impl Fn(f64, f64) -> f64) -> f64 {
        let pairs = self.0[subject].iter().zip(&self.0[base]);
        median(pairs.map(|(left, right)| pair(*left, *right)).collect())
    }
}

/// The one in the middle.
pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
