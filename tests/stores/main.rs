//! Requirements on every store, with several nodes on it.

mod every_store;
