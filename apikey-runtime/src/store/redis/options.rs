//! What a script of a change reads as JSON: the conditions of the change, and where it comes from.

use serde_json::{Map, Value, json};

use crate::audit::ChangeOrigin;
use crate::store::{WriteOptions, fold_label};

/// The conditions and the origin of a change, and folded labels, which a script cannot fold by itself.
#[derive(Debug)]
pub(super) struct ChangeOptions {
    object: Map<String, Value>,
    folds: Map<String, Value>,
}

impl ChangeOptions {
    pub(super) fn new(options: &WriteOptions) -> Self {
        let mut object = Self::of_origin(&options.origin).object;
        let version = options.expected_version.map(|version| version.to_string());
        object.extend(
            [
                ("owner", options.expected_owner.clone().map(Value::from)),
                ("version", version.map(Value::from)),
                ("max", options.max_live_keys.map(Value::from)),
            ]
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?))),
        );
        Self {
            object,
            folds: Map::new(),
        }
    }

    pub(super) fn of_origin(origin: &ChangeOrigin) -> Self {
        let texts = [
            ("actor", origin.actor.clone()),
            ("channel", Some(origin.channel.code().to_owned())),
            ("address", origin.address.map(|address| address.to_string())),
            ("request_id", origin.request_id.clone()),
            ("reason", origin.reason.clone()),
        ];
        let texts = texts
            .into_iter()
            .filter_map(|(name, text)| Some((name.to_owned(), text?.into())));
        let origin = Value::Object(texts.collect());
        Self {
            object: Map::from_iter([("origin".to_owned(), origin)]),
            folds: Map::new(),
        }
    }

    /// Adds the folded form of a label, if a script cannot fold it. The label itself stands in hexadecimal: by hand, it may
    /// be no UTF-8.
    pub(super) fn fold(&mut self, label: &[u8]) {
        if !label.is_ascii() {
            let digits: String = label.iter().map(|byte| format!("{byte:02x}")).collect();
            let folded = fold_label(&String::from_utf8_lossy(label));
            self.folds.insert(digits, folded.into());
        }
    }

    pub(super) fn text(&self) -> String {
        let mut object = self.object.clone();
        object.insert("folds".to_owned(), json!(self.folds));
        Value::Object(object).to_string()
    }
}
