//! How figures are spread: their quantiles, and a picture of where they lie.

use super::table::Table;

/// Figures in nanoseconds, the least first.
pub(crate) struct Spread(Vec<f64>);

/// A part of a scale that counts in factors, and how many figures lie in it.
pub(crate) struct Bucket {
    /// Where it begins, in nanoseconds.
    pub(crate) from: f64,
    /// Where the next one begins.
    pub(crate) to: f64,
    pub(crate) count: usize,
}

impl Spread {
    pub(crate) fn new(mut figures: Vec<f64>) -> Self {
        figures.sort_by(f64::total_cmp);
        Self(figures)
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The least figure that this share of them does not exceed.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let rank = (self.0.len() as f64 * share).ceil() as usize;
        let last = self.0.len().saturating_sub(1);
        let at = rank.saturating_sub(1).min(last);
        self.0.get(at).copied().unwrap_or(f64::NAN)
    }

    /// The buckets from the least figure to the greatest, so many of them to a doubling.
    pub(crate) fn buckets(&self, to_a_doubling: i32) -> Vec<Bucket> {
        let step = f64::from(to_a_doubling);
        let bucket = |figure: f64| (figure.max(1.0).log2() * step).floor() as i32;
        let start = |bucket: i32| (f64::from(bucket) / step).exp2();
        let (Some(least), Some(greatest)) = (self.0.first(), self.0.last()) else {
            return Vec::new();
        };
        let count = |at| {
            self.0
                .iter()
                .filter(|figure| bucket(**figure) == at)
                .count()
        };
        (bucket(*least)..=bucket(*greatest))
            .map(|at| Bucket {
                from: start(at),
                to: start(at + 1),
                count: count(at),
            })
            .collect()
    }

    /// Adds rows of its quantiles; the target is that of the 99th of a hundred.
    pub(crate) fn rows(&self, table: &mut Table, what: &str, target: &str) {
        let quantiles = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0)];
        for (name, share) in quantiles {
            let target = if name == "p99" { target } else { "" };
            table.row(
                format!("{what}, {name}"),
                millis(self.quantile(share)),
                "",
                target,
            );
        }
    }

    /// Prints a line for each bucket, as long as it has figures.
    pub(crate) fn print(&self) {
        const WIDTH: usize = 60;
        let buckets = self.buckets(2);
        let most = buckets.iter().map(|bucket| bucket.count).max().unwrap_or(0);
        for Bucket { from, to, count } in buckets {
            let line = "#".repeat((count * WIDTH).div_ceil(most.max(1)));
            println!(
                "  {:>10} to {:>10}  {line} {count}",
                millis(from),
                millis(to)
            );
        }
    }
}

/// Milliseconds.
pub(crate) fn millis(nanos: f64) -> String {
    format!("{:.2} ms", nanos / 1e6)
}
