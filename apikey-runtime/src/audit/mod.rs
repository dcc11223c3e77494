//! The audit log: what changed a key or an owner, when, by whom and why.

mod action;
mod entry;
mod format;
mod origin;

pub use action::AuditAction;
pub use entry::{AuditEntry, FieldChange};
pub use format::AuditFormat;
pub use origin::{ChangeChannel, ChangeOrigin};
