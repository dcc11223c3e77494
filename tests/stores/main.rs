//! What has to hold on every store, with several nodes on it.

mod every_store;
