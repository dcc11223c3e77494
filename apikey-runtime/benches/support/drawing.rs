//! A chart of several distributions, stacked on a common scale.

use std::fmt::{self, Write};

use super::spread::{Spread, millis};

/// The bounds of the scale, in milliseconds.
const SCALE: [f64; 2] = [0.1, 500.0];
const MARKS: [f64; 12] = [
    0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0,
];
/// The left and right edge of the plot.
const PLOT: [f64; 2] = [110.0, 740.0];
const TOP: f64 = 40.0;
/// The height of a plot, and the distance from one plot to the next.
const HEIGHT: f64 = 70.0;
const APART: f64 = 100.0;

/// Legible on light and dark pages.
const STYLE: &str = "text{font:13px sans-serif;fill:#1f2328}.small{font-size:11px;fill:#59636e}\
    .bar{fill:#2f6fdb}.line{stroke:#d1d9e0}.target{stroke:#cf222e;stroke-dasharray:4 3}\
    @media(prefers-color-scheme:dark){text{fill:#e6edf3}.small{fill:#9198a1}.bar{fill:#5b9bff}\
    .line{stroke:#3d444d}.target{stroke:#ff7b72}}";

/// A distribution, its name, and its target in milliseconds, if it has one.
pub(crate) struct Drawn<'s> {
    pub(crate) name: &'s str,
    pub(crate) spread: &'s Spread,
    pub(crate) target: Option<f64>,
}

/// Returns the chart as SVG. The height of a bar is its share of the distribution.
///
/// # Errors
///
/// Never fails: writing to a `String` is infallible.
pub(crate) fn draw(title: &str, all: &[Drawn<'_>]) -> Result<String, fmt::Error> {
    let height = TOP + APART * all.len() as f64 + 24.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 760 {height}\" role=\"img\" \
         aria-label=\"{title}\">\n<style>{STYLE}</style>\n<text x=\"10\" y=\"20\">{title}</text>\n"
    );
    for (row, drawn) in all.iter().enumerate() {
        row_of(&mut svg, drawn, TOP + APART * row as f64)?;
    }
    for mark in MARKS {
        let (x, y) = (across(mark), TOP + APART * all.len() as f64 + 6.0);
        writeln!(
            svg,
            "<text class=\"small\" text-anchor=\"middle\" x=\"{x:.1}\" y=\"{y}\">{mark}</text>"
        )?;
    }
    writeln!(
        svg,
        "<text class=\"small\" x=\"10\" y=\"{}\">milliseconds</text>\n</svg>",
        height - 18.0
    )?;
    Ok(svg)
}

fn row_of(svg: &mut String, drawn: &Drawn<'_>, top: f64) -> fmt::Result {
    let base = top + HEIGHT + 10.0;
    let Drawn {
        name,
        spread,
        target,
    } = drawn;
    let (half, most) = (spread.quantile(0.5), spread.quantile(0.99));
    writeln!(
        svg,
        "<text x=\"10\" y=\"{}\">{name}</text>\n\
         <text class=\"small\" x=\"10\" y=\"{}\">p50 {}</text>\n\
         <text class=\"small\" x=\"10\" y=\"{}\">p99 {}</text>",
        base - 40.0,
        base - 22.0,
        millis(half),
        base - 6.0,
        millis(most)
    )?;
    for mark in MARKS {
        let x = across(mark);
        writeln!(
            svg,
            "<line class=\"line\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{}\" y2=\"{base}\"/>",
            base - HEIGHT
        )?;
    }
    bars(svg, spread, base)?;
    if let Some(target) = target {
        let x = across(*target);
        writeln!(
            svg,
            "<line class=\"target\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{}\" y2=\"{base}\"/>\n\
             <text class=\"small\" x=\"{:.1}\" y=\"{}\">target of p99</text>",
            base - HEIGHT,
            x + 4.0,
            base - HEIGHT + 10.0
        )?;
    }
    Ok(())
}

fn bars(svg: &mut String, spread: &Spread, base: f64) -> fmt::Result {
    let buckets = spread.buckets(4);
    let most = buckets.iter().map(|bucket| bucket.count).max().unwrap_or(1);
    for bucket in buckets.iter().filter(|bucket| bucket.count > 0) {
        let (x, end) = (across(bucket.from / 1e6), across(bucket.to / 1e6));
        // A single figure of a thousand must be visible too.
        let height = (bucket.count as f64 / most as f64 * HEIGHT).max(1.0);
        writeln!(
            svg,
            "<rect class=\"bar\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{height:.1}\">\
             <title>{} to {}: {} of {}</title></rect>",
            base - height,
            (end - x - 1.0).max(0.5),
            millis(bucket.from),
            millis(bucket.to),
            bucket.count,
            spread.count()
        )?;
    }
    Ok(())
}

/// Returns the horizontal position of `millis`.
fn across(millis: f64) -> f64 {
    let [least, greatest] = SCALE;
    let share = (millis.clamp(least, greatest) / least).ln() / (greatest / least).ln();
    PLOT[0] + (PLOT[1] - PLOT[0]) * share
}
