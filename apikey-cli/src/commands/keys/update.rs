//! `apikey keys update`.

use apikey_runtime::manager::UpdateKey;

use super::row;
use crate::args::{Expiry, UpdateArguments};
use crate::commands::change::{self, made};
use crate::exit;
use crate::failure::Failure;
use crate::propagation;
use crate::session::Session;

pub(super) async fn run(session: &Session, arguments: UpdateArguments) -> Result<(), Failure> {
    let confirmed = arguments.change.confirmed;
    let (id, dry_run) = (arguments.id, arguments.dry_run);
    let (call, is_change) = call(session, arguments)?;
    if !is_change {
        return Err(
            Failure::with_code(exit::USAGE, "the command changes nothing")
                .remedy("add what is to be changed, such as `--label TEXT`; `apikey keys update --help` lists the fields"),
        );
    }
    if dry_run {
        let record = call.preview().await?;
        let used = session.manager.last_used(id).await?;
        let row = row::of(&session.manager, &record, used.as_ref());
        return change::show_preview(session, &row::CHANGED, row.and(change::cells(None)));
    }
    let made = made!(call, confirmed);
    let (record, propagation) = made.map_err(|failure| failure.unsure_of_change(id))?;
    let used = session.manager.last_used(id).await;
    let used = used.map_err(|error| Failure::from(error).after(change::MADE))?;
    let row = row::of(&session.manager, &record, used.as_ref());
    let row = row.and(change::cells(propagation.as_ref()));
    if let Some(propagation) = &propagation {
        propagation::report(propagation);
    }
    let written = session.output.one(&row::CHANGED, row);
    written.map_err(|failure| failure.after(change::MADE))
}

/// Returns the call, and whether it changes anything.
fn call(session: &Session, arguments: UpdateArguments) -> Result<(UpdateKey, bool), Failure> {
    let UpdateArguments {
        id,
        label,
        fields,
        cleared,
        if_version,
        change,
        ..
    } = arguments;
    let now = session.now();
    let origin = session.origin(change.reason.as_deref());
    let mut call = session.manager.update(id).origin(origin);
    if let Some(version) = if_version {
        call = call.if_version(version);
    }
    let mut is_change = false;
    let mut set = |wanted: bool| {
        is_change |= wanted;
        wanted
    };
    if let Some(label) = label.filter(|_| set(true)) {
        call = call.label(label);
    }
    if set(fields.owner.is_some() || cleared.no_owner) {
        call = call.owner::<String>(fields.owner);
    }
    if set(fields.description.is_some() || cleared.no_description) {
        call = call.description::<String>(fields.description);
    }
    if set(fields.environment.is_some() || cleared.no_environment) {
        call = call.environment::<String>(fields.environment);
    }
    if set(!fields.scope.is_empty() || cleared.no_scopes) {
        call = call.scopes(&fields.scope);
    }
    if set(!fields.network.is_empty() || cleared.no_networks) {
        call = call.networks(fields.network);
    }
    if set(!fields.method.is_empty() || cleared.no_methods) {
        call = call.methods(fields.method);
    }
    let limits: Vec<_> = fields.rate.into_iter().chain(fields.quota).collect();
    if set(!limits.is_empty() || cleared.no_limits) {
        call = call.limits(limits);
    }
    if let Some(metadata) = fields.metadata.filter(|_| set(true)) {
        call = call.metadata(metadata);
    }
    if let Some(expires) = fields.expires.filter(|_| set(true)) {
        call = match expires {
            Expiry::Never => call.never_expires(),
            Expiry::At(at) => call.expires_at(at.after(now)?),
        };
    }
    if set(fields.not_before.is_some() || cleared.no_not_before) {
        let begin = fields.not_before.map(|begin| begin.after(now));
        call = call.not_before(begin.transpose()?);
    }
    Ok((call, is_change))
}
