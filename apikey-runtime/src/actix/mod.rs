//! The floor that knows actix-web.

mod answer;
mod extractor;
mod guarded;
mod install;
mod locate;
mod path;
mod route;
#[cfg(feature = "test-util")]
mod testing;

pub use guarded::{Guarded, GuardedFuture, Rest};
pub use route::{PlainPolicy, RoutePolicy};
#[cfg(feature = "test-util")]
pub use testing::{ActingKey, acting_as};
