//! What admins do for all owners.

mod changes;
mod owner;
mod owner_form;
mod owners;
mod purge;
mod revoking;
mod selection;
mod unused;

use actix_web::web;

/// Adds the routes of these pages.
pub(crate) fn routes(app: &mut web::ServiceConfig) {
    app.service(web::resource("/admin").route(super::read(owners::show)))
        .service(web::resource("/admin/owner").route(super::read(owner::show)))
        .service(web::resource("/admin/owner/revoke").route(web::post().to(owner_form::revoke)))
        .service(web::resource("/admin/owner/suspend").route(web::post().to(owner_form::suspend)))
        .service(web::resource("/admin/owner/resume").route(web::post().to(owner_form::resume)))
        .service(web::resource("/admin/keys").route(super::read(selection::show)))
        .service(web::resource("/admin/revoke-selected").route(web::post().to(selection::revoke)))
        .service(
            web::resource("/admin/unused")
                .route(super::read(unused::show))
                .route(web::post().to(unused::revoke)),
        )
        .service(web::resource("/admin/purge").route(web::post().to(purge::purge)));
}
