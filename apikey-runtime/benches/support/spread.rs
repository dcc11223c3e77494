//! Distributions of figures: their quantiles, and a histogram.

use super::table::Table;

/// Figures in nanoseconds, sorted in ascending order.
pub(crate) struct Spread(Vec<f64>);

/// A bucket of a logarithmic scale, and the number of figures in it.
pub(crate) struct Bucket {
    /// The start, in nanoseconds.
    pub(crate) from: f64,
    /// The start of the next bucket.
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

    /// Returns the smallest figure that this share of them does not exceed.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let rank = (self.0.len() as f64 * share).ceil() as usize;
        let last = self.0.len().saturating_sub(1);
        let at = rank.saturating_sub(1).min(last);
        self.0.get(at).copied().unwrap_or(f64::NAN)
    }

    /// Returns the buckets from the smallest to the largest figure, `to_a_doubling` per factor of
    /// two.
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

    /// Adds rows of the quantiles; the target applies to the 99th percentile.
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

    /// Prints a line per bucket, with a bar as long as its share.
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

/// Formats nanoseconds as milliseconds.
pub(crate) fn millis(nanos: f64) -> String {
    format!("{:.2} ms", nanos / 1e6)
}
