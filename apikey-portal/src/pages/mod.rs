//! The pages.

mod admin;
mod audit;
mod change;
mod create;
mod edit;
pub(crate) mod frame;
mod health;
mod kept;
mod key;
mod key_end;
mod key_facts;
mod key_form;
mod key_usage;
mod list;
pub(crate) mod missing;
pub(crate) mod moment;
mod pasted;
mod reserved;
pub(crate) mod resource;
mod revoke;
mod rotate;
mod route_list;
mod secret;
pub(crate) mod text;

use actix_web::web;

/// Adds the routes of the pages.
pub(crate) fn routes(app: &mut web::ServiceConfig) {
    app.configure(list::routes)
        .configure(create::routes)
        .configure(rotate::routes)
        .configure(revoke::routes)
        .configure(edit::routes)
        .configure(key::routes)
        .configure(admin::routes)
        .configure(audit::routes)
        .configure(route_list::routes)
        .configure(health::routes);
}

/// What a person without owners reads.
pub(crate) const NO_OWNER: &str = "You do not have keys here. Ask an administrator for access.";
