//! What the API answers with: keys, and how a change was confirmed.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use apikey_runtime::manager::Propagation;
use apikey_runtime::store::LastUsed;
use apikey_runtime::{
    ApiKeyManager, Error, KeyRecord, KeyState, KeyView, Limit, Metadata, NewKey, Scopes, Timestamp,
};
use serde::Serialize;
use serde_json::{Value, json};

use super::caller::Caller;
use super::problem::ApiError;
use super::version::etag;
use crate::error::if_kept;

/// A key as the API shows it. It never has a secret or a digest.
#[derive(Debug, Serialize)]
pub(super) struct KeyJson {
    id: String,
    prefix: String,
    label: String,
    description: Option<String>,
    owner: Option<String>,
    scopes: Scopes,
    environment: Option<String>,
    networks: Value,
    methods: Vec<String>,
    limits: Vec<Limit>,
    metadata: Metadata,
    state: KeyState,
    enabled: bool,
    created_at: Timestamp,
    created_by: Option<String>,
    updated_by: Option<String>,
    not_before: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    revoked_at: Option<Timestamp>,
    revoked_reason: Option<String>,
    /// When the grace of the secret before the last rotation ends.
    previous_secret_until: Option<Timestamp>,
    last_used_at: Option<Timestamp>,
    version: u64,
}

impl KeyJson {
    pub(super) fn of(manager: &ApiKeyManager, record: &KeyRecord, used: Option<&LastUsed>) -> Self {
        let state = manager.state_of(record, used);
        let view: KeyView = record.view();
        let (revoked_at, revoked_reason) = match view.revoked {
            Some(revocation) => (Some(revocation.at), revocation.reason),
            None => (None, None),
        };
        Self {
            id: view.id.to_string(),
            prefix: view.prefix,
            label: view.label,
            description: view.description,
            owner: view.owner,
            scopes: view.scopes,
            environment: view.environment,
            networks: json!(view.networks),
            methods: view.methods,
            limits: view.limits,
            metadata: view.metadata,
            state,
            enabled: view.enabled,
            created_at: view.created,
            created_by: view.created_by,
            updated_by: view.updated_by,
            not_before: view.not_before,
            expires_at: view.expires,
            revoked_at,
            revoked_reason,
            previous_secret_until: view.previous_until,
            last_used_at: used.map(|used| used.at),
            version: view.version,
        }
    }
}

/// Returns the last uses of keys; empty if the store does not keep usage.
pub(super) async fn last_uses(
    manager: &ApiKeyManager,
    records: &[KeyRecord],
) -> Result<Vec<LastUsed>, Error> {
    let ids: Vec<_> = records.iter().map(|record| record.id).collect();
    Ok(if_kept(manager.last_used_of(&ids).await)?.unwrap_or_default())
}

/// Returns a key with its last use.
pub(super) async fn shown(caller: &Caller, record: &KeyRecord) -> Result<KeyJson, ApiError> {
    let manager = caller.manager();
    let used = last_uses(manager, std::slice::from_ref(record)).await?;
    Ok(KeyJson::of(manager, record, used.first()))
}

/// Answers with a key.
pub(super) async fn key(caller: &Caller, record: &KeyRecord) -> Result<HttpResponse, ApiError> {
    Ok(HttpResponse::Ok()
        .insert_header((header::ETAG, etag(record.version)))
        .json(shown(caller, record).await?))
}

/// Answers with a key and its secret.
pub(super) fn secret(caller: &Caller, status: StatusCode, new: &NewKey) -> HttpResponse {
    let record = new.record();
    let location = format!("{}/v1/keys/{}", caller.state.location.base, record.id);
    let mut response = HttpResponse::build(status);
    response
        .insert_header((header::ETAG, etag(record.version)))
        .insert_header((header::CACHE_CONTROL, HeaderValue::from_static("no-store")));
    if status == StatusCode::CREATED {
        response.insert_header((header::LOCATION, location));
    }
    response.json(json!({
        "key": KeyJson::of(caller.manager(), record, None),
        "secret": new.expose_secret(),
    }))
}

/// Returns how a confirmed change reached the other nodes; `null` if it was not to be confirmed.
pub(super) fn confirmation(propagation: Option<&Propagation>) -> Value {
    let Some(propagation) = propagation else {
        return Value::Null;
    };
    let ids = |nodes: &[apikey_runtime::store::NodeId]| -> Vec<String> {
        nodes.iter().map(ToString::to_string).collect()
    };
    json!({
        "acknowledged": ids(&propagation.acknowledged),
        "waited_out": ids(&propagation.waited_out),
        "outlasted": propagation.outlasted,
    })
}
