//! Checks of the texts and times of a key.

use ipnet::IpNet;

use crate::clock::Timestamp;
use crate::error::Error;
use crate::util::network::is_mapped;

/// Rejects a key that could never be used.
pub(super) fn check_span(from: Option<Timestamp>, to: Option<Timestamp>) -> Result<(), Error> {
    match from.zip(to) {
        Some((from, to)) if from >= to => Err(Error::InvalidArgument(
            "`not_before` is not before the key's expiry, so it could never be used; write an earlier time".to_owned(),
        )),
        _ => Ok(()),
    }
}

/// Rejects texts that could forge lines in logs and pages: control characters. All other characters
/// are data.
pub(super) fn check_text(name: &str, text: &str) -> Result<(), Error> {
    if text.is_empty() || text.len() > 256 || text.chars().any(char::is_control) {
        return Err(Error::InvalidArgument(format!(
            "the {name} of a key has 1 to 256 bytes and no control characters; write another"
        )));
    }
    Ok(())
}

/// Checks the name of the actor who makes a change.
pub(super) fn check_actor(actor: Option<&str>) -> Result<(), Error> {
    actor.map_or(Ok(()), |actor| check_text("actor of a change", actor))
}

pub(super) fn check_environment(environment: &str) -> Result<(), Error> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if environment.is_empty() || environment.len() > 32 || !environment.bytes().all(fits) {
        return Err(Error::InvalidArgument(
            "an environment has 1 to 32 ASCII letters, digits, `_` and `-`; write a name such as `live`".to_owned(),
        ));
    }
    Ok(())
}

pub(super) fn check_networks(networks: &[IpNet]) -> Result<(), Error> {
    let mapped = |network: &&IpNet| is_mapped(network);
    match networks.iter().find(mapped) {
        Some(network) => Err(Error::InvalidArgument(format!(
            "the network {network} is an IPv4 network in IPv6; write it as IPv4, such as `192.0.2.0/24`"
        ))),
        None => Ok(()),
    }
}

pub(super) fn check_methods(methods: &[String]) -> Result<(), Error> {
    let fits = |method: &String| {
        (1..=32).contains(&method.len())
            && method
                .bytes()
                .all(|byte| byte.is_ascii_uppercase() || byte == b'-')
    };
    match methods.iter().find(|method| !fits(method)) {
        Some(method) => Err(Error::InvalidArgument(format!(
            "{method:?} is not a method; write capital letters, as in `GET`"
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_could_forge_a_line_is_refused() {
        for wrong in ["", "a\nb", "a\0", "a\u{85}", "\u{1b}[31m", &"a".repeat(257)] {
            assert!(check_text("label", wrong).is_err(), "{wrong:?}");
        }
        for right in ["a", "' OR 1=1 --", "%_*{}", "名前", &"a".repeat(256)] {
            assert!(check_text("label", right).is_ok(), "{right:?}");
        }
    }
}
