//! Tables of results.

/// Rows of description, figure, ratio and target, printed in columns.
pub(crate) struct Table {
    title: String,
    rows: Vec<[String; 4]>,
}

impl Table {
    /// Creates an empty table.
    pub(crate) fn new(title: impl Into<String>) -> Self {
        let head = ["what", "figure", "ratio", "target"].map(str::to_owned);
        Self {
            title: title.into(),
            rows: vec![head],
        }
    }

    /// Adds a row; a missing cell is an empty string.
    pub(crate) fn row(
        &mut self,
        what: impl Into<String>,
        figure: impl Into<String>,
        ratio: impl Into<String>,
        target: impl Into<String>,
    ) {
        self.rows
            .push([what.into(), figure.into(), ratio.into(), target.into()]);
    }

    /// Prints the table, with figures aligned to the right.
    pub(crate) fn print(&self) {
        let width = |at: usize| self.rows.iter().map(|row| row[at].chars().count()).max();
        let widths = [0, 1, 2, 3].map(|at| width(at).unwrap_or(0));
        println!("\n{}", self.title);
        for [what, figure, ratio, target] in &self.rows {
            let [first, second, third, fourth] = widths;
            println!("  {what:<first$}  {figure:>second$}  {ratio:>third$}  {target:>fourth$}");
        }
    }
}

/// Formats nanoseconds.
pub(crate) fn nanos(nanos: f64) -> String {
    format!("{nanos:.0} ns")
}

/// Formats a ratio.
pub(crate) fn times(ratio: f64) -> String {
    format!("{ratio:.2}")
}
