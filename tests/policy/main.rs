//! Policies of keys and routes: rules for issuing, scopes, networks behind proxies, and time.

mod issue;
mod proxies;
mod scopes;
mod time;
#[cfg(unix)]
mod unix_sockets;
