//! Policies of keys and routes: scopes, networks behind proxies, and time.

mod proxies;
mod scopes;
mod time;
#[cfg(unix)]
mod unix_sockets;
