//! CPU time, so that other load on the machine does not count.

#[cfg(any(target_os = "linux", target_os = "android"))]
mod source {
    use rustix::time::{ClockId, clock_gettime};

    pub(super) fn thread() -> u64 {
        nanos(ClockId::ThreadCPUTime)
    }

    pub(super) fn process() -> u64 {
        nanos(ClockId::ProcessCPUTime)
    }

    pub(super) fn children() -> u64 {
        // Fields of proc(5) after the name, which is in parentheses; the 16th is `cutime`.
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        let ticks = after_name.split_whitespace().nth(13);
        let ticks: u64 = ticks.and_then(|ticks| ticks.parse().ok()).unwrap_or(0);
        // `USER_HZ` is 100.
        ticks * 10_000_000
    }

    fn nanos(clock: ClockId) -> u64 {
        let time = clock_gettime(clock);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod source {
    pub(super) use super::wall as children;
    pub(super) use super::wall as process;
    pub(super) use super::wall as thread;
}

/// Returns the CPU time of this thread in nanoseconds; the elapsed time on other systems than
/// Linux.
pub(crate) fn thread() -> u64 {
    source::thread()
}

/// Returns the CPU time of this process in nanoseconds; the elapsed time on other systems than
/// Linux.
pub(crate) fn process() -> u64 {
    source::process()
}

/// Returns the CPU time of this process's ended children in user mode, in nanoseconds with a resolution
/// of 10 ms; the elapsed time on other systems than Linux.
pub(crate) fn children() -> u64 {
    source::children()
}

/// Returns the elapsed time in nanoseconds.
pub(crate) fn wall() -> u64 {
    static FIRST: std::sync::LazyLock<std::time::Instant> =
        std::sync::LazyLock::new(std::time::Instant::now);
    u64::try_from(FIRST.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
