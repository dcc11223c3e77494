//! The server's settings: `ACTIX_API_KEY_*`, or a file, and the peppers of its hasher.

use apikey_runtime::key::{Pepper, Sha256Hasher};
use apikey_runtime::{Config, ConfigBuilder, KeyRecord};

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
            let text = std::fs::read_to_string(path).map_err(|error| {
                Failure::because(format!("the settings in `{shown}` cannot be read"), &error)
            })?;
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

/// Returns the hasher, with the peppers of `--pepper-file` or [`PEPPERS`]: one a line, the first for new keys.
pub(crate) fn hasher(common: &Common) -> Result<Sha256Hasher, Failure> {
    let text = match &common.pepper_file {
        Some(path) => std::fs::read_to_string(path).map_err(|error| {
            let what = format!("the peppers in `{}` cannot be read", path.display());
            Failure::because(what, &error)
        })?,
        None => std::env::var(PEPPERS).unwrap_or_default(),
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
    match peppers.is_empty() {
        true => Ok(Sha256Hasher::new()),
        false => Ok(Sha256Hasher::with_peppers(peppers)?),
    }
}

/// Returns the digests of a key: of its secret, and of the one before. A key with a digest of an unknown pepper is always denied.
pub(crate) fn digests(record: &KeyRecord) -> impl Iterator<Item = &str> {
    let previous = record.previous.as_ref();
    let previous = previous.map(|previous| previous.digest.as_str());
    [record.digest.as_str()].into_iter().chain(previous)
}
