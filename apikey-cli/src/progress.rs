//! Progress of what takes longer than a second, on stderr.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::args::Common;

/// How long a command is quiet.
const QUIET: Duration = Duration::from_secs(1);

/// A count that is shown on a terminal, after a second.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    began: Instant,
    is_shown: bool,
    may_show: bool,
}

impl Progress {
    /// Begins to count `what`, such as `keys`, up to `total` if it is known.
    pub(crate) fn new(common: &Common, what: &'static str, total: Option<u64>) -> Self {
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden());
        let template = match total {
            Some(_) => "{msg}: {pos} of {len} ({elapsed}, {eta} to go)",
            None => "{msg}: {pos} ({elapsed})",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(what);
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            bar,
            began: Instant::now(),
            is_shown: false,
            may_show: stderr().is_terminal() && !common.no_progress && !is_dumb,
        }
    }

    /// Sets the number of what is done.
    pub(crate) fn set(&mut self, done: u64) {
        self.bar.set_position(done);
        if self.may_show && !self.is_shown && self.began.elapsed() >= QUIET {
            self.is_shown = true;
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
    }
}

/// The line is removed when the work ends, whatever its end.
impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
