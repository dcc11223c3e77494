//! The checks of a node, in a file that outlives the node.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::harness::history::{CHECK_BYTES, Check};

/// A killed node loses at most the checks of this period.
const FLUSHED_EVERY: Duration = Duration::from_millis(2);

/// Appends to the file.
#[derive(Debug)]
pub struct Log {
    file: File,
    pending: Mutex<Vec<u8>>,
}

impl Log {
    pub fn to(path: &Path) -> Arc<Self> {
        let file = OpenOptions::new().append(true).create(true).open(path);
        let log = Arc::new(Self {
            file: file.unwrap(),
            pending: Mutex::new(Vec::with_capacity(CHECK_BYTES * 1024)),
        });
        let flushed = Arc::clone(&log);
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(FLUSHED_EVERY);
                flushed.flush();
            }
        });
        log
    }

    pub fn note(&self, check: Check) {
        let mut pending = self.pending.lock().unwrap();
        pending.extend_from_slice(&check.to_bytes());
    }

    /// Hands the buffer to the operating system, which keeps it if the process is killed.
    pub fn flush(&self) {
        let mut pending = self.pending.lock().unwrap();
        (&self.file).write_all(&pending).unwrap();
        pending.clear();
    }
}
