//! Usage: what is counted, how it reaches the store, and how it is read.

mod batches;
mod every_store;
mod over_http;
mod page_of_keys;
mod roll_up;
mod secrets;
mod store;
