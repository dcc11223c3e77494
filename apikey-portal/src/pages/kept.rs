//! What the store keeps: pages do not tell or offer what it does not.

use apikey_runtime::Error;

use crate::visit::Visit;

/// What a page says that cannot be shown without usage.
pub(super) const NO_USAGE: &str = "The store of this application does not keep when keys are used.";

/// Returns whether the store keeps usage, though it may not answer now.
pub(super) async fn keeps_usage(visit: &Visit) -> bool {
    let read = visit.state.manager.last_used_of(&[]).await;
    !matches!(read, Err(Error::Unsupported(_)))
}

/// Returns whether the store keeps an audit log, though it may not answer now.
pub(super) async fn keeps_audit(visit: &Visit) -> bool {
    let read = visit.state.manager.audit().page_size(1).await;
    !matches!(read, Err(Error::Unsupported(_)))
}
