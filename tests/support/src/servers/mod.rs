//! Servers that tests start on free ports, and that end with the process.

use std::path::{Path, PathBuf};

pub mod postgres;
pub mod redis;
pub mod reverse_proxy;
mod running;

pub use running::free_port;
use tempfile::TempDir;

/// The free memory from which on servers keep their data in it, in bytes.
const ROOM: u64 = 2 << 30;

/// Creates a folder for a store's file, where servers keep their data.
pub fn data_folder() -> TempDir {
    tempfile::tempdir_in(data_root()).unwrap()
}

/// Returns the folder for the data of servers: in memory, unless `TMPDIR` names one or memory is short. On a disk that
/// other programs sync, a commit takes longer than a call of a store may.
fn data_root() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let has_room = rustix::fs::statvfs(memory)
        .is_ok_and(|system| system.f_bavail.saturating_mul(system.f_frsize) >= ROOM);
    match std::env::var_os("TMPDIR") {
        None if has_room => memory.to_owned(),
        _ => std::env::temp_dir(),
    }
}
