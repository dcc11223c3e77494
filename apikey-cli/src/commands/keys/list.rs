//! `apikey keys list`.

use apikey_runtime::manager::ListKeys;
use apikey_runtime::{ApiKeyManager, Timestamp};

use super::row;
use crate::args::{Filters, ListArguments};
use crate::failure::Failure;
use crate::notice;
use crate::output::Format;
use crate::progress::Progress;
use crate::session::Session;

/// The rows of a table, unless `--limit` says otherwise.
const TABLE_LIMIT: u64 = 100;

/// The largest page of the store.
const PAGE_SIZE: u32 = 500;

pub(super) async fn run(session: &Session, arguments: ListArguments) -> Result<(), Failure> {
    let default = match session.output.format() {
        Format::Table => TABLE_LIMIT,
        _ => u64::MAX,
    };
    let limit = arguments.limit.unwrap_or(default);
    let mut rows = session.output.rows(row::COLUMNS);
    let mut progress = Progress::new(&session.common, "keys", None);
    let (mut left, mut after, mut has_more) = (limit, None, false);
    while left > 0 {
        let size = PAGE_SIZE.min(u32::try_from(left).unwrap_or(PAGE_SIZE));
        let page = selected(&session.manager, &arguments.filters)?
            .page_size(size)
            .with_usage()
            .after(after)
            .await?;
        for id in &page.unreadable {
            notice::warn(&format!(
                "the record `{id}` cannot be read, and its key is always denied"
            ));
        }
        for record in &page.keys {
            let used = page.last_used.iter().find(|used| used.key == record.id);
            rows.write(row::of(&session.manager, record, used))?;
        }
        left -= page.keys.len() as u64;
        progress.set(limit - left);
        has_more = page.next.is_some();
        after = page.next;
        if !has_more {
            break;
        }
    }
    drop(progress);
    rows.finish()?;
    if has_more && arguments.limit.is_none() {
        notice::note(&format!(
            "these are the first {limit} keys; `--limit 1000` lists more, `--output csv` all"
        ));
    }
    Ok(())
}

/// Returns the call that lists the keys of these filters.
pub(super) fn selected(manager: &ApiKeyManager, filters: &Filters) -> Result<ListKeys, Failure> {
    let (mut call, now) = (manager.list(), manager.now());
    if let Some(owner) = &filters.owner {
        call = call.owner(owner);
    }
    if let Some(label) = &filters.label {
        call = call.label(label);
    }
    if let Some(beginning) = &filters.label_prefix {
        call = call.label_prefix(beginning);
    }
    if let Some(beginning) = &filters.id_prefix {
        call = call.id_prefix(beginning);
    }
    if let Some(state) = filters.state {
        call = call.state(state);
    }
    if let Some(time) = filters.unused_since {
        call = call.unused_since(time.before(now));
    }
    if let Some(time) = filters.expires_before {
        call = call.expires_between(Timestamp::MIN, time.after(now)?);
    }
    Ok(call)
}
