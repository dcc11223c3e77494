//! Who makes a change: the user and the host, or what `--actor` says.

use apikey_runtime::audit::{ChangeChannel, ChangeOrigin};

/// Returns the origin of the changes of this run, for the audit log.
pub(crate) fn origin(actor: Option<&str>, reason: Option<&str>) -> ChangeOrigin {
    let actor = actor.map_or_else(default_actor, str::to_owned);
    let origin = ChangeOrigin::new()
        .with_actor(actor)
        .with_channel(ChangeChannel::CommandLine);
    match reason {
        Some(reason) => origin.with_reason(reason),
        None => origin,
    }
}

/// Returns `cli:<user>@<host>`.
fn default_actor() -> String {
    let whole = format!("cli:{}@{}", user(), host());
    // The bound of an actor is 256 bytes.
    let mut end = whole.len().min(256);
    while !whole.is_char_boundary(end) {
        end -= 1;
    }
    let fits = |letter: &char| !letter.is_control();
    whole[..end].chars().filter(fits).collect()
}

/// Returns the name of the process's user by the system's list, and not by a variable that each user may set.
#[cfg(unix)]
fn user() -> String {
    let id = rustix::process::getuid().as_raw();
    let listed = std::fs::read_to_string("/etc/passwd")
        .ok()
        .and_then(|list| {
            let mut users = list.lines().map(|line| line.split(':'));
            users.find_map(|mut fields| {
                let name = fields.next()?;
                (fields.nth(1)?.parse() == Ok(id)).then(|| name.to_owned())
            })
        });
    listed
        .or_else(|| std::env::var("USER").ok())
        .unwrap_or_else(|| id.to_string())
}

#[cfg(unix)]
fn host() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

#[cfg(not(unix))]
fn user() -> String {
    std::env::var("USERNAME").unwrap_or_else(|_error| "unknown".to_owned())
}

#[cfg(not(unix))]
fn host() -> String {
    std::env::var("COMPUTERNAME").unwrap_or_else(|_error| "unknown".to_owned())
}
