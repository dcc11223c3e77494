//! What people and scripts see of `apikey`: the program is run beside managers, as servers have them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod audit;
mod beside_servers;
mod dry_runs;
mod hostile_rows;
mod keys_change;
mod keys_create;
mod keys_list;
mod keys_verify;
mod lost_output;
mod on_terminal;
mod opening;
mod owners;
mod program;
mod programs_that_read;
mod rules;
mod scripts;
mod secrets;
mod settings;
mod store_copy;
mod store_copy_grown;
mod store_copy_killed;
mod store_copy_sizes;
mod store_copy_verify;
mod store_migrate;
mod terminal;
