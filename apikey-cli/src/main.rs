//! The program `apikey`: manages API keys from a terminal, beside running servers.

#![forbid(unsafe_code)]

mod actor;
mod args;
mod commands;
mod confirm;
mod duration;
mod exit;
mod failure;
mod key_in_arguments;
mod new_secret;
mod notice;
mod output;
mod progress;
mod prompt;
mod propagation;
mod rules;
mod session;
mod settings;
mod store_address;
mod text;

#[cfg(not(any(feature = "sqlite", feature = "postgres", feature = "redis")))]
compile_error!("enable a feature for a store: `sqlite`, `postgres` or `redis`");

fn main() -> std::process::ExitCode {
    match run() {
        Ok(()) => exit::SUCCESS.into(),
        Err(failure) => failure.report(),
    }
}

fn run() -> Result<(), failure::Failure> {
    key_in_arguments::reject()?;
    let arguments = args::Arguments::of_process()?;
    arguments.common.color.apply();
    commands::run(arguments)
}
