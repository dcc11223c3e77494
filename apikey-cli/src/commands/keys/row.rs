//! A key as a row.

use std::sync::LazyLock;

use apikey_runtime::usage::LastUsed;
use apikey_runtime::{ApiKeyManager, KeyRecord, KeyState};
use serde_json::Value;

use crate::output::{Cell, Column, Row};

/// The columns of a key. New ones come last.
pub(crate) const COLUMNS: &[Column] = &[
    Column::shown("id").unbroken(),
    Column::shown("label"),
    Column::shown("owner"),
    Column::shown("state").unbroken(),
    Column::shown("scopes"),
    Column::shown("expires").unbroken(),
    Column::detail("prefix"),
    Column::detail("description"),
    Column::detail("environment"),
    Column::detail("networks"),
    Column::detail("methods"),
    Column::detail("limits"),
    Column::detail("metadata"),
    Column::detail("created"),
    Column::detail("created_by"),
    Column::detail("updated_by"),
    Column::detail("not_before"),
    Column::detail("enabled"),
    Column::detail("owner_suspended"),
    Column::detail("revoked"),
    Column::detail("revoked_reason"),
    Column::detail("previous_until"),
    Column::detail("last_used"),
    Column::detail("version"),
];

/// The columns of a key that was changed: which servers have acknowledged it, if that was asked for.
pub(crate) static CHANGED: LazyLock<Vec<Column>> = LazyLock::new(|| {
    let propagation = [Column::detail("acknowledged"), Column::detail("waited_out")];
    COLUMNS.iter().copied().chain(propagation).collect()
});

/// Returns the row of a key.
pub(crate) fn of(manager: &ApiKeyManager, record: &KeyRecord, used: Option<&LastUsed>) -> Row {
    let view = record.view();
    let texts = |list: &mut dyn Iterator<Item = String>| Cell::List(list.collect());
    let cells = vec![
        Cell::from(view.id.as_str()),
        view.label.into(),
        view.owner.into(),
        state_name(manager.state_of(record, used)).into(),
        texts(&mut view.scopes.iter().map(str::to_owned)),
        view.expires.into(),
        view.prefix.into(),
        view.description.into(),
        view.environment.into(),
        texts(&mut view.networks.iter().map(ToString::to_string)),
        view.methods.into(),
        json_or_absent(serde_json::to_value(&view.limits).ok()),
        json_or_absent(Some(Value::Object(view.metadata))),
        view.created.into(),
        view.created_by.into(),
        view.updated_by.into(),
        view.not_before.into(),
        view.enabled.into(),
        view.owner_suspended.into(),
        view.revoked.as_ref().map(|revoked| revoked.at).into(),
        view.revoked.and_then(|revoked| revoked.reason).into(),
        view.previous_until.into(),
        used.map(|used| used.at).into(),
        view.version.into(),
    ];
    Row::new(view.id.as_str(), cells)
}

/// Returns the name of a state, as in JSON.
pub(crate) fn state_name(state: KeyState) -> String {
    match serde_json::to_value(state) {
        Ok(Value::String(name)) => name,
        _ => "unknown".to_owned(),
    }
}

/// An empty list or object stays in JSON, and is shown as `-`.
fn json_or_absent(value: Option<Value>) -> Cell {
    value.map_or(Cell::Absent, Cell::Json)
}
