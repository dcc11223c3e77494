//! Watches of keys: futures that end when a key may not go on.

mod end;
mod key_watch;
mod table;
#[cfg(test)]
mod tests;
mod waiter_count;
mod watchers;

use super::sync;

pub use end::WatchEnd;
pub use key_watch::KeyWatch;
pub(crate) use table::{KnownEnd, WatchedRequest, known_end};
pub(crate) use watchers::{WatchTime, Watchers, WatchersId};
