//! What the process takes up.

use std::alloc::System;

use stats_alloc::StatsAlloc;

/// Bytes that were asked for and not given back.
pub(crate) fn in_use(counted: &StatsAlloc<System>) -> usize {
    let stats = counted.stats();
    let grown = stats.bytes_allocated as isize;
    usize::try_from(grown - stats.bytes_deallocated as isize).unwrap_or(0)
}

/// Bytes of memory that the process occupies, where the system tells.
pub(crate) fn resident() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: usize = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}
