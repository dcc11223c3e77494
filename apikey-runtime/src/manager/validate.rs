//! The bounds of a key's fields. They are checked before anything is sent to the store.

use std::io::{self, Write};

use ipnet::IpNet;
use serde_json::Value;

use crate::audit::ChangeOrigin;
use crate::clock::Timestamp;
use crate::error::Error;
use crate::record::{KeyPatch, Metadata, depth, dismantle};
use crate::util::network::is_mapped;
use crate::util::text::quote;

/// The maximum length of a label, an owner, a reason and an actor, in bytes.
const MAX_TEXT_LEN: usize = 256;

/// The maximum length of a description, in bytes.
const MAX_DESCRIPTION_LEN: usize = 1_024;

/// The maximum length of an environment, in bytes.
const MAX_ENVIRONMENT_LEN: usize = 32;

/// The maximum size of metadata, in bytes of JSON.
const MAX_METADATA_LEN: usize = 16 * 1024;

/// The maximum depth of metadata: the levels of arrays and objects, with the metadata itself.
const MAX_METADATA_DEPTH: usize = 32;

/// The maximum number of networks of a key. A check compares all of them.
const MAX_NETWORKS: usize = 256;

/// The maximum number of methods of a key.
const MAX_METHODS: usize = 32;

/// The maximum length of a method, in bytes.
const MAX_METHOD_LEN: usize = 32;

/// Checks the fields that `patch` sets, except for its limits.
pub(super) fn check_fields(patch: &KeyPatch) -> Result<(), Error> {
    let label = patch.label.as_deref();
    label.map_or(Ok(()), |label| check_text("label", label))?;
    let owner = patch.owner.as_ref().and_then(Option::as_deref);
    owner.map_or(Ok(()), |owner| check_text("owner", owner))?;
    let description = patch.description.as_ref().and_then(Option::as_deref);
    description.map_or(Ok(()), |description| {
        check_text_within("description", description, MAX_DESCRIPTION_LEN)
    })?;
    let environment = patch.environment.as_ref().and_then(Option::as_deref);
    environment.map_or(Ok(()), check_environment)?;
    patch.metadata.as_ref().map_or(Ok(()), check_metadata_len)?;
    patch.networks.as_deref().map_or(Ok(()), check_networks)?;
    patch.methods.as_deref().map_or(Ok(()), check_methods)
}

/// Rejects a key that could never be used.
pub(super) fn check_span(from: Option<Timestamp>, to: Option<Timestamp>) -> Result<(), Error> {
    match from.zip(to) {
        Some((from, to)) if from >= to => refuse(format!(
            "`not_before` ({from}) is not before the key's expiry ({to}), so it could never be used; write an earlier time"
        )),
        _ => Ok(()),
    }
}

/// Rejects texts that could forge lines in logs and pages, or look like another text. All other
/// characters are data.
pub(super) fn check_text(name: &str, text: &str) -> Result<(), Error> {
    check_text_within(name, text, MAX_TEXT_LEN)
}

fn check_text_within(name: &str, text: &str, max_len: usize) -> Result<(), Error> {
    if text.is_empty() || text.len() > max_len {
        return refuse(format!(
            "the {name} has {} bytes; write 1 to {max_len}",
            text.len()
        ));
    }
    if let Some((at, found)) = text.char_indices().find(|(_, found)| is_misleading(*found)) {
        return refuse(format!(
            "the {name} has U+{:04X} at byte {at}; leave out control characters, and characters that \
             are not seen or change the direction of text",
            u32::from(found)
        ));
    }
    if text.chars().all(is_blank) {
        return refuse(format!(
            "the {name} consists of blanks ({}); write a text that is seen",
            quote(text)
        ));
    }
    Ok(())
}

