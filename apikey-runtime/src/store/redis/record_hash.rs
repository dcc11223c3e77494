//! A record as a hash.

use std::collections::HashMap;

use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::key::KeyId;
use crate::limit::Limit;
use crate::record::{KeyPatch, KeyRecord, OwnerState, PreviousDigest, Revocation};
use crate::scope::Scopes;
use crate::store::columns::{
    Broken, limits, limits_text, metadata, metadata_text, networks, refused, split, words,
};

/// Redis keeps a small hash in a third of the memory as long as no value is longer than this
/// (`hash-max-listpack-value`). A digest is, and so are two limits; their ends are fields of their own.
const SHORT: usize = 64;

/// Fields to set and to clear. A value that a record does not have has no field.
#[derive(Debug, Default)]
pub(super) struct RecordFields {
    pub(super) set: Vec<(&'static str, Vec<u8>)>,
    pub(super) clear: Vec<&'static str>,
}

impl RecordFields {
    /// All fields of `record`.
    pub(super) fn of_record(record: &KeyRecord) -> Result<Self, StoreError> {
        let version = i64::try_from(record.version)
            .map_err(|error| refused("a version above 2^63 - 1 cannot be kept", error))?;
        let mut fields = Self::default();
        fields.put("prefix", Some(record.prefix.as_str()));
        fields.put("label", Some(record.label.as_str()));
        fields.put("description", record.description.as_deref());
        fields.put("owner", record.owner.as_deref());
        fields.put_long(["digest", "digest_end"], Some(&record.digest));
        fields.put_previous(record.previous.as_ref());
        fields.put_list("scopes", record.scopes.to_string());
        fields.put_list("metadata", metadata_field(&record.metadata)?);
        fields.put("environment", record.environment.as_deref());
        fields.put_list("networks", words(&record.networks));
        fields.put_list("methods", words(&record.methods));
        fields.put_limits(&record.limits)?;
        fields.put_time("created_at", Some(record.created));
        fields.put_time("expires_at", record.expires);
        fields.put_time("not_before", record.not_before);
        let revoked = record.revoked.as_ref();
        fields.put_time("revoked_at", revoked.map(|revocation| revocation.at));
        let reason = revoked.and_then(|revocation| revocation.reason.as_deref());
        fields.put("revoked_reason", reason);
        fields.put("enabled", Some(flag(record.enabled)));
        fields.put_time("enabled_at", record.enabled_at);
        fields.put("version", Some(version.to_string()));
        fields.put("created_by", record.created_by.as_deref());
        fields.put("updated_by", record.updated_by.as_deref());
        let rotations = Some(record.rotations).filter(|rotations| *rotations > 0);
        fields.put("rotations", rotations.map(|number| number.to_string()));
        Ok(fields)
    }

    /// The fields that `patch` names, and who makes the change.
    pub(super) fn of_patch(patch: &KeyPatch, actor: Option<&str>) -> Result<Self, StoreError> {
        let mut fields = Self::default();
        fields.put("updated_by", actor);
        if let Some(description) = &patch.description {
            fields.put("description", description.as_deref());
        }
        if let Some(label) = &patch.label {
            fields.put("label", Some(label.as_str()));
        }
        if let Some(owner) = &patch.owner {
            fields.put("owner", owner.as_deref());
        }
        if let Some(scopes) = &patch.scopes {
            fields.put_list("scopes", scopes.to_string());
        }
        if let Some(metadata) = &patch.metadata {
            fields.put_list("metadata", metadata_field(metadata)?);
        }
        if let Some(environment) = &patch.environment {
            fields.put("environment", environment.as_deref());
        }
        if let Some(networks) = &patch.networks {
            fields.put_list("networks", words(networks));
        }
        if let Some(methods) = &patch.methods {
            fields.put_list("methods", words(methods));
        }
        if let Some(limits) = &patch.limits {
            fields.put_limits(limits)?;
        }
        if let Some(expires) = patch.expires {
            fields.put_time("expires_at", expires);
        }
        if let Some(not_before) = patch.not_before {
            fields.put_time("not_before", not_before);
        }
        if let Some(enabled) = patch.enabled {
            fields.put("enabled", Some(flag(enabled)));
        }
        if let Some(enabled_at) = patch.enabled_at {
            fields.put_time("enabled_at", Some(enabled_at));
        }
        if let Some(digest) = &patch.digest {
            fields.put_long(["digest", "digest_end"], Some(digest));
        }
        if let Some(previous) = &patch.previous {
            fields.put_previous(previous.as_ref());
        }
        Ok(fields)
    }

