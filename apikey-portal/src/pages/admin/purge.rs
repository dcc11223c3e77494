//! Removes the records of keys that ended long ago.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::rt::time::timeout;

use super::changes::{done, failed};
use super::owners::{OwnerFilter, page};
use crate::error::PageError;
use crate::fields::SentForm;
use crate::may::may_administer;
use crate::pages::moment::time;
use crate::visit::Visit;

/// How long a request waits for the removal, which continues without it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Removes the records of keys that were revoked or expired before a day.
pub(super) async fn purge(visit: Visit, form: SentForm) -> Result<HttpResponse, PageError> {
    may_administer(&visit.person)?;
    let fields = form.read()?;
    visit.check_token(&fields, "purge", "").await?;
    let written = fields.text("before");
    let before = time(written, false);
    let mut faults = Vec::new();
    match before {
        // The runtime removes keys that expire before any time, a later one too.
        Some(before) if before > visit.now() => faults.push(
            "The day is in the future: keys that work today would be removed. Write an earlier one.",
        ),
        Some(_) => {}
        None => faults.push("The day is not a date; write one such as 2026-01-31."),
    }
    if !fields.is_ticked("sure") {
        faults.push("Tick the box if you want this.");
    }
    let Some(before) = before.filter(|_| faults.is_empty()) else {
        return again(
            &visit,
            written,
            faults.into_iter().map(str::to_owned).collect(),
        )
        .await;
    };
    let call = visit
        .state
        .manager
        .purge(before)
        .origin(visit.origin.clone());
    let told = match timeout(PATIENCE, call).await {
        Ok(Ok(1)) => "The record of 1 key is removed.".to_owned(),
        Ok(Ok(count)) => format!("The records of {count} keys are removed."),
        Ok(Err(error)) => {
            let fault = failed(error, "records are removed")?;
            return again(&visit, written, vec![fault]).await;
        }
        // A call that is dropped continues.
        Err(_elapsed) => {
            "There are many records: they are removed step by step, and it continues now without this page. The audit \
             log has an entry for each."
                .to_owned()
        }
    };
    Ok(done(&visit, "Records of ended keys", &[told], ""))
}

/// Shows the page of owners again, with the day that was written.
async fn again(
    visit: &Visit,
    written: &str,
    faults: Vec<String>,
) -> Result<HttpResponse, PageError> {
    page(visit, &OwnerFilter::default(), written.to_owned(), &faults).await
}
