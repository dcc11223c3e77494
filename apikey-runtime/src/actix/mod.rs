//! The floor that knows actix-web.

mod answer;
mod body;
mod client;
mod extractor;
mod forwarded;
mod gate;
mod guarded;
mod install;
mod limits;
mod locate;
mod middleware;
mod pattern;
mod route;
mod strip;
#[cfg(feature = "test-util")]
mod testing;

pub use guarded::{Guarded, GuardedFuture, Rest};
pub use limits::RateLimitHeaders;
pub use middleware::RequireApiKey;
pub use route::{PlainPolicy, RoutePolicy};
#[cfg(feature = "test-util")]
pub use testing::{ActingKey, acting_as};
