//! Requirements on every store, with several nodes on it; calls that read many pages of a store.

mod confirm;
mod every_store;
mod paging;
mod shared_secrets;
