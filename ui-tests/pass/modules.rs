//! Runs the cases in `modules/`. One program is linked in the time of one case.

#[path = "modules/cfgs.rs"]
mod cfgs;
#[path = "modules/hygiene.rs"]
mod hygiene;
#[path = "modules/in_an_impl.rs"]
mod in_an_impl;
#[path = "modules/instrument.rs"]
mod instrument;
#[path = "modules/lints_kept.rs"]
mod lints_kept;
#[path = "modules/openapi_lints.rs"]
mod openapi_lints;
#[path = "modules/options.rs"]
mod options;
#[path = "modules/own_api_key.rs"]
mod own_api_key;
#[path = "modules/placement.rs"]
mod placement;
#[path = "modules/signatures.rs"]
mod signatures;
#[path = "modules/strict_lints.rs"]
mod strict_lints;
#[path = "modules/templates.rs"]
mod templates;
#[path = "modules/two_guards.rs"]
mod two_guards;
#[path = "modules/utoipa_above.rs"]
mod utoipa_above;

fn main() {
    cfgs::main();
    hygiene::main();
    in_an_impl::main();
    instrument::main();
    lints_kept::main();
    openapi_lints::main();
    options::main();
    own_api_key::main();
    placement::main();
    signatures::main();
    strict_lints::main();
    templates::main();
    two_guards::main();
    utoipa_above::main();
}