    fn put(&mut self, name: &'static str, value: Option<impl Into<Vec<u8>>>) {
        match value {
            Some(value) => self.set.push((name, value.into())),
            None => self.clear.push(name),
        }
    }

    /// An empty list has no field.
    fn put_list(&mut self, name: &'static str, value: String) {
        self.put(name, Some(value).filter(|value| !value.is_empty()));
    }

    fn put_limits(&mut self, limits: &[Limit]) -> Result<(), StoreError> {
        let text = match limits {
            [] => None,
            limits => Some(limits_text(limits)?),
        };
        self.put_long(["limits", "limits_end"], text.as_deref());
        Ok(())
    }

    fn put_time(&mut self, name: &'static str, time: Option<Timestamp>) {
        self.put(name, time.map(|time| time.as_millis().to_string()));
    }

    fn put_long(&mut self, [name, end_name]: [&'static str; 2], value: Option<&str>) {
        let bytes = value.map(str::as_bytes);
        let (start, end) = match bytes.map(|bytes| bytes.split_at(bytes.len().min(SHORT))) {
            Some((start, end)) => (Some(start), Some(end).filter(|end| !end.is_empty())),
            None => (None, None),
        };
        self.put(name, start);
        self.put(end_name, end);
    }

    fn put_previous(&mut self, previous: Option<&PreviousDigest>) {
        let digest = previous.map(|previous| previous.digest.as_str());
        self.put_long(["previous_digest", "previous_digest_end"], digest);
        self.put_time("previous_until", previous.map(|previous| previous.until));
    }
}

fn flag(on: bool) -> &'static str {
    if on { "1" } else { "0" }
}

fn metadata_field(metadata: &crate::record::Metadata) -> Result<String, StoreError> {
    if metadata.is_empty() {
        return Ok(String::new());
    }
    metadata_text(metadata)
}

/// The fields of a hash.
pub(super) type RecordHash = HashMap<Vec<u8>, Vec<u8>>;

/// The record `id` in `hash`.
pub(super) fn record(id: KeyId, hash: &RecordHash) -> Result<KeyRecord, Broken> {
    read(id, hash).map_err(|reason| Broken {
        id: id.to_string(),
        reason,
    })
}

fn read(id: KeyId, hash: &RecordHash) -> Result<KeyRecord, String> {
    let mut record = KeyRecord::new(
        id,
        needed(hash, "prefix")?,
        needed(hash, "label")?,
        long(hash, ["digest", "digest_end"])?.ok_or("`digest` is missing")?,
        time(hash, "created_at")?.ok_or("`created_at` is missing")?,
    );
    record.description = text(hash, "description")?.map(str::to_owned);
    record.created_by = text(hash, "created_by")?.map(str::to_owned);
    record.updated_by = text(hash, "updated_by")?.map(str::to_owned);
    record.rotations = match text(hash, "rotations")? {
        Some(number) => number
            .parse()
            .map_err(|_quotes_it| "`rotations` is not a whole number")?,
        None => 0,
    };
    record.owner = text(hash, "owner")?.map(str::to_owned);
    if record.owner.is_some() {
        read_owner(&mut record, hash)?;
    }
    record.previous = previous(hash)?;
    record.scopes = Scopes::from_text(text(hash, "scopes")?.unwrap_or_default())
        .map_err(|_quotes_it| "`scopes` are not scopes separated by single spaces")?;
    record.metadata = metadata(text(hash, "metadata")?.unwrap_or("{}"))?;
    record.environment = text(hash, "environment")?.map(str::to_owned);
    record.networks = networks(text(hash, "networks")?.unwrap_or_default())?;
    let methods = text(hash, "methods")?.unwrap_or_default();
    record.methods = split(methods).map(str::to_owned).collect();
    record.limits = match long(hash, ["limits", "limits_end"])? {
        Some(text) => limits(&text)?,
        None => Vec::new(),
    };
    record.expires = time(hash, "expires_at")?;
    record.not_before = time(hash, "not_before")?;
    record.revoked = revoked(hash)?;
    record.enabled = match needed(hash, "enabled")? {
        "1" => true,
        "0" => false,
        _ => return Err("`enabled` is neither 1 nor 0".to_owned()),
    };
    record.enabled_at = time(hash, "enabled_at")?;
    record.version = needed(hash, "version")?
        .parse()
        .map_err(|_quotes_it| "`version` is not a whole number above 0")?;
    Ok(record)
}

/// Reads what the script adds to a record that has an owner.
fn read_owner(record: &mut KeyRecord, hash: &RecordHash) -> Result<(), String> {
    let state = owner_state(needed(hash, "owner_state")?)
        .ok_or("the state of its owner is not `version revocations suspended`")?;
    record.owner_state = Some(state);
    record.owner_revocations = needed(hash, "owner_revocations")?
        .parse()
        .map_err(|_quotes_it| "`owner_revocations` is not a whole number")?;
    Ok(())
}

/// Reads what the hash of owners has for one.
pub(super) fn owner_state(text: &str) -> Option<OwnerState> {
    let mut words = text.split(' ');
    let state = OwnerState::new()
        .with_version(count(words.next()?)?)
        .with_revocations(count(words.next()?)?)
        .with_suspended(match words.next()? {
            "1" => true,
            "0" => false,
            _ => return None,
        });
    words.next().is_none().then_some(state)
}

/// Reads what the scripts take for a number too.
fn count(text: &str) -> Option<u64> {
    let is_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let is_short = text.len() < 19 && (text.len() == 1 || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_digits && is_short)
}

fn previous(hash: &RecordHash) -> Result<Option<PreviousDigest>, String> {
    let digest = long(hash, ["previous_digest", "previous_digest_end"])?;
    match (digest, time(hash, "previous_until")?) {
        (Some(digest), Some(until)) => Ok(Some(PreviousDigest { digest, until })),
        (None, None) => Ok(None),
        _ => Err(
            "one of `previous_digest` and `previous_until` is there without the other".to_owned(),
        ),
    }
}

fn revoked(hash: &RecordHash) -> Result<Option<Revocation>, String> {
    let reason = text(hash, "revoked_reason")?.map(str::to_owned);
    Ok(time(hash, "revoked_at")?.map(|at| Revocation { at, reason }))
}

fn time(hash: &RecordHash, name: &str) -> Result<Option<Timestamp>, String> {
    let read = |text: &str| {
        text.parse()
            .map(Timestamp::from_millis)
            .map_err(|_quotes_it| format!("`{name}` is not a time in milliseconds"))
    };
    text(hash, name)?.map(read).transpose()
}

fn needed<'h>(hash: &'h RecordHash, name: &str) -> Result<&'h str, String> {
    text(hash, name)?.ok_or_else(|| format!("`{name}` is missing"))
}

fn text<'h>(hash: &'h RecordHash, name: &str) -> Result<Option<&'h str>, String> {
    let read = |value: &'h Vec<u8>| {
        std::str::from_utf8(value).map_err(|_quotes_it| format!("`{name}` is not UTF-8"))
    };
    hash.get(name.as_bytes()).map(read).transpose()
}

fn long(hash: &RecordHash, [name, end_name]: [&str; 2]) -> Result<Option<String>, String> {
    let Some(start) = hash.get(name.as_bytes()) else {
        return match hash.get(end_name.as_bytes()) {
            Some(_) => Err(format!("`{name}` is missing before its end")),
            None => Ok(None),
        };
    };
    let end = hash.get(end_name.as_bytes()).map_or(&[][..], Vec::as_slice);
    String::from_utf8([start, end].concat())
        .map(Some)
        .map_err(|_quotes_it| format!("`{name}` is not UTF-8"))
}
