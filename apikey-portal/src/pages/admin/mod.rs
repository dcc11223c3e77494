//! What admins do for all owners.

mod changes;
mod owner;
mod owner_form;
mod owners;
mod purge;
mod revoking;
mod selection;
mod unused;

use super::resource::{sent, shown, shown_and_sent};
use actix_web::web;

/// Adds the routes of these pages.
pub(crate) fn routes(app: &mut web::ServiceConfig) {
    app.service(shown("/admin", owners::show))
        .service(shown("/admin/owner", owner::show))
        .service(sent("/admin/owner/revoke", owner_form::revoke))
        .service(sent("/admin/owner/suspend", owner_form::suspend))
        .service(sent("/admin/owner/resume", owner_form::resume))
        .service(shown("/admin/keys", selection::show))
        .service(sent("/admin/revoke-selected", selection::revoke))
        .service(shown_and_sent(
            "/admin/unused",
            unused::show,
            unused::revoke,
        ))
        .service(sent("/admin/purge", purge::purge));
}
