//! The fields of a key in a form: of a new key, and of one that is changed.

use std::collections::BTreeSet;
use std::net::IpAddr;

use apikey_runtime::{Error, KeyRecord, Scopes};
use ipnet::IpNet;

use super::key_end::{self, FieldChoice, KeyEnd};
use crate::error::PageError;
use crate::fields::FormFields;
use crate::visit::Visit;

/// The methods that a form offers. `GET` includes `HEAD`.
const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

/// The fields of a key, as a person typed them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct KeyInput {
    pub(super) label: String,
    pub(super) description: String,
    pub(super) scopes: BTreeSet<String>,
    pub(super) environment: String,
    pub(super) networks: String,
    pub(super) methods: BTreeSet<String>,
    /// A lifetime in seconds, `never`, `date`, or empty: the policy's default, or the present one.
    pub(super) end: String,
    /// The last day, as `2026-12-31`.
    pub(super) date: String,
}

/// The fields of a key, read from what a person typed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct KeyFields {
    pub(crate) label: String,
    pub(crate) description: Option<String>,
    pub(crate) scopes: Scopes,
    pub(crate) environment: Option<String>,
    pub(crate) networks: Vec<IpNet>,
    pub(crate) methods: Vec<String>,
    pub(crate) end: KeyEnd,
}

/// What `key_fields.html` shows, under the name `form`.
#[derive(Debug)]
pub(crate) struct KeyFieldsView {
    pub(super) input: KeyInput,
    pub(super) scopes: Vec<FieldChoice>,
    pub(super) methods: Vec<FieldChoice>,
    pub(super) ends: Vec<FieldChoice>,
    /// Whether the environment can be set: for a new key, and by admins.
    pub(super) has_environment: bool,
    /// The first and the last day that the date may be.
    pub(super) days: (String, Option<String>),
    /// What the policy says of the end.
    pub(super) cap: Option<String>,
}

impl KeyInput {
    /// Returns the fields of a key that exists.
    pub(crate) fn of(record: &KeyRecord) -> Self {
        let networks: Vec<_> = record.networks.iter().map(ToString::to_string).collect();
        Self {
            label: record.label.clone(),
            description: record.description.clone().unwrap_or_default(),
            scopes: record.scopes.iter().map(str::to_owned).collect(),
            environment: record.environment.clone().unwrap_or_default(),
            networks: networks.join("\n"),
            methods: record.methods.iter().cloned().collect(),
            end: String::new(),
            date: String::new(),
        }
    }

    /// Returns the fields that a form has.
    pub(crate) fn read(fields: &FormFields) -> Self {
        let all = |name| fields.texts(name).map(str::to_owned).collect();
        Self {
            label: fields.text("label").to_owned(),
            description: fields.text("description").to_owned(),
            scopes: all("scope"),
            environment: fields.text("environment").to_owned(),
            networks: fields.text("networks").to_owned(),
            methods: all("method"),
            end: fields.text("end").to_owned(),
            date: fields.text("date").to_owned(),
        }
    }

    /// Reads the fields. An edit has the record whose scopes may stay, whatever the catalogue says.
    ///
    /// # Errors
    ///
    /// Returns all faults, as sentences. The runtime checks the bounds of the fields.
    pub(crate) fn parse(
        &self,
        visit: &Visit,
        record: Option<&KeyRecord>,
    ) -> Result<KeyFields, Vec<String>> {
        let mut faults = Vec::new();
        if self.label.is_empty() {
            faults.push("Write a name, such as the program that will use the key.".to_owned());
        }
        let catalogue = &visit.state.catalogue;
        let is_known = |scope: &str| {
            catalogue.contains(scope) || record.is_some_and(|record| record.scopes.contains(scope))
        };
        for scope in self.scopes.iter().filter(|scope| !is_known(scope)) {
            faults.push(format!(
                "The scope {scope} cannot be chosen here. Choose some of the list."
            ));
        }
        let scopes = Scopes::new(&self.scopes).unwrap_or_else(|error| {
            faults.push(sentence(&error));
            Scopes::none()
        });
        let networks = self.read_networks(&mut faults);
        let end = KeyEnd::read(&self.end, &self.date, visit.now()).unwrap_or_else(|fault| {
            faults.push(fault);
            KeyEnd::Unchanged
        });
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(KeyFields {
            label: self.label.clone(),
            description: set(&one_line(&self.description)),
            scopes,
            environment: set(&self.environment),
            networks,
            methods: self.methods.iter().cloned().collect(),
            end,
        })
    }

