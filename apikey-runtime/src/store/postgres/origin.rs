//! Telling the triggers where a change comes from.

use serde_json::json;

use crate::audit::ChangeOrigin;

/// Begins a statement whose first part sets [`origin_text`], the parameter of this number, for its transaction. A statement
/// reads a row of `origin` before it changes its first one.
macro_rules! with_origin {
    ($parameter:literal) => {
        concat!(
            "WITH origin AS MATERIALIZED (SELECT set_config('apikey.origin', ",
            $parameter,
            ", TRUE)) "
        )
    };
}
pub(super) use with_origin;

/// Returns the text that the triggers of `migrations/0106_expiry_notices.sql` read: where a change comes from, the number of live
/// keys that an owner may have after it, and that the statement itself says when a key was enabled.
pub(super) fn origin_text(origin: &ChangeOrigin, max_live_keys: Option<u32>) -> String {
    let text = json!({
        "actor": origin.actor,
        "channel": origin.channel.code(),
        "address": origin.address,
        "request_id": origin.request_id,
        "reason": origin.reason,
        "max_live_keys": max_live_keys,
        "sets_enabled_at": true,
    });
    text.to_string()
}