/// Returns whether a character controls a terminal or how other characters are shown: control
/// characters, separators of lines, marks of direction (Unicode's `Bidi_Control`), and characters
/// that are never seen. Joiners are not among them, since Persian and emoji need them.
fn is_misleading(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// Returns whether a character alone shows nothing: white space, fillers, joiners, and selectors of
/// variations.
fn is_blank(character: char) -> bool {
    character.is_whitespace()
        || matches!(
            character,
            '\u{34f}'
                | '\u{115f}'
                | '\u{1160}'
                | '\u{17b4}'
                | '\u{17b5}'
                | '\u{200c}'
                | '\u{200d}'
                | '\u{2800}'
                | '\u{3164}'
                | '\u{fe00}'..='\u{fe0f}'
                | '\u{ffa0}'
                | '\u{e0100}'..='\u{e01ef}'
        )
}

/// Checks where a change comes from.
pub(super) fn check_origin(origin: &ChangeOrigin) -> Result<(), Error> {
    let actor = origin.actor.as_deref();
    actor.map_or(Ok(()), |actor| check_text("actor of the change", actor))?;
    let reason = origin.reason.as_deref();
    reason.map_or(Ok(()), |reason| check_text("reason for the change", reason))?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    match origin.request_id.as_deref() {
        Some(id) if !(1..=64).contains(&id.len()) || !id.bytes().all(fits) => refuse(format!(
            "the request id {} is not 1 to 64 ASCII letters, digits, `.`, `_` and `-`; write one such as `4bf92f35`",
            quote(id)
        )),
        _ => Ok(()),
    }
}

fn check_environment(environment: &str) -> Result<(), Error> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    let short = (1..=MAX_ENVIRONMENT_LEN).contains(&environment.len());
    if short && environment.bytes().all(fits) {
        return Ok(());
    }
    refuse(format!(
        "the environment {} is not 1 to {MAX_ENVIRONMENT_LEN} ASCII letters, digits, `_` and `-`; write a name \
         such as `live`",
        quote(environment)
    ))
}

/// Returns `metadata` if it is not nested too deeply. Too deep metadata is dropped here: any other
/// use of it could overflow the stack.
pub(super) fn shallow(metadata: Metadata) -> Result<Metadata, Error> {
    let depth = depth(&metadata);
    if depth <= MAX_METADATA_DEPTH {
        return Ok(metadata);
    }
    dismantle(metadata);
    refuse(format!(
        "the metadata is nested {depth} levels deep; nest it at most {MAX_METADATA_DEPTH} levels, with the metadata \
         itself as the first"
    ))
}

/// Returns the metadata with the single member `name`, if `value` is not nested too deeply.
pub(super) fn shallow_member(name: String, value: Value) -> Result<Metadata, Error> {
    shallow(Metadata::from_iter([(name, value)]))
}

/// Checks the size of metadata whose depth was checked.
fn check_metadata_len(metadata: &Metadata) -> Result<(), Error> {
    let mut written = Length(0);
    match serde_json::to_writer(&mut written, metadata) {
        Ok(()) if written.0 <= MAX_METADATA_LEN => Ok(()),
        _ => refuse(format!(
            "the metadata has {} bytes of JSON; write at most {MAX_METADATA_LEN}, and keep the rest in the \
             application's own tables, under the key's id",
            written.0
        )),
    }
}

/// Counts what is written.
struct Length(usize);

impl Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn check_networks(networks: &[IpNet]) -> Result<(), Error> {
    if networks.len() > MAX_NETWORKS {
        return refuse(format!(
            "the key has {} networks; write at most {MAX_NETWORKS}, or larger ones",
            networks.len()
        ));
    }
    match networks.iter().find(|network| is_mapped(network)) {
        Some(network) => refuse(format!(
            "the network {network} is an IPv4 network in IPv6; write it as IPv4, such as `192.0.2.0/24`"
        )),
        None => Ok(()),
    }
}

fn check_methods(methods: &[String]) -> Result<(), Error> {
    if methods.len() > MAX_METHODS {
        return refuse(format!(
            "the key has {} methods; write at most {MAX_METHODS}, or leave them out to permit all",
            methods.len()
        ));
    }
    let fits = |method: &&String| {
        let capital = |byte: u8| byte.is_ascii_uppercase() || byte == b'-';
        (1..=MAX_METHOD_LEN).contains(&method.len()) && method.bytes().all(capital)
    };
    match methods.iter().find(|method| !fits(method)) {
        Some(method) => refuse(format!(
            "the method {} is not 1 to {MAX_METHOD_LEN} capital letters and `-`; write it as in `GET`",
            quote(method)
        )),
        None => Ok(()),
    }
}

fn refuse<T>(message: String) -> Result<T, Error> {
    Err(Error::InvalidArgument(message))
}

#[cfg(test)]
mod tests;
