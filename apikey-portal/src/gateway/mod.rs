//! The endpoints for gateways: this server as the verifier of services in any language.

mod answer;
mod caller;
mod demands_cache;
mod fault_log;
mod form;
mod introspect;
mod mount;
mod query;
mod revoke;
mod rule;
mod state;
mod verify;

pub use mount::Gateway;
pub use rule::GatewayRule;
