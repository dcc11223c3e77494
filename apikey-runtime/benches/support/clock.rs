//! CPU time, so that what else the machine does is not counted.

#[cfg(any(target_os = "linux", target_os = "android"))]
mod source {
    use rustix::time::{ClockId, clock_gettime};

    pub(super) fn thread() -> u64 {
        nanos(ClockId::ThreadCPUTime)
    }

    pub(super) fn process() -> u64 {
        nanos(ClockId::ProcessCPUTime)
    }

    fn nanos(clock: ClockId) -> u64 {
        let time = clock_gettime(clock);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod source {
    pub(super) use super::wall as process;
    pub(super) use super::wall as thread;
}

/// Nanoseconds that this thread was on a CPU; elsewhere than on Linux, that have passed.
pub(crate) fn thread() -> u64 {
    source::thread()
}

/// Nanoseconds that this process was on CPUs; elsewhere than on Linux, that have passed.
pub(crate) fn process() -> u64 {
    source::process()
}

/// Nanoseconds that have passed.
pub(crate) fn wall() -> u64 {
    static FIRST: std::sync::LazyLock<std::time::Instant> =
        std::sync::LazyLock::new(std::time::Instant::now);
    u64::try_from(FIRST.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
