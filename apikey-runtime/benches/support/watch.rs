//! Checks a key on a thread of its own, until it is denied.

use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use apikey_runtime::{ApiKeyManager, Denied, DenyReason, NewKey};
use tokio::runtime::Builder;

use super::clock;

/// The pause between two checks of the observed node, so that this thread does not take the CPU
/// from the threads that deliver the change. The figures are too long by this pause, never too
/// short.
const LOOKS_APART: Duration = Duration::from_micros(20);

/// Starts to check `key`, and signals when it is cached. The thread returns the start of the last
/// allowed check and the end of the first denied one.
pub(crate) fn start(
    manager: &ApiKeyManager,
    key: &NewKey,
    tell: mpsc::Sender<()>,
) -> JoinHandle<Result<[u64; 2], Denied>> {
    let (manager, secret) = (manager.clone(), key.expose_secret().to_owned());
    std::thread::spawn(move || until_denied(&manager, &secret, &tell))
}

fn until_denied(
    manager: &ApiKeyManager,
    key: &str,
    tell: &mpsc::Sender<()>,
) -> Result<[u64; 2], Denied> {
    // Without drivers: what a check waits for runs on the manager's thread.
    let Ok(runtime) = Builder::new_current_thread().build() else {
        panic!("a runtime without drivers was not built");
    };
    runtime.block_on(manager.verify(key))?;
    let mut accepted = clock::wall();
    let _ = tell.send(());
    loop {
        let begun = clock::wall();
        match runtime.block_on(manager.verify(key)) {
            Ok(_) => accepted = begun,
            Err(denied) if denied.reason() == DenyReason::Revoked => {
                return Ok([accepted, clock::wall()]);
            }
            Err(denied) => return Err(denied),
        }
        std::thread::sleep(LOOKS_APART);
    }
}