    fn read_networks(&self, faults: &mut Vec<String>) -> Vec<IpNet> {
        let mut networks = Vec::new();
        let lines = self.networks.lines().map(str::trim);
        for line in lines.filter(|line| !line.is_empty()) {
            let address = line.parse::<IpAddr>().map(IpNet::from);
            match address.or_else(|_not_one_address| line.parse::<IpNet>()) {
                Ok(network) => networks.push(network.trunc()),
                Err(_) => faults.push(format!(
                    "{line} is not a network. Write one per line, such as 192.0.2.0/24 or 2001:db8::/32."
                )),
            }
        }
        networks
    }
}

impl KeyFieldsView {
    /// Shows a form of a new key, or of one that exists.
    pub(crate) fn new(visit: &Visit, record: Option<&KeyRecord>, input: KeyInput) -> Self {
        let policy = visit.state.manager.config().issue_policy();
        let now = visit.now();
        Self {
            scopes: scope_choices(visit, record, &input),
            methods: method_choices(record, &input),
            ends: key_end::end_choices(
                policy,
                record.map(|record| record.expires),
                &input.end,
                now,
            ),
            has_environment: record.is_none() || visit.is_admin(),
            days: key_end::days(policy, now),
            cap: key_end::cap(policy),
            input,
        }
    }

    /// Returns whether a field is filled that the page otherwise folds away.
    pub(super) fn is_restricted(&self) -> bool {
        let input = &self.input;
        let texts = [&input.environment, &input.networks];
        texts.iter().any(|text| !text.is_empty()) || !input.methods.is_empty()
    }
}

/// Returns the scopes of the catalogue and of the record. A scope that the key has may stay or go; another one
/// can be chosen if the person may give it.
fn scope_choices(visit: &Visit, record: Option<&KeyRecord>, input: &KeyInput) -> Vec<FieldChoice> {
    let catalogue = &visit.state.catalogue;
    let has = |scope: &str| record.is_some_and(|record| record.scopes.contains(scope));
    let own = record.map(|record| record.scopes.iter()).into_iter();
    let others = own.flatten().filter(|scope| !catalogue.contains(scope));
    let all = catalogue.iter().chain(others);
    let choice = |scope: &str| FieldChoice {
        value: scope.to_owned(),
        text: scope.to_owned(),
        is_chosen: input.scopes.contains(scope),
        is_allowed: has(scope) || visit.person.may_grant.allows(scope),
    };
    let mut choices: Vec<_> = all.map(choice).collect();
    // Those that can be chosen are first.
    choices.sort_by_key(|choice| !choice.is_allowed);
    choices
}

fn method_choices(record: Option<&KeyRecord>, input: &KeyInput) -> Vec<FieldChoice> {
    let own = record.map_or(&[][..], |record| &record.methods);
    let others = own.iter().map(String::as_str);
    let others = others.filter(|method| !METHODS.contains(method));
    let all = METHODS.into_iter().chain(others);
    all.map(|method| FieldChoice::of(method, method, input.methods.contains(method)))
        .collect()
}

/// Returns a text with its line breaks as blanks: the runtime rejects control characters.
fn one_line(text: &str) -> String {
    text.split(['\r', '\n'])
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

fn set(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

/// Returns the sentence that a form shows for an error of its fields, or the error's page.
///
/// # Errors
///
/// Returns the page of an error that another text in the form would not prevent.
pub(crate) fn fault_of(error: Error) -> Result<String, PageError> {
    match error {
        Error::InvalidArgument(_) | Error::Policy(_) => Ok(sentence(&error)),
        other => Err(other.into()),
    }
}

/// Returns an error's text as a sentence.
fn sentence(error: &Error) -> String {
    let text = error.to_string();
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string());
    format!("{}{}.", first.unwrap_or_default(), letters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_line_by_line_with_all_faults() {
        let input = KeyInput {
            networks: "192.0.2.7\r\n\n 198.51.100.77/24 \n2001:db8::/32\nx\n1.2.3.4/40".to_owned(),
            ..KeyInput::default()
        };
        let mut faults = Vec::new();
        let networks = input.read_networks(&mut faults);
        let texts: Vec<_> = networks.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["192.0.2.7/32", "198.51.100.0/24", "2001:db8::/32"]);
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(faults[1].starts_with("1.2.3.4/40 is not a network."));
    }

    #[test]
    fn an_error_of_a_field_is_a_sentence() {
        let error = Error::InvalidArgument("the label has 0 bytes; write 1 to 256".to_owned());
        assert_eq!(
            fault_of(error),
            Ok("The label has 0 bytes; write 1 to 256.".to_owned())
        );
        let away = fault_of(Error::ShutDown);
        assert_eq!(away, Err(PageError::Unavailable));
        assert_eq!(one_line("a\r\n\n b \nc"), "a b c");
    }
}
