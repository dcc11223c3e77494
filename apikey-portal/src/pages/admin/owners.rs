//! All owners.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use apikey_runtime::manager::ListOwners;
use apikey_runtime::store::{ListedOwner, OwnerPage};
use apikey_runtime::{Error, Timestamp};
use askama::Template;
use serde::Deserialize;

use crate::error::{PageError, html};
use crate::fields::SentQuery;
use crate::may::may_administer;
use crate::pages::frame::Frame;
use crate::pages::kept::keeps_audit;
use crate::pages::moment::DAY;
use crate::visit::Visit;

/// The number of owners of a page.
const PAGE: u32 = 25;

/// The number up to which the live keys of an owner are counted.
const MAX_COUNT: u32 = 1_000;

/// Which owners the page lists. Blanks belong to the names.
#[derive(Debug, Default, Deserialize)]
pub(super) struct OwnerFilter {
    #[serde(default)]
    q: String,
    #[serde(default)]
    after: String,
}

#[derive(Template)]
#[template(path = "owners.html")]
struct OwnerListPage<'a> {
    frame: Frame<'a>,
    filter: &'a OwnerFilter,
    faults: &'a [String],
    /// Whether the store keeps owners.
    is_kept: bool,
    rows: Vec<OwnerRow>,
    unreadable: Vec<String>,
    next: Option<String>,
    /// The day that the form for old records has.
    before: String,
    has_audit: bool,
    purge_token: String,
}

struct OwnerRow {
    name: String,
    suspended: bool,
    revocations: u64,
    live: String,
}

/// Shows a page of owners.
pub(super) async fn show(visit: Visit, filter: SentQuery) -> Result<HttpResponse, PageError> {
    may_administer(&visit.person)?;
    let filter: OwnerFilter = filter.read(visit.state.manager.config())?;
    let before = Timestamp::from_millis(visit.now().as_millis() - 90 * DAY);
    let before = before.to_string().chars().take(10).collect();
    page(&visit, &filter, before, &[]).await
}

/// Answers with a page of owners, and with what the form for old records said.
pub(super) async fn page(
    visit: &Visit,
    filter: &OwnerFilter,
    before: String,
    faults: &[String],
) -> Result<HttpResponse, PageError> {
    let (page, is_kept) = match request(visit, filter).await {
        Ok(page) => (page, true),
        Err(Error::Unsupported(_)) => (OwnerPage::default(), false),
        Err(error) => return Err(error.into()),
    };
    let mut rows = Vec::with_capacity(page.owners.len());
    for owner in page.owners {
        rows.push(OwnerRow::of(visit, owner).await?);
    }
    let page = OwnerListPage {
        frame: Frame::new(&visit.state, Some(&visit.person)),
        filter,
        faults,
        is_kept,
        rows,
        unreadable: page.unreadable,
        next: page.next,
        before,
        has_audit: keeps_audit(visit).await,
        purge_token: visit.token("purge", "").await?,
    };
    let status = match faults.is_empty() {
        true => StatusCode::OK,
        false => StatusCode::UNPROCESSABLE_ENTITY,
    };
    Ok(html(status, &page))
}

fn request(visit: &Visit, filter: &OwnerFilter) -> ListOwners {
    let owners = visit.state.manager.owners().page_size(PAGE);
    let after = Some(filter.after.clone()).filter(|after| !after.is_empty());
    owners.starting_with(&*filter.q).after(after)
}

impl OwnerRow {
    async fn of(visit: &Visit, owner: ListedOwner) -> Result<Self, PageError> {
        let manager = &visit.state.manager;
        let live = match manager.live_keys(&*owner.name, MAX_COUNT).await? {
            MAX_COUNT.. => format!("at least {MAX_COUNT}"),
            live => live.to_string(),
        };
        Ok(Self {
            name: owner.name,
            suspended: owner.state.suspended,
            revocations: owner.state.revocations,
            live,
        })
    }
}
