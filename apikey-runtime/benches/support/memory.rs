//! Memory use of the process.

use std::alloc::System;

use stats_alloc::StatsAlloc;

/// Returns the bytes allocated and not freed.
pub(crate) fn in_use(counted: &StatsAlloc<System>) -> usize {
    let stats = counted.stats();
    let grown = stats.bytes_allocated as isize;
    usize::try_from(grown - stats.bytes_deallocated as isize).unwrap_or(0)
}

/// Returns the resident bytes of the process, if the system reports them.
pub(crate) fn resident() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: usize = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}
