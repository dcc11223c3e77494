//! Pages that do not exist.

use actix_web::HttpResponse;

use crate::error::PageError;
use crate::visit::Visit;

/// Answers for a page that does not exist, as for one that the person may not see.
pub(crate) async fn page(_: Visit) -> Result<HttpResponse, PageError> {
    Err(PageError::NotFound)
}
