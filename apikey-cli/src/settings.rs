//! The server's settings: `ACTIX_API_KEY_*`, or a file, and the peppers of its hasher.

use std::env::VarError;

use apikey_runtime::key::{Pepper, Sha256Hasher};
use apikey_runtime::{Config, ConfigBuilder, KeyRecord, Timestamp};

use crate::args::Common;
use crate::failure::Failure;

/// The variable with the peppers, in the form of the file.
const PEPPERS: &str = "APIKEYS_PEPPERS";

/// Reads the settings of the file, then those of the environment, which precede it.
pub(crate) fn config(common: &Common) -> Result<Config, Failure> {
    let mut builder = match &common.config {
        None => Config::builder(),
        Some(path) => {
            let shown = path.display();
            let text = std::fs::read_to_string(path)
                .map_err(|error| Failure::unread_file("with the settings", path, &error))?;
            serde_json::from_str::<ConfigBuilder>(&text).map_err(|error| {
                Failure::usage(format!("the settings in `{shown}` cannot be used: {error}"))
                    .remedy("the file is a JSON object with the names of the settings, such as {\"prefix\": \"acme\"}")
            })?
        }
    };
    builder = builder.with_env()?;
    if let Some(timeout) = common.timeout {
        builder = builder.store_timeout(timeout).start_timeout(timeout);
    }
    Ok(builder.build()?)
}

/// Returns the hasher with the peppers.
pub(crate) fn hasher(common: &Common) -> Result<Sha256Hasher, Failure> {
    Ok(Sha256Hasher::with_peppers(peppers(common)?)?)
}

/// Returns the peppers of `--pepper-file` or [`PEPPERS`]: one a line, the first for new keys.
pub(crate) fn peppers(common: &Common) -> Result<Vec<Pepper>, Failure> {
    let text = match &common.pepper_file {
        Some(path) => std::fs::read_to_string(path)
            .map_err(|error| Failure::unread_file("with the peppers", path, &error))?,
        None => match std::env::var(PEPPERS) {
            Ok(text) => text,
            Err(VarError::NotPresent) => String::new(),
            Err(VarError::NotUnicode(_)) => return Err(Failure::not_unicode(PEPPERS)),
        },
    };
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let peppers = lines.map(|line| {
        let (id, secret) = line.split_once(':').ok_or_else(|| {
            // The line may be a secret.
            Failure::usage("a line of the peppers has no id")
                .remedy("write a line `id:secret` for each pepper, such as `v1:..`; the first is for new keys")
        })?;
        Ok(Pepper::new(id, secret)?)
    });
    let peppers = peppers.collect::<Result<Vec<_>, Failure>>()?;
    match &common.pepper_file {
        Some(path) if peppers.is_empty() => Err(Failure::usage(format!(
            "the file `{}` has no peppers",
            path.display()
        ))
        .remedy("write a line `id:secret` for each pepper, or leave `--pepper-file` out if the server has none")),
        _ => Ok(peppers),
    }
}

/// Returns the digests of a key: of its secret, and of the one before in its grace. A secret is always denied if its digest is of an
/// unknown pepper.
pub(crate) fn digests(record: &KeyRecord, now: Timestamp) -> impl Iterator<Item = &str> {
    let previous = record.previous.as_ref();
    let previous = previous.filter(|previous| now < previous.until);
    let previous = previous.map(|previous| previous.digest.as_str());
    [record.digest.as_str()].into_iter().chain(previous)
}
