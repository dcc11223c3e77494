//! The calls that create, list, change, revoke and purge keys.

mod bulk;
mod create;
mod enable;
mod end_grace;
mod get;
mod list;
mod purge;
mod revoke;
mod revoke_presented;
mod rotate;
mod rules;
mod selection;
mod state;
mod update;

pub(super) use bulk::BulkChange;
pub use create::CreateKey;
pub use enable::SetKeyEnabled;
pub use end_grace::EndGrace;
pub use get::GetKey;
pub use list::{KeyPage, ListKeys};
pub use purge::PurgeKeys;
pub use revoke::RevokeKey;
pub(super) use revoke::revocation;
pub use revoke_presented::{PresentedRevocation, RevokePresented};
pub use rotate::RotateKey;
pub use update::UpdateKey;

/// How often a change is tried if other writers change the record first.
const TRIES: usize = 8;
